"""The checks of the service on this machine; they also work when nothing runs."""

import os
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from assist import causes, processes, snapshot
from assist.deployment import Deployment, current
from assist.doctor import logs, model, service
from assist.findings import Finding, ok
from assist.paths import Paths
from gateway.auth.keys import KeyFileError, list_keys
from stackfile import StackFileError

LOW_DISK_GIB = 1.0
FULL_DISK_MIB = 64
# So many ends in so many seconds are a loop.
_ENDS, _LOOP_S = 2, 300.0
_STATES = {"RUNNING": "runs", "STARTING": "is starting"}
_SUSPENDED = {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}


@dataclass(frozen=True)
class Local:
    """The deployment of this clone. ``quick``: the sizes of the model's files, not their bytes."""

    layout: Paths
    quick: bool = False

    def findings(self) -> list[Finding]:
        """Make every check, changing nothing."""
        try:
            deployment = current(self.layout)
        except (StackFileError, ValueError, KeyError) as error:
            return [_unreadable(error)]
        if deployment is None:
            cause = "the service has not been started here"
            return [Finding("service", "problem", cause, "make up", fault="service-down")]
        running = processes.programs(self.layout)
        found = [
            *_changes(deployment), *_disk(deployment), *_environments(deployment), keys(deployment),
            model.check(deployment, quick=self.quick),
        ]  # fmt: skip
        if running is None:
            return [_down(deployment), *found]
        skew = _skew(deployment)
        found += [*_programs(deployment, running), *skew, *_suspended(deployment, running)]
        if all(one.status == "ok" for one in skew):
            found += _edited(deployment)
        if not any(one.fault == "process-hung" for one in found):
            found += _after_all(service.answers(deployment), running)
        return [*found, *(logs.check(name, self.layout.log / f"{name}.log") for name in deployment.programs)]


def _unreadable(error: Exception) -> Finding:
    cause = f"the stack of the running service can't be read: {error}"
    return Finding("stack", "unknown", cause, "Correct the file, then: make up", fault="stack-unreadable")


def _changes(deployment: Deployment) -> list[Finding]:
    up = deployment.up_command
    return [
        replace(one, remedy=one.remedy.replace("make up", up)) for one in snapshot.findings(deployment.layout)
    ]


def _down(deployment: Deployment) -> Finding:
    if orphans := processes.own(deployment.layout):
        pids = ", ".join(str(process.pid) for process in orphans)
        cause = f"supervisord has ended, but its processes {pids} still run: nothing restarts them"
        return Finding("service", "problem", cause, deployment.up_command, fault="supervisor-lost")
    cause = f"the service is down; no process of {deployment.stack.name} runs"
    return Finding("service", "problem", cause, deployment.up_command, fault="service-down")


def _programs(deployment: Deployment, running: list[processes.Program]) -> list[Finding]:
    by_name = {program.name: program for program in running}
    found = []
    for name in deployment.programs:
        program = by_name.get(name)
        if program is None:
            cause = f"supervisor does not know {name}"
            found.append(_of(name, "process-stopped", cause, deployment.up_command))
        elif program.state in _STATES and not _loops(deployment, name):
            found.append(ok(f"process {name}", f"{name} {_STATES[program.state]} (process {program.pid})"))
        else:
            found.append(_stopped(deployment, program))
    return found


def _loops(deployment: Deployment, program: str) -> bool:
    """Return whether a program that counts as started ends again and again before it serves."""
    log = deployment.layout.log / f"{program}.log"
    ends = causes.crashes(log.with_name("supervisord.log"), program, _LOOP_S)
    return ends >= _ENDS and not causes.serves(log)


def _of(program: str, fault: str, cause: str, remedy: str, since: float = 0.0, evidence: str = "") -> Finding:
    return Finding(
        f"process {program}", "problem", cause, remedy, fault=fault, where=program, since=logs.iso(since),
        evidence=evidence,
    )  # fmt: skip


def _stopped(deployment: Deployment, program: processes.Program) -> Finding:
    up, log = deployment.up_command, deployment.layout.log / f"{program.name}.log"
    if program.state in {"STOPPED", "EXITED"} and not _loops(deployment, program.name):
        cause = f"{program.name} was stopped" if program.state == "STOPPED" else f"{program.name} has ended"
        return _of(program.name, "process-stopped", cause, up, program.since)
    code = causes.ended(log.with_name("supervisord.log"), program.name)
    found = causes.of(log, code=code) or causes.Cause(program.reason, "")
    state = "ends again and again" if _loops(deployment, program.name) else f"is {program.state}"
    text = f"{program.name} {state}{': ' + found.text if found.text else ''}"
    if found.fault == "port-taken" and (holder := _holder(deployment)):
        text = f"{text}: {holder.name()} (process {holder.pid})"
        remedy = f"kill {holder.pid} && {up}  # or choose another port in the stack file"
        return _of(program.name, "port-taken", text, remedy, program.since, found.line)
    # The files of a damaged model are another check's; here it is that the process does not start.
    return _of(program.name, "process-crashing", text, _again(up, found.remedy), program.since, found.line)


def _again(up: str, hint: str) -> str:
    """Return the command that starts again, and what to do first where that alone does not help."""
    return f"{up}  # if it does not help: {hint.replace('make up', up)}" if hint else up


def _holder(deployment: Deployment) -> psutil.Process | None:
    """Return another program that listens on a port of the service, where this user may see it."""
    ports, own = {port for _, port in deployment.ports.values()}, processes.own(deployment.layout)
    listening = {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port in ports
    }
    others = listening - {None} - {process.pid for process in own}
    return next((psutil.Process(pid) for pid in sorted(filter(None, others))), None)


def _skew(deployment: Deployment) -> list[Finding]:
    expected = deployment.facts()["supervisor"]["revisions"]
    running = processes.revisions(deployment.layout)
    return [_version(deployment, name, same=rev == expected[name]) for name, rev in running.items()]


def _version(deployment: Deployment, name: str, *, same: bool) -> Finding:
    if same:
        return ok(f"version {name}", f"{name} runs the current code and settings")
    cause = f"{name} runs older code or settings than this clone's"
    return Finding(
        f"version {name}", "problem", cause, deployment.up_command, fault="version-old", where=name
    )


def _suspended(deployment: Deployment, running: list[processes.Program]) -> list[Finding]:
    """Return the programs with a process that was suspended, as by SIGSTOP or a debugger."""
    stopped = {process.pid for process in processes.own(deployment.layout) if _status(process) in _SUSPENDED}
    found = []
    for program in running:
        family = _family(program.pid)
        if program.state in _STATES and (held := sorted(family & stopped)):
            cause = f"{program.name} is suspended (process {', '.join(map(str, held))}) and answers nothing"
            found.append(_of(program.name, "process-hung", cause, _kill(program)))
    return found


def _status(process: psutil.Process) -> str:
    try:
        return process.status()
    except psutil.Error:
        return ""


def _family(pid: int) -> set[int]:
    try:
        return {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))} if pid else set()
    except psutil.Error:
        return {pid}


def _kill(program: processes.Program) -> str:
    """Return the command that ends a program with its children; supervisor then starts it again."""
    return f"kill -KILL -- -{program.pid}"


def _after_all(answers: list[Finding], running: list[processes.Program]) -> list[Finding]:
    """Name an engine that answers health and not completions: the gateway's deadline passes."""
    triton = next((program for program in running if program.name == "triton"), None)
    last = answers[-1]
    if triton is None or last.fault != "completion-fails" or "returned 504" not in last.cause:
        return answers
    hung = _of("triton", "process-hung", "triton answers its health check, and no completion", _kill(triton))
    return [*answers, hung]


def _environments(deployment: Deployment) -> list[Finding]:
    """Look for the interpreter of each environment: without it nothing starts again."""
    missing = [name for name in deployment.locks if not os.access(deployment.layout.python(name), os.X_OK)]
    if not missing:
        return [ok("environments", f"{', '.join(deployment.locks)} are there")]
    folders = ", ".join(str(deployment.layout.python(name).parents[1]) for name in missing)
    cause = f"{folders} is missing or incomplete: what runs cannot be restarted"
    return [Finding("environments", "problem", cause, deployment.up_command, fault="environment-missing",
                    where=folders)]  # fmt: skip


def _edited(deployment: Deployment) -> list[Finding]:
    """Compare the gateway's environment file with what the stack makes of it."""
    found = snapshot.settings(deployment.layout)
    wanted = {name: str(value) for name, value in deployment.gateway_environment().items()}
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if not differing:
        return [ok("settings", "the gateway's settings are those of the stack")]
    file = deployment.layout.gateway_env
    cause = (
        f"{file} differs from the stack in {', '.join(differing)}: edited by hand, or the stack has changed"
    )
    since = logs.iso(file.stat().st_mtime)
    return [Finding("settings", "problem", cause, deployment.up_command, fault="settings-edited",
                    where=str(file), since=since)]  # fmt: skip


def keys(deployment: Deployment) -> Finding:
    """Check the file of API keys: it must be valid, private, and hold a key."""
    path, mode = deployment.layout.keys, deployment.stack.auth.mode
    if mode != "keys":
        return ok("keys", f"not used: auth is {mode}")
    try:
        count = sum(key.revoked is None for key in list_keys(path))
    except KeyFileError as error:
        return _keys("keys-damaged", str(error), ".run/bin/assist keys repair", path)
    for file in (path, deployment.layout.client_env):
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            return _keys("keys-open", f"other users can read {file}", f"chmod 600 {file}", file)
    if count:
        return ok("keys", f"{count} active keys")
    return _keys("keys-missing", "there is no active key", deployment.up_command, path)


def _keys(fault: str, cause: str, remedy: str, file: Path) -> Finding:
    since = logs.iso(file.stat().st_ctime) if file.exists() else ""
    return Finding("keys", "problem", cause, remedy, fault=fault, where=str(file), since=since)


def _disk(deployment: Deployment) -> list[Finding]:
    home = deployment.layout.home
    free = shutil.disk_usage(home).free
    cause = f"{free / 2**30:.1f} GiB free for {home}"
    remedy = f"Free some space: .run/bin/model-loader prune, or remove old logs in {deployment.layout.log}"
    if free < FULL_DISK_MIB * 2**20:
        cause = f"{free / 2**20:.0f} MiB free for {home}"
        return [Finding("disk", "problem", cause, remedy, fault="disk-full", where=str(home))]
    if free < LOW_DISK_GIB * 2**30:
        return [Finding("disk", "problem", cause, remedy, fault="disk-low", where=str(home))]
    return [ok("disk", cause)]
