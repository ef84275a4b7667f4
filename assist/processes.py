"""The processes of this clone, as supervisor and the kernel see them."""

import time
import xmlrpc.client
from dataclasses import dataclass
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from assist.layout import Layout

# A little more than the two graceful stops that supervisor waits for, one after the other.
_STOP_S = 120.0


@dataclass(frozen=True)
class Program:
    """One program under supervisor; ``state`` is supervisor's word, such as RUNNING, STARTING, BACKOFF or FATAL."""

    name: str
    state: str
    pid: int
    reason: str


def programs(layout: Layout) -> list[Program] | None:
    """Return the programs' states, or ``None`` when supervisord does not run."""
    try:
        rows: Any = _supervisor(layout).getAllProcessInfo()
    except (OSError, xmlrpc.client.Error):
        return None
    return [Program(row["name"], row["statename"], row["pid"], row["spawnerr"]) for row in rows]


def own(layout: Layout) -> list[psutil.Process]:
    """Return every process that this clone's supervisord started, alive or orphaned, and supervisord itself.

    Supervisor marks its children with the address of its socket; that is how an orphan is still known.
    """
    mark, config = f"unix://{layout.socket}", str(layout.supervisor_config)
    return [process for process in psutil.process_iter() if _is_own(process, mark, config)]


def _is_own(process: psutil.Process, mark: str, config: str) -> bool:
    try:
        return process.environ().get("SUPERVISOR_SERVER_URL") == mark or config in process.cmdline()
    except psutil.Error:
        return False


def stop(layout: Layout) -> list[str]:
    """Stop everything, the gateway first, and return what had to be killed. Nothing to stop is fine."""
    try:
        _supervisor(layout).shutdown()
    except (OSError, xmlrpc.client.Error):
        pass
    else:
        _wait_for_supervisord(layout)
    left = own(layout)
    for process in left:
        process.terminate()
    _, stubborn = psutil.wait_procs(left, timeout=10)
    for process in stubborn:
        process.kill()
    return [f"{process.pid}" for process in stubborn]


def _wait_for_supervisord(layout: Layout) -> None:
    end = time.monotonic() + _STOP_S
    config = str(layout.supervisor_config)
    while time.monotonic() < end and any(_is_own(process, "", config) for process in psutil.process_iter()):
        time.sleep(0.1)


def running_revision(program: Program) -> str | None:
    """Return the digest that a running program was started with; ``None`` when it can't be read."""
    try:
        return psutil.Process(program.pid).environ().get("ASSIST_REVISION") if program.pid else None
    except psutil.Error:
        return None


def _supervisor(layout: Layout) -> Any:  # noqa: ANN401  -- an XML-RPC proxy has whatever methods the server has
    transport = SupervisorTransport(None, None, f"unix://{layout.socket}")
    return xmlrpc.client.ServerProxy("http://supervisor", transport).supervisor
