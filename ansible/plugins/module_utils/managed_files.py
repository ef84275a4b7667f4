"""Bring files and folders to a declared state: compare first, then replace each as a whole or not at all."""

import grp
import os
import pwd
import shutil
import stat
import tempfile
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# The keys of an entry, as an argument_spec. The module C(managed_files) documents them.
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "state": {
        "type": "str",
        "choices": ["file", "directory", "absent", "absent_if_empty"],
        "default": "file",
    },
    "content": {"type": "str", "default": ""},
    "secret": {"type": "str", "no_log": True},
    "base64": {"type": "str"},
    "mode": {"type": "str"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "validate": {"type": "list", "elements": "str"},
    "triggers_restart": {"type": "bool", "default": True},
}
Entry = dict[str, Any]
Run = Callable[[list[str]], tuple[int, str, str]]


class FileError(Exception):
    """A file could not be written; the message names the file and the reason."""


def entry(**options: object) -> Entry:
    """Return a complete entry: the defaults of OPTIONS, overridden by ``options``."""
    return {name: option.get("default") for name, option in OPTIONS.items()} | options


def content(item: Entry) -> bytes:
    """Return what a file must hold, whether it may be shown or not."""
    if item["base64"] is not None:
        return b64decode(item["base64"])
    return str(item["content"] if item["secret"] is None else item["secret"]).encode()


@dataclass
class Files:
    """Applies entries one by one.

    ``changes`` collects the paths that differed, ``diff`` the text for Ansible's --diff, ``created_folders``
    the topmost folders that did not exist before. Without ``write`` nothing is touched (check mode).
    """

    write: bool
    run: Run
    changes: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    created_folders: list[str] = field(default_factory=list)

    def ensure(self, item: Entry) -> bool:
        """Apply one entry; return whether it changed (or without ``write`` would change) anything.

        Raises FileError.
        """
        states = {
            "file": self._file, "directory": self._directory, "absent": self._absent,
            "absent_if_empty": self._absent_if_empty,
        }  # fmt: skip
        path = Path(item["path"])
        try:
            changed = states[item["state"]](path, item)
        except OSError as error:
            raise FileError(f"{path}: {error.strerror or error}") from error
        if changed:
            self.changes.append(str(path))
        return changed

    def _file(self, path: Path, item: Entry) -> bool:
        desired = content(item)
        current = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        if current == desired and self._has_owner_and_mode(path, item, 0o644):
            return False
        self._add_diff(path, current, desired, secret=item["secret"] is not None)
        if self.write:
            self._replace(path, item, desired)
        return True

    def _replace(self, path: Path, item: Entry, desired: bytes) -> None:
        """Write a temporary file, validate it, then rename it: a reader sees the old file or the new one."""
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}."
        )  # created with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(desired)
                stream.flush()
                os.fsync(stream.fileno())
            self._set_owner_and_mode(Path(name), item, 0o644)
            self._validate(name, item)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _validate(self, name: str, item: Entry) -> None:
        if item["validate"]:
            code, output, errors = self.run([word.replace("%s", name) for word in item["validate"]])
            if code:
                raise FileError(
                    f"{item['path']}: invalid new content; the old file was kept: {errors or output}"
                )

    def _directory(self, path: Path, item: Entry) -> bool:
        if path.is_dir() and self._has_owner_and_mode(path, item, 0o755):
            return False
        if not path.exists():
            missing = [parent for parent in path.parents if not parent.exists()]
            self.created_folders.append(str(missing[-1] if missing else path))
        if self.write:
            path.mkdir(parents=True, exist_ok=True)
            self._set_owner_and_mode(path, item, 0o755)
        return True

    def _absent(self, path: Path, _item: Entry) -> bool:
        if not path.is_symlink() and not path.exists():
            return False
        if self.write and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif self.write:
            path.unlink()
        return True

    def _absent_if_empty(self, path: Path, _item: Entry) -> bool:
        if not path.is_dir() or any(path.iterdir()):
            return False
        if self.write:
            path.rmdir()
        return True

    def _has_owner_and_mode(self, path: Path, item: Entry, mode: int) -> bool:
        status = path.stat()
        try:
            user, group = _ids(item)
        except KeyError:  # a user that check mode has not created
            return False
        return (
            status.st_uid == user
            and group in {-1, status.st_gid}
            and stat.S_IMODE(status.st_mode) == _mode(item, mode)
        )

    def _set_owner_and_mode(self, path: Path, item: Entry, mode: int) -> None:
        try:
            user, group = _ids(item)
        except KeyError as error:
            missing = error.args[0].split(":")[-1].strip()
            raise FileError(f"{item['path']}: the user or group {missing} does not exist") from error
        os.chown(path, user, group)
        path.chmod(_mode(item, mode))

    def _add_diff(self, path: Path, current: bytes | None, desired: bytes, *, secret: bool) -> None:
        before, after = (current or b"").decode(errors="replace"), desired.decode(errors="replace")
        if secret:
            before, after = "(secret)\n" if current else "", "(another secret)\n"
        self.diff.append(
            {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
        )


def _ids(item: Entry) -> tuple[int, int]:
    """Return the uid and gid of an entry; by default those of the caller, whose group counts only for root.

    -1 leaves a group as it is. Raises KeyError for a name that the host does not have.
    """
    user = os.geteuid() if item["owner"] is None else pwd.getpwnam(item["owner"]).pw_uid
    if item["group"] is not None:
        return user, grp.getgrnam(item["group"]).gr_gid
    return user, 0 if os.geteuid() == 0 else -1


def _mode(item: Entry, default: int) -> int:
    return int(item["mode"], 8) if item["mode"] else default
