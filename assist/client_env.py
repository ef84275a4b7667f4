"""What a client is handed: ``.run/env`` with the address and a key that works."""

import argparse
import os
import shlex
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from assist.paths import Paths
from gateway.auth.keys import KeyFileError, create_key, digest, list_keys


def client_env(layout: Paths) -> dict[str, str]:
    """Return ``ASSIST_URL`` and ``ASSIST_KEY`` as the user has them; empty before the first run."""
    if not layout.client_env.exists():
        return {}
    entries = shlex.split(layout.client_env.read_text(encoding="utf-8"), comments=True)
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def ensure(layout: Paths, url: str, *, write: bool = True) -> bool:
    """Make ``.run/env`` right for ``url``, with a new key only where its key opens nothing.

    Returns whether anything was (or without ``write`` would be) changed. Raises KeyFileError.
    """
    known = client_env(layout)
    usable = _opens(layout.keys, known.get("ASSIST_KEY", ""))
    private = layout.client_env.exists() and layout.client_env.stat().st_mode & 0o077 == 0
    if usable and private and known.get("ASSIST_URL") == url:
        return False
    if write:
        key = known["ASSIST_KEY"] if usable else create_key(layout.keys, "local")[1]
        _write_private(
            layout.client_env, f"export ASSIST_URL={shlex.quote(url)}\nexport ASSIST_KEY={shlex.quote(key)}\n"
        )
    return True


def _opens(keys: Path, secret: str) -> bool:
    now, wanted = datetime.now(UTC), digest(secret)
    return any(key.sha256 == wanted and key.refusal(now) is None for key in list_keys(keys))


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step; it is never readable for others, not for a moment."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def main() -> int:
    """Run ``ensure`` for Ansible and print ``changed`` or ``unchanged``, never the key."""
    parser = argparse.ArgumentParser(prog="python -m assist.client_env", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--home", type=Path, default=Paths().home, help="where the deployment is kept")
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
