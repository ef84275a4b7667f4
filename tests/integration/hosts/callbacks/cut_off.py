"""Ansible callback for tests: kill a run in the midst of each slow task, and right after each that changed something.

A run that is killed and repeated gets one task further each time; what was cut once is not cut again.
"""

import os
import subprocess
import threading
from pathlib import Path

import psutil
from ansible.executor.task_result import TaskResult
from ansible.playbook.task import Task

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: cut_off
type: aggregate
author: The ai-assist contributors
short_description: kill this run in or after a task that no earlier run was killed in
description:
  - The file C(ASSIST_CUT_RECORD) has the tasks that earlier runs were killed in; this run's is added to it.
"""

# Longer than a task takes that finds nothing to do, shorter than those that install, fetch or start something.
MIDST_S = 1.5


class CallbackModule(CallbackBase):  # type: ignore[misc]  -- ansible-core ships no types
    """Kills its own process, the workers and their ssh clients: none of them gets to clean up."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "cut_off"

    def __init__(self) -> None:
        super().__init__()
        self.record = Path(os.environ["ASSIST_CUT_RECORD"])
        self.known = set(self.record.read_text().splitlines()) if self.record.exists() else set()
        self.timer = threading.Timer(0, lambda: None)
        self.dying = threading.Lock()

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """Wait for the midst of the task, unless it ends before."""
        self.timer.cancel()
        name = task.get_name().strip()
        if name not in self.known:
            self.timer = threading.Timer(MIDST_S, self.cut, [name])
            self.timer.daemon = True
            self.timer.start()

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        """Die before the next task, if this one changed something."""
        name = result._task.get_name().strip()
        if result._result.get("changed") and name not in self.known:
            self.cut(name)

    def v2_playbook_on_stats(self, stats: object) -> None:
        """Let a run that got this far end."""
        self.timer.cancel()

    def cut(self, name: str) -> None:
        """Note the task and kill everything that belongs to this run."""
        if not self.dying.acquire(blocking=False):
            return
        with self.record.open("a", encoding="utf-8") as record:
            record.write(f"{name}\n")
        # By another process and this one first: it would see its workers die, and end in its own way.
        pids = [str(child.pid) for child in psutil.Process().children(recursive=True)]
        subprocess.run(["kill", "-KILL", str(os.getpid()), *pids], check=False)
