"""What goes wrong on purpose. A test writes ``faults.json`` into the cloud's folder; the provider consults it.

The file is a list. Each fault names the calls it is for: ``method`` (Create, Update, Delete, Read, SetIamPolicy),
``type`` and ``name`` (patterns such as ``gcp:container/*`` and ``*-cpu``; the name is the one in the program). It is for
all of them, or with ``nth`` for the n-th alone, or with ``once: true`` for the first of each resource. What it does:

``refuse``: Google answers with an error: ``{"code": 403, "message": ..., "reason": ...}``, or ``"quota"``;
``seconds``: the operation takes so long;
``fail``: the operation ends with an error, such as ``"ZONE_RESOURCE_POOL_EXHAUSTED"``;
``hold``: what waits until the gate ``gate`` is open: ``call`` (Google has nothing yet), ``operation`` or ``answer``;
``exit``: the provider ends like a killed one, ``before`` Google has the call, or ``after`` and without an answer.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from testing.gcp.cloud import Cloud, GoogleError, State, is_open

_QUOTA = {
    "code": 403,
    "message": "Quota 'CPUS' exceeded. Limit: 0.0 in region us-central1",
    "reason": "quotaExceeded",
}
_STEP_S = 0.01


class HeldTooLongError(Exception):
    """A call waited for a gate longer than its time limit."""


@dataclass(frozen=True)
class Effect:
    """What happens to one call; all of it is empty for most."""

    refuse: GoogleError | None = None
    seconds: float | None = None
    fail: str | None = None
    hold: str | None = None
    gate: str = ""
    exit: str | None = None

    def at(self, point: str) -> bool:
        """Return whether something is held at a point of the call: ``call``, ``operation`` or ``answer``."""
        return self.hold == point

    def leave(self, point: str) -> None:
        """End this process at once where the fault says so, as SIGKILL does."""
        if self.exit == point:
            os.kill(os.getpid(), signal.SIGKILL)

    def wait(self, cloud: Cloud, point: str, patience_s: float) -> None:
        """Wait for the gate where the fault holds this point. Raises HeldTooLongError."""
        if self.at(point):
            poll(lambda: is_open(cloud.folder, self.gate), patience_s, f"the gate {self.gate}")


NONE = Effect()


def write(cloud: Cloud, *faults: dict[str, Any]) -> None:
    """Replace the faults of a cloud. Raises ValueError for a key that no fault has."""
    for one in faults:
        if wrong := set(one) - _KEYS:
            raise ValueError(f"a fault has no {', '.join(sorted(wrong))}; it has {', '.join(sorted(_KEYS))}")
    part = cloud.folder / "faults.part"
    part.write_text(json.dumps(faults), encoding="utf-8")
    part.rename(_file(cloud.folder))


def effect(cloud: Cloud, method: str, kind: str, name: str) -> Effect:
    """Return what happens to a call, and count it."""
    if not _file(cloud.folder).exists():
        return NONE
    faults = json.loads(_file(cloud.folder).read_text(encoding="utf-8"))
    with cloud.transaction() as state:
        for number, fault in enumerate(faults):
            if _matches(fault, method, kind, name) and _fires(state, fault, number, f"{kind} {name}"):
                found = _effect(fault)
                if found.hold:
                    state.document["faults"]["held"].append({"type": kind, "name": name, "gate": found.gate})
                return found
    return NONE


def poll(true: Callable[[], bool], patience_s: float, what: str) -> None:
    """Return as soon as it is true. Raises HeldTooLongError with ``what`` after ``patience_s``."""
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise HeldTooLongError(f"timeout while waiting for {what} after {patience_s:g} s")
        time.sleep(_STEP_S)


_KEYS = {
    "method",
    "type",
    "name",
    "nth",
    "once",
    "group",
    "refuse",
    "seconds",
    "fail",
    "hold",
    "gate",
    "exit",
}


def _file(folder: Path) -> Path:
    return folder / "faults.json"


def _matches(fault: dict[str, Any], method: str, kind: str, name: str) -> bool:
    given = (("method", method), ("type", kind), ("name", name))
    return all(fnmatchcase(value, fault.get(key, "*")) for key, value in given)


def _fires(state: State, fault: dict[str, Any], number: int, what: str) -> bool:
    """Return whether a fault is for this call of those that it matches. ``group``: faults that count as one."""
    group = str(fault.get("group", number))
    counts = state.document["faults"]
    counts["hits"][group] = counts["hits"].get(group, 0) + 1
    met = counts["met"].setdefault(group, [])
    new = what not in met
    if new:
        met.append(what)
    if fault.get("once") and not new:
        return False
    return "nth" not in fault or fault["nth"] == counts["hits"][group]


def _effect(fault: dict[str, Any]) -> Effect:
    refuse = fault.get("refuse")
    answer = _QUOTA if refuse == "quota" else refuse
    return Effect(
        refuse=GoogleError(**answer) if answer else None,
        seconds=fault.get("seconds"),
        fail=fault.get("fail"),
        hold=fault.get("hold"),
        gate=fault.get("gate", ""),
        exit=fault.get("exit"),
    )
