"""Runs the playbook and prints its progress."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from assist.paths import Paths
from model_loader.progress import FOLLOWED
from model_loader.sources.fallback import NO_SOURCE

# Ansible refuses to run in a locale that is not UTF-8, or that the machine lacks; every Debian has this one.
UTF8 = {"LC_ALL": "C.UTF-8"}
_WITHOUT_DOWNLOAD = "Without a download: make up STACK=tiny (its model is a toy in this repository)"


@dataclass(frozen=True)
class Run:
    """The result of a run: ``seconds`` by phase, the changes, and each failure's message."""

    succeeded: bool
    seconds: dict[str, float] = field(default_factory=dict)
    changed: int = 0
    changes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def run(
    layout: Paths, variables: dict[str, str], console: Console, *, check: bool = False, tags: str = ""
) -> Run:
    """Run ``ansible/site.yml`` with ``variables`` in its environment.

    ``check`` changes nothing; ``tags`` runs only the tasks with one of them, which are separated by commas.
    """
    log = Path(tempfile.gettempdir()) / f"assist-{os.getpid()}.log" if check else layout.home / "ansible.log"
    layout.home.mkdir(mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="assist-") as work, log.open("w", encoding="utf-8") as output:
        events = Path(work) / "events"
        events.touch()
        environment = {
            **os.environ, **variables, "ASSIST_EVENTS": str(events), FOLLOWED: str(events),
            "ASSIST_HOME": work, "ASSIST_PREFLIGHT_DONE": "true", "ANSIBLE_NOCOLOR": "true", **UTF8,
        }  # fmt: skip
        # Ansible of this very environment, whatever is on PATH.
        command = [
            sys.executable,
            "-m",
            "ansible",
            "playbook",
            "ansible/site.yml",
            *(["--check", "--diff"] if check else []),
            *(["--tags", tags] if tags else []),
        ]
        process = subprocess.Popen(
            command,
            cwd=layout.source,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            close_fds=False,  # the lock of the command, see switch.alone
        )
        try:
            changes = _follow(process, events, console)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        result = _result(Path(work) / "phases.json", process.returncode, changes, log)
    if check:
        log.unlink()
    return result


def _follow(process: "subprocess.Popen[bytes]", events: Path, console: Console) -> list[str]:
    """Print each task until the process ends; return the names of the tasks that changed something."""
    changes: list[str] = []
    finished = threading.Event()
    threading.Thread(target=_announce, args=(process, finished), daemon=True).start()
    with events.open(encoding="utf-8") as stream, console.status("Starting Ansible") as status:
        last = False
        while not last:
            last = finished.wait(0.1)
            for line in stream:
                _show(json.loads(line), changes, status, console)
    return changes


def _announce(process: "subprocess.Popen[bytes]", finished: threading.Event) -> None:
    process.wait()
    finished.set()


def _show(event: dict[str, Any], changes: list[str], status: Status, console: Console) -> None:
    if "task" not in event:
        _show_transfer(event, status, console)
        return
    name = event["task"].rsplit(" : ", 1)[-1]
    if name.startswith("Validating arguments"):
        return
    if event["event"] == "task":
        status.update(f"{name} …")
        if not console.is_terminal:
            console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {name}", highlight=False)
    elif event["event"] == "changed":
        changes.append(name)
        console.print(f"[green]changed[/] {name}", highlight=False)


def _show_transfer(event: dict[str, Any], status: Status, console: Console) -> None:
    """Show what the model loader says: the bytes it has, and the sources it could not use."""
    if event["event"] == "unavailable":
        text = f"{event['source']}: {event['reason']}; trying {event['next']}"
        console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
    elif event["event"] == "progress" and event["total"]:
        done, total, rate = event["bytes"], event["total"], event["bytes_per_second"]
        bar = f"[{'#' * (20 * done // total):<20}]".replace("[", r"\[")
        left = "" if event["seconds_left"] is None else f", {event['seconds_left']:.0f} s left"
        status.update(
            f"Downloading the model {bar} {done / 1e6:.0f} of {total / 1e6:.0f} MB,"
            f" {rate / 1e6:.1f} MB/s{left}"
        )


def _result(timings: Path, code: int, changes: list[str], log: Path) -> Run:
    if not timings.exists():
        return Run(
            succeeded=False, failures=(f"Ansible did not run:\n{log.read_text(encoding='utf-8')[-2000:]}",)
        )
    document = json.loads(timings.read_text(encoding="utf-8"))
    failures = tuple(_told(**failure) for failure in document["failed"])
    return Run(code == 0, document["seconds"], document["changed"], tuple(changes), failures)


def _told(task: str, message: str) -> str:
    return f"{task}: {message} {_WITHOUT_DOWNLOAD}" if NO_SOURCE in message else f"{task}: {message}"
