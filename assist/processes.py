"""The processes of this clone, from supervisor and from the kernel."""

import configparser
import http.client
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from assist.paths import Paths

# Beyond the stops for which supervisor waits, one after the other.
_STOP_MARGIN_S = 30.0
_STRAY_S = 45.0
_UP = {"RUNNING", "STARTING"}
_START_ORDER = ("triton", "worker", "gateway")
_FAILURES = (OSError, xmlrpc.client.Error, http.client.HTTPException)


@dataclass(frozen=True)
class Program:
    """One program under supervisor; ``state`` is one of supervisor's, such as RUNNING, BACKOFF or FATAL.

    ``since``: when it was started, or ended where it does not run, in seconds since the epoch; 0 for never.
    """

    name: str
    state: str
    pid: int
    reason: str
    since: float = 0.0


def programs(layout: Paths) -> list[Program] | None:
    """Return the programs' states, or None when supervisord does not run."""
    try:
        with _supervisor(layout) as supervisor:
            rows: Any = supervisor.getAllProcessInfo()
    except _FAILURES:
        return None
    return [_program(row) for row in rows]


def _program(row: Any) -> Program:  # noqa: ANN401  -- from XML
    since = float(row["start"] if row["statename"] in _UP else row["stop"] or row["start"])
    return Program(row["name"], row["statename"], row["pid"], row["spawnerr"], since)


def own(layout: Paths) -> list[psutil.Process]:
    """Return every process of this clone's service, orphans too: supervisord and the venvs' programs."""
    venvs = tuple(f"{layout.home}/venvs/{name}/" for name in ("gateway", "serving"))
    return [process for process in psutil.process_iter() if _is_own(_command(process), venvs, layout)]


def _command(process: psutil.Process) -> list[str]:
    """Return a process's command line; empty for a process that has ended or belongs to another user."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _is_own(command: list[str], venvs: tuple[str, ...], layout: Paths) -> bool:
    return command[:1] != [] and (command[0].startswith(venvs) or _is_supervisord(command, layout))


def _is_supervisord(command: list[str], layout: Paths) -> bool:
    return str(layout.supervisor_config) in command and any(part.endswith("/supervisord") for part in command)


def stop(layout: Paths) -> list[str]:
    """Stop every process, the gateway first, and return the pids that had to be killed."""
    try:
        with _supervisor(layout) as supervisor:
            supervisor.shutdown()
    except _FAILURES:
        pass
    else:
        _wait_for_supervisord(layout)
    return end(own(layout), 10)


def _wait_for_supervisord(layout: Paths) -> None:
    config = _configuration(layout)
    stops = sum(config.getfloat(name, "stopwaitsecs", fallback=0.0) for name in config.sections())
    end = time.monotonic() + stops + _STOP_MARGIN_S
    while time.monotonic() < end and any(
        _is_supervisord(_command(process), layout) for process in psutil.process_iter()
    ):
        time.sleep(0.1)


def revisions(layout: Paths) -> dict[str, str | None]:
    """Return the digest that each program runs with; None where its configuration changed after its start."""
    config = _configuration(layout)
    sections = [name for name in config.sections() if name.startswith("program:")]
    digests: dict[str, str | None] = {
        name.removeprefix("program:"): config[name]["environment"].partition("=")[2].strip('"')
        for name in sections
    }
    with _supervisor(layout) as supervisor:
        _added, changed, _removed = supervisor.reloadConfig()[0]  # reads the file; restarts nothing
    return digests | dict.fromkeys(changed)


def _configuration(layout: Paths) -> configparser.RawConfigParser:
    config = configparser.RawConfigParser(strict=False)
    config.read(layout.supervisor_config, encoding="utf-8")
    return config


def strays(layout: Paths) -> list[psutil.Process]:
    """Return this clone's processes that supervisord did not start, such as those of a killed trial."""
    found = own(layout)
    supervised: set[int] = set()
    for process in found:
        if _is_supervisord(_command(process), layout):
            with suppress(psutil.NoSuchProcess):
                supervised |= {process.pid, *(child.pid for child in process.children(recursive=True))}
    return [process for process in found if process.pid not in supervised]


def end_strays(layout: Paths) -> None:
    """Stop ``strays``: gateways first, which finish their requests."""
    for _ in range(2):
        left = strays(layout)
        gateways = [process for process in left if "gateway" in _command(process)]
        end(gateways or left, _STRAY_S)


def end(started: list[psutil.Process], patience_s: float) -> list[str]:
    """Stop processes within ``patience_s`` seconds, and return the pids that had to be killed."""
    for process in started:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, stubborn = psutil.wait_procs(started, timeout=patience_s)
    for process in stubborn:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return [f"{process.pid}" for process in stubborn]


def apply(layout: Paths) -> None:
    """Bring the programs to what the configuration declares now."""
    with _supervisor(layout) as supervisor:
        update(supervisor, lambda _change, action: action())


def update(rpc: Any, do: Callable[[str, Callable[[], object]], object]) -> None:  # noqa: ANN401  -- a proxy
    """Restart the programs whose configuration is not the one they run with, and start stopped ones.

    ``do`` gets each change's name and the function that makes it. Programs stop in the reverse order of their
    start, so that a gateway finishes its requests before its engine ends.
    """
    added, changed, removed = rpc.reloadConfig()[0]
    for name in sorted([*changed, *removed], key=_START_ORDER.index, reverse=True):
        do(f"stop {name}", partial(_replace, rpc, name))
    for name in sorted([*added, *changed], key=_START_ORDER.index):
        do(f"start {name}", partial(rpc.addProcessGroup, name))
    fresh, wait = {*added, *changed, *removed}, False
    for program in rpc.getAllProcessInfo():
        if program["group"] not in fresh and program["statename"] not in _UP:
            name = program["name"]
            do(f"start {name}", partial(rpc.startProcess, name, wait))


def _replace(rpc: Any, name: str) -> None:  # noqa: ANN401  -- a proxy has whatever methods the server has
    rpc.stopProcessGroup(name)
    rpc.removeProcessGroup(name)


@contextmanager
def _supervisor(layout: Paths) -> Iterator[Any]:
    """Yield supervisord's remote procedures; the connection ends with the block."""
    with closing(SupervisorTransport(None, None, f"unix://{layout.socket}")) as transport:
        yield xmlrpc.client.ServerProxy("http://supervisor", transport).supervisor
