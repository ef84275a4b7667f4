"""System users for services: each with a group of its own, no home directory and no login shell."""

import pwd
from collections.abc import Callable

_CREATE = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent"]
_SHELL = "--shell=/usr/sbin/nologin"


class UserError(Exception):
    """A user could not be created or removed; the message holds the command's own output."""


def exists(name: str) -> bool:
    """Return whether the host has a user called ``name``."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def ensure(
    names: list[str], run: Callable[[list[str]], tuple[int, str, str]], *, present: bool, write: bool
) -> list[str]:
    """Create or remove users; return those that changed (or without ``write`` would). Raises UserError."""
    changes = [name for name in names if exists(name) != present]
    for name in changes if write else ():
        command = [*_CREATE, _SHELL, name] if present else ["userdel", name]
        code, output, errors = run(command)
        if code:
            raise UserError(f"{' '.join(command)} failed: {(errors or output).strip()}")
    return changes
