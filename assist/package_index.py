"""Whether packages can be had here, asked as they will be installed: with uv and the user's settings."""

import importlib.util
import os
import subprocess
import tempfile
from types import ModuleType

from assist.paths import Paths


def unreachable(layout: Paths) -> str | None:
    """Return why no package can be had, or ``None`` when the index has what bootstrap.txt locks."""
    environment = {**os.environ, **_pip_settings(layout).uv_environment(os.environ), "UV_HTTP_RETRIES": "1"}
    with tempfile.TemporaryDirectory(prefix="assist-") as target:
        control = layout.python("control")
        options = ["--dry-run", "--no-cache", "--no-deps", "--color=never", "--require-hashes"]
        where = [f"--python={control}", f"--target={target}"]
        wanted = f"--requirement={layout.source / 'requirements' / 'bootstrap.txt'}"
        command = [str(control.with_name("uv")), "pip", "install", *options, *where, wanted]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=60, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    return None if answer.returncode == 0 else " ".join(answer.stderr.split())


def _pip_settings(layout: Paths) -> ModuleType:
    """Load the reader of pip's settings from where Ansible keeps it, because hosts need it there."""
    path = layout.source / "ansible/plugins/module_utils/pip_settings.py"
    spec = importlib.util.spec_from_file_location("pip_settings", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
