"""A gate before and after Google: it holds back or refuses the creations of an update, each of them once.

The double answers within milliseconds, so a kill "during a creation" needs one that does not end by itself.
"""

import itertools
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testing.gcp import faults
from testing.gcp.cloud import open_gate
from testing.gcp.double import Double

_GROUP = "gate"
_NUMBERS = itertools.count(1)


@dataclass
class Gate:
    """What has met the gate passes from then on. A creation's name is ``Network gke-dev``: class, name in the program."""

    double: Double
    _name: str = field(default="", init=False)

    def hold(self, *, arrives: bool, always: Mapping[str, object]) -> None:
        """Hold each creation that has not met the gate; ``arrives``: after Google has done it, else before.

        The creations named in ``always`` arrive in any case.
        """
        self._name = f"{_GROUP}-{next(_NUMBERS)}"
        polite = [
            {"type": f"*:{title}", "name": name, "hold": "answer"} for title, name in map(str.split, always)
        ]
        others = {"hold": "answer" if arrives else "call"}
        self._write(*polite, others)

    def refuse(self, message: str) -> None:
        """Answer each creation that has not met the gate as for a quota that is used up."""
        self._write({"refuse": {"code": 403, "message": message, "reason": "quotaExceeded"}})

    def open(self) -> None:
        """Let go what is held; what comes later meets an open gate."""
        open_gate(self.double.cloud.folder, self._name)

    @property
    def held(self) -> list[str]:
        """Return what is held since the last ``hold``, in the order of arrival."""
        with self.double.cloud.transaction() as state:
            listed = state.document["faults"]["held"]
        return [
            f"{one['type'].rpartition(':')[2]} {one['name']}" for one in listed if one["gate"] == self._name
        ]

    @property
    def met(self) -> list[str]:
        """Return every creation that has met the gate."""
        with self.double.cloud.transaction() as state:
            return [one.rpartition(":")[2] for one in state.document["faults"]["met"].get(_GROUP, ())]

    def waits_for(self, process: subprocess.Popen[str]) -> bool:
        """Return True once a creation is held, False once the process ends."""
        while not self.held and process.poll() is None:
            time.sleep(0.02)
        return bool(self.held)

    def _write(self, *given: dict[str, Any]) -> None:
        common = {"method": "Create", "once": True, "group": _GROUP, "gate": self._name}
        faults.write(self.double.cloud, *(common | one for one in given))
