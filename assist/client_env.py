"""The file for clients, ``.run/env``: the gateway's address and a valid key."""

import argparse
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

from assist.atomic_write import write_text
from assist.paths import Paths
from gateway.auth.keys import KeyFileError, create_key, digest, list_keys


def client_env(layout: Paths) -> dict[str, str]:
    """Return ``ASSIST_URL`` and ``ASSIST_KEY`` from the file; empty before the first run."""
    if not layout.client_env.exists():
        return {}
    entries = shlex.split(layout.client_env.read_text(encoding="utf-8"), comments=True)
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def ensure(layout: Paths, url: str, *, write: bool = True) -> bool:
    """Write ``.run/env`` for ``url``, with a new key only where the file's key is not valid.

    Keys that other users could read are made private. Return whether anything was changed, or with
    ``write=False`` would be changed. Raises KeyFileError.
    """
    variables = client_env(layout)
    opened = layout.keys.exists() and layout.keys.stat().st_mode & 0o077 != 0
    if opened and write:
        layout.keys.chmod(0o600)
    usable = _is_valid(layout.keys, variables.get("ASSIST_KEY", ""))
    private = layout.client_env.exists() and layout.client_env.stat().st_mode & 0o077 == 0
    if usable and private and variables.get("ASSIST_URL") == url:
        return opened
    if write:
        key = variables["ASSIST_KEY"] if usable else create_key(layout.keys, "local")[1]
        text = f"export ASSIST_URL={shlex.quote(url)}\nexport ASSIST_KEY={shlex.quote(key)}\n"
        write_text(layout.client_env, text, 0o600)
    return True


def _is_valid(keys: Path, secret: str) -> bool:
    now, sha256 = datetime.now(UTC), digest(secret)
    return any(key.sha256 == sha256 and key.refusal(now) is None for key in list_keys(keys))


def main() -> int:
    """Run ``ensure`` for Ansible and print ``changed`` or ``unchanged``, never the key."""
    parser = argparse.ArgumentParser(prog="python -m assist.client_env", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--home", type=Path, default=Paths().home, help="folder of the deployment")
    options = parser.parse_args()
    try:
        layout = Paths(home=options.home)
        if not options.check:
            layout.config.mkdir(mode=0o700, parents=True, exist_ok=True)
        changed = ensure(layout, options.url, write=not options.check)
    except KeyFileError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("changed\n" if changed else "unchanged\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
