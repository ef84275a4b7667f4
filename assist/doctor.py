"""The checks of a deployment, each with its remedy; they also work when nothing runs."""

import contextlib
import json
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

from assist import causes, probe, processes, snapshot, speeds
from assist.client_env import client_env
from assist.deployment import Deployment, current
from assist.findings import Finding, ok, problem, unknown, warning
from assist.paths import Paths
from gateway.auth.keys import KeyFileError, list_keys
from stackfile import StackFileError

_LOW_DISK_GIB = 1.0
_RECENT_S = 3600.0
_STATES = {"RUNNING": "runs", "STARTING": "is starting"}


def examine(layout: Paths) -> list[Finding]:
    """Return every finding about the deployment of this clone; nothing is changed."""
    try:
        deployment = current(layout)
    except (StackFileError, ValueError, KeyError) as error:
        cause = f"the stack of the running service can't be read: {error}"
        return [unknown("stack", cause, "Correct the file, then: make up")]
    if deployment is None:
        return [problem("service", "the service has not been started here", "make up")]
    running = processes.programs(layout)
    findings = [*snapshot.findings(layout), _disk(deployment), _keys(deployment), _model(deployment)]
    if running is None:
        return [_down(deployment), *findings]
    findings = [*_programs(deployment, running), *_skew(deployment), *findings]
    return [*findings, *_answers(deployment), *_logs(deployment)]


def _down(deployment: Deployment) -> Finding:
    if orphans := processes.own(deployment.layout):
        pids = ", ".join(str(process.pid) for process in orphans)
        return problem(
            "service",
            f"supervisord has ended, but its processes {pids} still run",
            "make down, then: make up",
        )
    return problem("service", f"the service is down; no process of {deployment.stack.name} runs", "make up")


def _programs(deployment: Deployment, running: list[processes.Program]) -> list[Finding]:
    by_name = {program.name: program for program in running}
    findings = []
    for name in deployment.programs:
        program, log = by_name.get(name), deployment.layout.log / f"{name}.log"
        if program is None:
            findings.append(problem(f"process {name}", f"supervisor does not know {name}", "make up"))
        elif program.state in _STATES:
            findings.append(ok(f"process {name}", f"{name} {_STATES[program.state]} (process {program.pid})"))
        else:
            findings.append(_stopped(program, log))
    return findings


def _stopped(program: processes.Program, log: Path) -> Finding:
    code = causes.ended(log.with_name("supervisord.log"), program.name)
    cause = causes.of(log, code=code) or causes.Cause(program.reason, "Correct that, then: make up")
    text = f"{program.name} is {program.state}{': ' + cause.text if cause.text else ''}"
    return problem(f"process {program.name}", text, cause.remedy)


def _skew(deployment: Deployment) -> list[Finding]:
    expected = deployment.facts()["supervisor"]["revisions"]
    running = processes.revisions(deployment.layout)
    return [_version(name, same=revision == expected[name]) for name, revision in running.items()]


def _version(name: str, *, same: bool) -> Finding:
    if same:
        return ok(f"version {name}", f"{name} runs the current code and settings")
    return problem(f"version {name}", f"{name} runs older code or settings than this clone's", "make up")


def _answers(deployment: Deployment) -> list[Finding]:
    """Probe from the inside out, and stop at the first failure, which later checks would only repeat."""
    urls = {"triton ready": probe.triton_url(deployment)} if deployment.needs_triton else {}
    urls |= {"gateway health": f"{deployment.url}/health", "gateway ready": f"{deployment.url}/ready"}
    findings = []
    for check, url in urls.items():
        status = probe.status(url)
        good = status == 200
        cause = f"{url} answers {status}" if status else f"nothing answers at {url}"
        remedy = "If the service was started just now, wait a moment; otherwise: assist logs"
        findings.append(ok(check, cause) if good else problem(check, cause, remedy))
    return [*findings, completion(deployment)] if all(f.status == "ok" for f in findings) else findings


def completion(deployment: Deployment) -> Finding:
    """Make a real completion and return its result."""
    if deployment.stack.auth.mode == "gitlab" and "ASSIST_KEY" not in client_env(deployment.layout):
        return ok("completion", "not tried: only users of the GitLab instance may call the service")
    try:
        completion = probe.complete(deployment)
    except probe.NotServingError as error:
        return problem("completion", str(error), "make up; if that does not help: assist logs")
    stack = deployment.stack
    speed = speeds.Speed(round(completion.tokens / completion.seconds, 1), stack.runtime, stack.precision)
    # A figure for `assist models list`; a folder that cannot be written is another check's matter.
    with contextlib.suppress(OSError):
        speeds.record(deployment.layout.speeds, stack.model.id, speed)
    return ok("completion", f"a real completion took {completion.seconds * 1000:.0f} ms")


def _model(deployment: Deployment) -> Finding:
    """Compare presence and sizes with the manifest; ``model-loader verify`` reads every byte."""
    if not deployment.needs_triton:
        return ok("model", f"the engine at {deployment.stack.engine.url} has its own")
    folder = deployment.model_dir
    try:
        files = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["files"]
        wrong = [file["path"] for file in files if _size(folder / file["path"]) != file["size"]]
    except (OSError, ValueError, KeyError) as error:
        return problem("model", f"the model in {folder} is incomplete: {error}", "make up")
    if wrong:
        return problem(
            "model",
            f"{folder}: missing or of wrong size: {', '.join(wrong)}",
            "model-loader verify --repair, or make up",
        )
    return ok("model", f"{deployment.stack.model.id}: {folder.name}, {len(files)} files as in the manifest")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _keys(deployment: Deployment) -> Finding:
    path, mode = deployment.layout.keys, deployment.stack.auth.mode
    if mode != "keys":
        return ok("keys", f"not used: auth is {mode}")
    try:
        count = sum(key.revoked is None for key in list_keys(path))
    except KeyFileError as error:
        return problem("keys", str(error), "assist keys add USER")
    for file in (path, deployment.layout.client_env):
        if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o077:
            return problem("keys", f"other users can read {file}", f"chmod 600 {file}")
    return (
        ok("keys", f"{count} active keys")
        if count
        else problem("keys", "there is no active key", "assist keys add USER")
    )


def _disk(deployment: Deployment) -> Finding:
    free = shutil.disk_usage(deployment.layout.home).free / 2**30
    cause = f"{free:.1f} GiB free"
    return (
        ok("disk", cause)
        if free >= _LOW_DISK_GIB
        else problem("disk", cause, "Free some space: model-loader prune, or remove old logs")
    )


def _logs(deployment: Deployment) -> list[Finding]:
    """Search each program's log for errors of the last hour, in the program's own format."""
    is_error: dict[str, Callable[[str], bool]] = {
        "triton": lambda line: line.startswith("E") or " ERROR " in line,
        "gateway": _is_json_error,
        "worker": _is_json_error,
    }
    return [_log(name, deployment.layout.log / f"{name}.log", is_error[name]) for name in deployment.programs]


def _is_json_error(line: str) -> bool:
    return '"level":"error"' in line.replace(" ", "") or "Traceback" in line


def _log(name: str, path: Path, is_error: Callable[[str], bool]) -> Finding:
    if not path.exists() or time.time() - path.stat().st_mtime > _RECENT_S:
        return ok(f"log {name}", "no new line in the last hour")
    if cause := causes.of(path):
        return warning(f"log {name}", cause.text, cause.remedy)
    # On a CPU, the absence of CUDA is not an error, although Triton logs it as one.
    lines = [line for line in causes.tail(path) if is_error(line) and "CudaDriverHelper" not in line]
    if not lines:
        return ok(f"log {name}", "no error at its end")
    return warning(
        f"log {name}", f"{len(lines)} errors at its end, the last: {lines[-1][:200]}", f"assist logs {name}"
    )
