"""What a test needs of the machine. Each function skips the test with the cause and the command that would run it."""

import importlib
import os
import shutil
from types import ModuleType
from typing import NoReturn

import pytest

TOOLS = "make test-tools"
AS_ROOT = "sudo make test"
# Mounts and namespaces are refused to the root of most containers.
PRIVILEGED = "make test as root of the machine, or in a container with --privileged"
# Its first step is the environment with everything in requirements/.
PACKAGES = "make test"
ONLINE = "make test where package indexes can be reached"


def skip(cause: str, command: str) -> NoReturn:
    """Skip the running test; ``command`` is what the user runs to have it run."""
    pytest.skip(reason(cause, command))


def reason(cause: str, command: str) -> str:
    """Return a skip's reason as ``testing.levels`` reads it, for ``pytest.mark.skipif``."""
    return f"{cause}; run: {command}"


def program(*names: str, command: str = TOOLS) -> None:
    """Skip unless every program is on PATH."""
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        skip(f"not on PATH: {', '.join(missing)}", command)


def package(name: str) -> ModuleType:
    """Return the imported Python package; skip where it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        skip(f"the Python package {name} is not installed", PACKAGES)


def root(why: str) -> None:
    """Skip unless the tests run as root; ``why`` completes "root alone can"."""
    if os.geteuid() != 0:
        skip(f"root alone can {why}", AS_ROOT)
