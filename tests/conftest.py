"""What all tests share."""

import contextlib
import os
import sys

import pytest
from hypothesis import HealthCheck, settings

from testing import tools

# How long an example takes says more about the machine than about the code.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# The tests start Ansible, Pulumi and the gateway hundreds of times: compiled each time, their modules cost more than
# all the rest.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Ansible wants a locale that is UTF-8, whatever the caller's.
os.environ["LC_ALL"] = "C.UTF-8"

# Engines that `make test-tools` has put into the cache are found by their names, as those on PATH are.
tools.activate()

pytest_plugins = ["testing.instruction_sets", "testing.levels", "testing.servers.triton"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with slow tests first: one that began last would leave the other processes without work."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Let standard input block again: programs share its flags, Node.js changes them, and Ansible then ends at once."""
    with contextlib.suppress(OSError):
        os.set_blocking(0, True)
