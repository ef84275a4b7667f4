"""Google's side, on disk: one JSON document that is changed under a lock and replaced as a whole.

A process that is killed at any moment leaves the document as it was before or after one call, never between.
Operations end by their time, not by the process that began them, as Google's do.
"""

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Body = dict[str, Any]
# The environment variable that names the cloud's folder, for the provider that the engine starts.
VARIABLE = "ASSIST_GCP_CLOUD"
# Keys of a body with this prefix are the cloud's own and never a property.
OWN = "~"
STATUS = f"{OWN}status"


class GoogleError(Exception):
    """Google's answer to a call that it does not do: an HTTP status, a message and a reason."""

    def __init__(self, code: int, message: str, reason: str = "badRequest") -> None:
        super().__init__(f"googleapi: Error {code}: {message}, {reason}")
        self.code, self.message, self.reason = code, message, reason


@dataclass(frozen=True)
class Operation:
    """What Google does after it has answered a call. ``unit``: what takes one operation at a time."""

    verb: str
    kind: str
    id: str
    unit: str
    seconds: float = 0.0
    until: str | None = None
    error: str | None = None


class State:
    """The document during one transaction."""

    def __init__(self, document: dict[str, Any], folder: Path) -> None:
        self.document, self._folder = document, folder

    def all(self, kind: str) -> dict[str, Body]:
        """Return what exists of a type, by id."""
        found: dict[str, Body] = self.document["things"].setdefault(kind, {})
        return found

    def find(self, kind: str, identity: str) -> Body | None:
        """Return the body of one thing, or None."""
        return self.all(kind).get(identity)

    def put(self, kind: str, identity: str, body: Body) -> None:
        """Keep a thing, new or changed."""
        self.all(kind)[identity] = body

    def remove(self, kind: str, identity: str) -> None:
        """Remove a thing, and what is part of it: what has an id under its own."""
        self.all(kind).pop(identity, None)
        for things in self.document["things"].values():
            for part in [one for one in things if one.startswith(f"{identity}/")]:
                del things[part]

    def number(self) -> int:
        """Return a number that no other call gets."""
        self.document["number"] += 1
        return int(self.document["number"])

    def begin(self, operation: Operation) -> str:
        """Start an operation and return its name."""
        name = f"operation-{self.number()}"
        ends = time.time() + operation.seconds
        self.document["operations"][name] = vars(operation) | {"ends": ends}
        return name

    def running(self, unit: str) -> str | None:
        """Return the name of the operation that is under way on a unit, or None."""
        return next((name for name, one in self.document["operations"].items() if one["unit"] == unit), None)

    def ended(self, name: str) -> tuple[bool, str | None]:
        """Return whether an operation has ended, and with which error."""
        return name not in self.document["operations"], self.document["failed"].get(name)

    def settle(self) -> None:
        """End the operations whose time has come."""
        for name, one in list(self.document["operations"].items()):
            if one["until"] and not is_open(self._folder, one["until"]):
                continue
            if one["ends"] <= time.time():
                del self.document["operations"][name]
                self._end(name, one)

    def _end(self, name: str, one: dict[str, Any]) -> None:
        body = self.find(one["kind"], one["id"])
        if one["error"]:
            self.document["failed"][name] = one["error"]
        if body is None:
            return
        if one["verb"] == "delete" and not one["error"]:
            self.remove(one["kind"], one["id"])
        else:
            body[STATUS] = "ERROR" if one["error"] else "RUNNING"


def _nothing() -> dict[str, Any]:
    return {
        "number": 100,
        "things": {},
        "services": [],
        "policies": {},
        "operations": {},
        "failed": {},
        "faults": {"hits": {}, "met": {}, "held": []},
    }


class Cloud:
    """The cloud in a folder; any number of processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def file(self) -> Path:
        """Return the file that holds all that exists."""
        return self.folder / "cloud.json"

    @property
    def log(self) -> Path:
        """Return the file that has a line for each call."""
        return self.folder / "calls.jsonl"

    @contextmanager
    def transaction(self) -> Iterator[State]:
        """Lock the cloud, yield what is in it, and keep it; nothing is kept of a transaction that raises."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.file.read_text(encoding="utf-8") if self.file.exists() else ""
            state = State(json.loads(before) if before else _nothing(), self.folder)
            state.settle()
            yield state
            after = json.dumps(state.document, indent=1)
            if after != before:
                self._replace(after)

    def _replace(self, text: str) -> None:
        handle, part = tempfile.mkstemp(dir=self.folder, prefix="part-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(part).rename(self.file)

    def note(self, method: str, kind: str, name: str, status: int = 200, reason: str = "") -> None:
        """Write one line about a call into the log."""
        line = {"method": method, "type": kind, "name": name, "status": status, "reason": reason}
        with self.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def calls(self) -> list[dict[str, Any]]:
        """Return every call so far, oldest first."""
        lines = self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]


def is_open(folder: Path, gate: str) -> bool:
    """Return whether what waits for a gate may go on."""
    return (folder / f"open-{gate}").exists()


def open_gate(folder: Path, gate: str) -> None:
    """Let go what waits for a gate, now and later."""
    (folder / f"open-{gate}").touch()
