"""Time each phase of a run: the word before ``|`` in a task's name is its phase."""

import json
import os
import time
from pathlib import Path

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import TaskResult
from ansible.playbook.task import Task

# Ansible forks a worker for each task: what is imported here, the lookup `service` finds imported.
import assist.deployment  # noqa: F401  -- see above
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: phases
type: aggregate
author: The ai-assist contributors
short_description: seconds per phase, as JSON
description:
  - Writes C(phases.json) into C(ASSIST_HOME) when a run ends, with seconds per phase and the recap's counts.
  - Appends a JSON line to the file C(ASSIST_EVENTS) as each task starts, changes something or fails.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  -- ansible-core ships no types
    """Adds up wall time by phase; a skipped task costs what it took to skip."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "phases"

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.failures: list[dict[str, str]] = []
        self._phase = "start"
        self._since = time.monotonic()
        self._events = os.environ.get("ASSIST_EVENTS")

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:  # noqa: ARG002  -- Ansible's signature
        """Close the phase before and open the task's own."""
        self._switch(self._phase_of(task))
        self._emit({"event": "task", "phase": self._phase, "task": task.get_name().strip()})

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        """Report a change as it happens."""
        if result._result.get("changed"):
            self._emit({"event": "changed", "phase": self._phase, "task": result.task_name})

    def v2_runner_on_failed(self, result: TaskResult, ignore_errors: bool = False) -> None:
        """Keep the message of a failure, for the caller to show without Ansible's wrapping."""
        if not ignore_errors:
            facts = result._result
            # A secret's task says no_log; its result is censored before it gets here.
            message = str(
                facts.get("stderr")
                or _reason(facts.get("stdout") or "")
                or facts.get("msg")
                or facts.get("censored")
                or "failed"
            )
            self.failures.append({"task": result.task_name, "message": message.strip()})
            self._emit({"event": "failed", **self.failures[-1]})

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Write the file, in one step."""
        self._switch("end")
        totals = {
            name: sum(getattr(stats, name).values()) for name in ("ok", "changed", "failures", "skipped")
        }
        target = Path(os.environ.get("ASSIST_HOME", ".run")) / "phases.json"
        if target.parent.is_dir():
            fresh = target.with_suffix(f".{os.getpid()}")
            fresh.write_text(
                json.dumps({"seconds": self.seconds, "failed": self.failures, **totals}, indent=1) + "\n"
            )
            fresh.replace(target)

    def _switch(self, phase: str) -> None:
        now = time.monotonic()
        self.seconds[self._phase] = round(self.seconds.get(self._phase, 0.0) + now - self._since, 3)
        self._phase, self._since = phase, now

    def _phase_of(self, task: Task) -> str:
        name = task.get_name().removeprefix(f"{task._role} : " if task._role else "")
        return name.split("|", 1)[0].strip().lower() if "|" in name else self._phase

    def _emit(self, event: dict[str, str]) -> None:
        if self._events:
            with Path(self._events).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")


def _reason(output: str) -> str | None:
    """Return why a command failed that speaks in JSON lines, as the model loader does."""
    for line in reversed(output.splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "reason" in event:
            return str(event["reason"])
    return None
