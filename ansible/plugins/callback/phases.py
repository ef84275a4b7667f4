"""Ansible callback: time each phase of a run. The word before ``|`` in a task's name is its phase."""

DOCUMENTATION = r"""
name: phases
type: aggregate
author: The ai-assist contributors
short_description: seconds per phase, as JSON
description:
  - Writes C(phases.json) into the folder C(ASSIST_HOME) when a run ends, with the seconds of each phase and
    the counts of the recap.
  - Appends a JSON line to the file C(ASSIST_EVENTS) when a task starts, changes something or fails.
"""

import json
import os
import time
from pathlib import Path

from ansible.executor.stats import AggregateStats
from ansible.executor.task_result import TaskResult
from ansible.playbook.task import Task

# Ansible forks a worker for each task: the lookup `stack` finds in it what is imported here.
import assist.deployment  # noqa: F401  -- see above
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]  -- ansible-core ships no types
    """Adds up wall-clock time by phase, including that of skipped tasks."""

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
        """End the previous phase and begin the task's own."""
        self._switch(self._phase_of(task))
        self._emit({"event": "task", "phase": self._phase, "task": task.get_name().strip()})

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        """Report a change at once."""
        if result._result.get("changed"):
            self._emit({"event": "changed", "phase": self._phase, "task": result.task_name})

    def v2_runner_on_failed(self, result: TaskResult, ignore_errors: bool = False) -> None:
        """Record the message of a failure, which the caller shows without Ansible's wrapping."""
        if not ignore_errors:
            facts = result._result
            # Tasks with secrets set no_log; their result is censored before this method is called.
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
        """Replace the file phases.json."""
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
    """Return the reason from the output of a command that prints JSON lines, as the model loader does."""
    for line in reversed(output.splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "reason" in event:
            return str(event["reason"])
    return None
