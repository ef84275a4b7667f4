"""Users that services run as, and nobody logs in as: each with its own group, no home and no shell."""

import pwd
from collections.abc import Callable

_MAKE = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir=/nonexistent"]
_SHELL = "--shell=/usr/sbin/nologin"


class UserError(Exception):
    """A user that can't be made or removed; the message holds the command's own words."""


def known(name: str) -> bool:
    """Say whether the host has a user called ``name``."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def ensure(
    names: list[str], run: Callable[[list[str]], tuple[int, str, str]], *, present: bool, write: bool
) -> list[str]:
    """Make users or remove them; return those that were (or without ``write`` would be). Raises UserError."""
    changes = [name for name in names if known(name) != present]
    for name in changes if write else ():
        command = [*_MAKE, _SHELL, name] if present else ["userdel", name]
        code, output, errors = run(command)
        if code:
            raise UserError(f"{' '.join(command)} failed: {(errors or output).strip()}")
    return changes
