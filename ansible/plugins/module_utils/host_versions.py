"""Versions of what a service runs from: the present one is on disk, others are kept whole beside it."""

import base64
import grp
import json
import os
import pwd
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Version = list[dict[str, Any]]


@dataclass(frozen=True)
class Versions:
    """The files that ``patterns`` (absolute globs) match, as versions in ``folder`` under a ``name``.

    ``previous`` is N-1. ``pending`` is the version before a change that is not finished, with the change's
    goal: the ``stack``'s version or the ``previous`` one. Each is one JSON file that is replaced whole, so a
    run that is cut off leaves either the old or the new one.
    """

    folder: Path
    name: str
    patterns: tuple[str, ...]

    @property
    def pending(self) -> Path:
        """Where the version before an unfinished change is."""
        return self.folder / f"{self.name}.pending.json"

    @property
    def previous(self) -> Path:
        """Where N-1 is."""
        return self.folder / f"{self.name}.previous.json"

    def present(self) -> Version:
        """Return the files as they are now, sorted by path."""
        paths = {path for pattern in self.patterns for path in Path("/").glob(pattern.lstrip("/"))}
        return [_entry(path) for path in sorted(paths) if path.is_file() and not path.is_symlink()]

    def keep(self, goal: str, write: bool) -> bool:
        """Keep the present version as pending; one that an unfinished run has left is older and stays."""
        if self.pending.exists():
            return False
        if write:
            _save(self.pending, {"goal": goal, "files": self.present()})
        return True

    def before(self) -> Path:
        """Return the version that a rollback goes to: the one before an unfinished update, else N-1."""
        unfinished = self.pending.exists() and json.loads(self.pending.read_text())["goal"] == "stack"
        return self.pending if unfinished else self.previous

    def restore(self, version: Path, write: bool) -> list[str]:
        """Make the files what ``version`` holds, to the byte; return the paths that differed."""
        wanted = {entry["path"]: entry for entry in json.loads(version.read_text())["files"]}
        now = {entry["path"]: entry for entry in self.present()}
        differing = sorted(path for path in wanted.keys() | now.keys() if wanted.get(path) != now.get(path))
        for path in differing if write else ():
            if path in wanted:
                _put(wanted[path])
            else:
                Path(path).unlink()
        return differing

    def changed(self) -> bool:
        """Say whether what is there differs from the version before the change."""
        return self.pending.exists() and json.loads(self.pending.read_text())["files"] != self.present()

    def done(self, shift: bool) -> None:
        """End a change: what was before becomes N-1, or is dropped where nothing changed on any host."""
        if self.pending.exists():
            self.pending.replace(self.previous) if shift else self.pending.unlink()


def _entry(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {
        "path": str(path),
        "mode": status.st_mode & 0o7777,
        "owner": pwd.getpwuid(status.st_uid).pw_name,
        "group": grp.getgrgid(status.st_gid).gr_name,
        "content": base64.b64encode(path.read_bytes()).decode(),
    }


def _put(entry: dict[str, Any]) -> None:
    def own(descriptor: int) -> None:
        os.fchmod(descriptor, entry["mode"])
        os.fchown(descriptor, pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid)

    _replace(Path(entry["path"]), base64.b64decode(entry["content"]), own)


def _save(path: Path, version: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(
        path, json.dumps(version, indent=1).encode() + b"\n", lambda descriptor: os.fchmod(descriptor, 0o600)
    )


def _replace(path: Path, content: bytes, own: Any) -> None:  # noqa: ANN401  -- a callable; Ansible's Pythons are old
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            own(stream.fileno())
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
