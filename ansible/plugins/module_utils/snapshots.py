"""Snapshots of the files that a service runs from, which restore an earlier version byte for byte."""

import base64
import grp
import json
import os
import pwd
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Version = list[dict[str, Any]]
# The goal of an unfinished change, as it stands in a pending snapshot. Hosts keep snapshots of earlier
# releases, so these words and the names of the files never change.
TO_STACK, TO_PREVIOUS = "stack", "previous"


@dataclass(frozen=True)
class Snapshots:
    """Snapshots, in ``folder`` under ``name``, of the files that ``patterns`` (absolute globs) match.

    ``previous`` is N-1. ``pending`` is the version before an unfinished change, with the goal of that change.
    Each is one JSON file that is replaced as a whole: an interrupted run leaves the old one or the new one.
    """

    folder: Path
    name: str
    patterns: tuple[str, ...]

    @property
    def pending(self) -> Path:
        """The snapshot from before an unfinished change."""
        return self.folder / f"{self.name}.pending.json"

    @property
    def previous(self) -> Path:
        """The snapshot of N-1."""
        return self.folder / f"{self.name}.previous.json"

    def present(self) -> Version:
        """Return the files as they are now, sorted by path."""
        paths = {path for pattern in self.patterns for path in Path("/").glob(pattern.lstrip("/"))}
        return [_entry(path) for path in sorted(paths) if path.is_file() and not path.is_symlink()]

    def save(self, goal: str, write: bool) -> bool:
        """Save the present version as pending; return whether there was none.

        A pending snapshot of an interrupted run is older than what is there now, and is kept.
        """
        if self.pending.exists():
            return False
        if write:
            _save(self.pending, {"goal": goal, "files": self.present()})
        return True

    def rollback_target(self) -> Path:
        """Return the snapshot for a rollback: the one from before an unfinished update, else N-1."""
        unfinished = self.pending.exists() and json.loads(self.pending.read_text())["goal"] == TO_STACK
        return self.pending if unfinished else self.previous

    def units(self, version: Path) -> dict[str, str]:
        """Return the text of each systemd unit of ``version`` by name; none where the version is missing."""
        files = json.loads(version.read_text())["files"] if version.exists() else []
        return {
            Path(entry["path"]).name: base64.b64decode(entry["content"]).decode("utf-8", "replace")
            for entry in files
            if entry["path"].endswith(".service")
        }

    def restore(self, version: Path, write: bool) -> list[str]:
        """Make the files equal to ``version``, to the byte; return the paths that differed."""
        desired = {entry["path"]: entry for entry in json.loads(version.read_text())["files"]}
        current = {entry["path"]: entry for entry in self.present()}
        differing = sorted(
            path for path in desired.keys() | current.keys() if desired.get(path) != current.get(path)
        )
        for path in differing if write else ():
            if path in desired:
                _put(desired[path])
            else:
                Path(path).unlink()
        return differing

    def changed(self) -> bool:
        """Return whether the present version differs from the one before the change."""
        return self.pending.exists() and json.loads(self.pending.read_text())["files"] != self.present()

    def commit(self, shift: bool) -> None:
        """End a change: the version before it becomes N-1, or is dropped if no host changed (``shift``)."""
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
    def prepare(descriptor: int) -> None:
        os.fchmod(descriptor, entry["mode"])
        os.fchown(descriptor, pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid)

    _replace(Path(entry["path"]), base64.b64decode(entry["content"]), prepare)


def _save(path: Path, version: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    _replace(
        path, json.dumps(version, indent=1).encode() + b"\n", lambda descriptor: os.fchmod(descriptor, 0o600)
    )


def _replace(path: Path, content: bytes, prepare: Callable[[int], None]) -> None:
    """Write a temporary file, call ``prepare`` with its descriptor, then rename it over ``path``."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            prepare(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
