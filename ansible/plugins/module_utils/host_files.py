"""Files, folders and links of a host as they are to be: compared first, then replaced whole or not at all."""

import grp
import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What an entry of a module's ``files`` may say. ``secret`` is content that --diff and -vvv don't show.
OPTIONS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "kind": {"type": "str", "choices": ["file", "directory", "link", "absent", "unused"], "default": "file"},
    "content": {"type": "str", "default": ""},
    "secret": {"type": "str", "no_log": True},
    "target": {"type": "path"},
    "mode": {"type": "str"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "validate": {"type": "list", "elements": "str"},
    "live": {"type": "bool", "default": False},
}
DOCUMENTED = """
path, kind (file, directory, link, absent, unused: a folder that goes if it is empty), content or secret
(content that is shown nowhere), target (of a link), mode (0644, 0755 for directories), owner, group,
validate (a command; %s is the new file, before it takes the old one's place), live (a service sees a change
of it by itself, so that none restarts)
"""


def content(entry: dict[str, Any]) -> str:
    """Return what a file is to hold, shown or not."""
    return str(entry["content"] if entry["secret"] is None else entry["secret"])


class FileError(Exception):
    """A file that can't be made; the message says which and why."""


@dataclass
class Files:
    """Brings entries about; ``changes`` are paths that differed, ``diff`` is what Ansible's --diff shows.

    ``made`` are folders that were not there before, each with all that will ever be in it.
    """

    write: bool
    run: Callable[[list[str]], tuple[int, str, str]]
    changes: list[str] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    def ensure(self, entry: dict[str, Any]) -> bool:
        """Make one entry so; return whether it was (or without ``write`` would be) changed.

        Raises FileError.
        """
        kinds = {
            "file": self._file, "directory": self._directory, "link": self._link, "absent": self._absent,
            "unused": self._unused,
        }  # fmt: skip
        path = Path(entry["path"])
        try:
            changed = kinds[entry["kind"]](path, entry)
        except OSError as error:
            raise FileError(f"{path}: {error.strerror or error}") from error
        if changed:
            self.changes.append(str(path))
        return changed

    def _file(self, path: Path, entry: dict[str, Any]) -> bool:
        wanted = content(entry).encode()
        known = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        if known == wanted and self._owned(path, entry, 0o644):
            return False
        self._note(path, known, wanted, secret=entry["secret"] is not None)
        if self.write:
            self._replace(path, entry, wanted)
        return True

    def _replace(self, path: Path, entry: dict[str, Any], wanted: bytes) -> None:
        """Write beside, check, then take the old file's place: a reader sees the old one or the new one."""
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(wanted)
                stream.flush()
                os.fsync(stream.fileno())
            self._give(Path(name), entry, 0o644)
            self._validate(name, entry)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _validate(self, name: str, entry: dict[str, Any]) -> None:
        if entry["validate"]:
            code, output, errors = self.run([word.replace("%s", name) for word in entry["validate"]])
            if code:
                raise FileError(f"{entry['path']} would not work, so it stays as it was: {errors or output}")

    def _directory(self, path: Path, entry: dict[str, Any]) -> bool:
        if path.is_dir() and self._owned(path, entry, 0o755):
            return False
        if not path.exists():
            missing = [parent for parent in path.parents if not parent.exists()]
            self.made.append(str(missing[-1] if missing else path))
        if self.write:
            path.mkdir(parents=True, exist_ok=True)
            self._give(path, entry, 0o755)
        return True

    def _link(self, path: Path, entry: dict[str, Any]) -> bool:
        if path.is_symlink() and str(path.readlink()) == entry["target"]:
            return False
        if self.write:
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            fresh.symlink_to(entry["target"])
            fresh.replace(path)
        return True

    def _absent(self, path: Path, _entry: dict[str, Any]) -> bool:
        if not path.is_symlink() and not path.exists():
            return False
        if self.write and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif self.write:
            path.unlink()
        return True

    def _unused(self, path: Path, _entry: dict[str, Any]) -> bool:
        if not path.is_dir() or any(path.iterdir()):
            return False
        if self.write:
            path.rmdir()
        return True

    def _owned(self, path: Path, entry: dict[str, Any], mode: int) -> bool:
        facts = path.stat()
        try:
            owner = (pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid)
        except KeyError:  # a user that check mode has not made
            return False
        return (facts.st_uid, facts.st_gid) == owner and stat.S_IMODE(facts.st_mode) == _mode(entry, mode)

    def _give(self, path: Path, entry: dict[str, Any], mode: int) -> None:
        try:
            os.chown(path, pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid)
        except KeyError as error:
            raise FileError(f"{entry['path']}: there is no {error.args[0].split(':')[-1].strip()}") from error
        path.chmod(_mode(entry, mode))

    def _note(self, path: Path, known: bytes | None, wanted: bytes, *, secret: bool) -> None:
        before, after = (known or b"").decode(errors="replace"), wanted.decode(errors="replace")
        if secret:
            before, after = "(kept back)\n" if known else "", "(kept back, too)\n"
        self.diff.append(
            {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
        )


def _mode(entry: dict[str, Any], default: int) -> int:
    return int(entry["mode"], 8) if entry["mode"] else default
