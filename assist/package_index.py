"""Tests whether the package index is reachable, with uv and the user's settings, as an installation would."""

import os
import runpy
import subprocess
import tempfile
from collections.abc import Callable, Mapping

from assist.paths import Paths

# Translates the user's pip settings for uv. The file is not a module of this package, because two programs
# that cannot import the package use the same file: Ansible, which copies modules to hosts from its folder
# module_utils alone, and scripts/bootstrap, which runs before anything is installed.
PIP_SETTINGS = "ansible/plugins/module_utils/pip_settings.py"


def unreachable(layout: Paths) -> str | None:
    """Return why no package can be installed, or None when the index has what bootstrap.txt locks."""
    uv_environment: Callable[[Mapping[str, str]], dict[str, str]]
    uv_environment = runpy.run_path(str(layout.source / PIP_SETTINGS))["uv_environment"]
    environment = {**os.environ, **uv_environment(os.environ), "UV_HTTP_RETRIES": "1"}
    with tempfile.TemporaryDirectory(prefix="assist-") as target:
        control = layout.python("control")
        options = ["--dry-run", "--no-cache", "--no-deps", "--color=never", "--require-hashes"]
        where = [f"--python={control}", f"--target={target}"]
        locked = f"--requirement={layout.source / 'requirements' / 'bootstrap.txt'}"
        command = [str(control.with_name("uv")), "pip", "install", *options, *where, locked]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=60, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return None if done.returncode == 0 else " ".join(done.stderr.split())
