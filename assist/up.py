"""``assist up``: run the checks and the playbook, then print the phases and the settings for clients."""

import json
import os
import time
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console

from assist import findings, playbook, preflight, probe, report, switch
from assist.causes import Cause
from assist.client_env import client_env
from assist.deployment import Deployment
from stackfile import deadline
from stackfile.memory_checks import memory_words


@dataclass(frozen=True)
class Request:
    """The user's options, as Ansible's inventory takes them."""

    stack: str
    host: str
    port: str
    as_json: bool = False
    check: bool = False
    allow_unpinned: bool = False


def run(deployment: Deployment, request: Request, console: Console, errors: Console) -> int:
    """Start the service; return the exit status, 0 when it serves (or the plan succeeded), else 1."""
    progress = errors if request.as_json else console
    if request.check:
        return _run(deployment, request, console, errors, progress)
    try:
        with switch.alone(deployment.layout):
            switch.recover(deployment.layout, progress)
            return _run(deployment, request, console, errors, progress)
    except KeyboardInterrupt:
        _interrupted(deployment, request, errors)
        raise
    except (switch.LockedError, probe.NotServingError) as error:
        if request.as_json:
            _print({"status": "failed", "failures": [str(error)]})
        errors.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        return 1


def _run(
    deployment: Deployment, request: Request, console: Console, errors: Console, progress: Console
) -> int:
    started = _started()
    bootstrap = time.time() - started
    since = time.monotonic()
    with progress.status("Checking that the service can start"):
        checks = preflight.run(deployment, allow_unpinned=request.allow_unpinned)
    failed = [finding for finding in checks if finding.status != "ok"]
    if failed:
        return _refuse(failed, request, errors)
    seconds = {"bootstrap": bootstrap, "preflight": time.monotonic() - since}
    if request.check:
        planned = _play(deployment, request, progress, check=True)("")
        if not planned.succeeded:
            return _failed(planned, request, errors)
        return _planned(deployment, planned, request, console)
    outcome = switch.run(deployment, _play(deployment, request, progress), progress)
    if outcome.cause is not None:
        if not outcome.kept:
            return _failed(outcome.run, request, errors)
        return _kept(deployment.stack.name, outcome.cause, request, errors)
    completion = _completion(deployment)
    seconds = {**outcome.run.seconds, **seconds, "total": time.time() - started}
    return _served(deployment, outcome.run, seconds, completion, request, console)


def _play(deployment: Deployment, request: Request, progress: Console, *, check: bool = False) -> switch.Play:
    """Return a function that runs the playbook with the request's variables and the tags it is given."""
    variables = {
        "STACK": request.stack,
        "HOST": request.host,
        "PORT": request.port,
        "ALLOW_UNPINNED": "true" if request.allow_unpinned else "",
    }
    return lambda tags: playbook.run(deployment.layout, variables, progress, check=check, tags=tags)


def _started() -> float:
    """Return the start of `make up`, in seconds since the epoch: the bootstrap counts too."""
    try:
        return min(float(os.environ["ASSIST_STARTED"]), time.time())
    except (KeyError, ValueError):
        return time.time()


def _refuse(failed: list[findings.Finding], request: Request, errors: Console) -> int:
    if request.as_json:
        _print(findings.document(failed) | {"status": "refused"})
    else:
        errors.print(report.findings_table(failed))
        errors.print("Nothing was changed.")
    return 1


def _failed(outcome: playbook.Run, request: Request, errors: Console) -> int:
    if request.as_json:
        _print({"status": "failed", "failures": outcome.failures})
    for failure in outcome.failures:
        errors.print(failure, style="red", highlight=False, markup=False, soft_wrap=True)
    errors.print("For details run: make status")
    return 1


def _interrupted(deployment: Deployment, request: Request, errors: Console) -> None:
    kept = switch.serves(deployment.layout)
    if request.as_json:
        _print({"status": "interrupted", "kept": kept})
    left = "What served before still serves" if kept else "Nothing serves yet; to go on: make up"
    errors.print(f"Interrupted. {left}.", style="yellow", highlight=False, soft_wrap=True)


def _kept(stack: str, cause: Cause, request: Request, errors: Console) -> int:
    if request.as_json:
        document = {"status": "failed", "cause": cause.text, "remedy": cause.remedy, "kept": True}
        _print(document | {"failures": [cause.text]})
    for line in (f"{stack} was not started: {cause.text}.", f"Remedy: {cause.remedy}"):
        errors.print(line, style="red", highlight=False, markup=False, soft_wrap=True)
    errors.print("What served before still serves.", highlight=False)
    return 1


def _planned(deployment: Deployment, outcome: playbook.Run, request: Request, console: Console) -> int:
    model = deployment.stack.model
    if request.as_json:
        licence = model.model_dump(include={"licence", "commercial", "restrictions"})
        stack = deployment.stack
        needed = deadline.of_stack(stack)
        limits = {
            "deadline_s": stack.limits.deadline_s,
            "needed_s": round(needed.needed_s, 1),
            "derivation": needed.derivation,
        }
        facts = {"memory": stack.memory.model_dump(), "deadline": limits, **licence}
        _print({"status": "planned", "changed": outcome.changed, "changes": outcome.changes, **facts})
    else:
        console.print(f"{model.id}: {model.terms}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"Memory: {memory_words(deployment.stack)}", highlight=False, soft_wrap=True)
        words = deadline.words(deployment.stack)
        console.print(f"Deadline: {words}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"{outcome.changed} changes would be made; nothing was changed.")
    return 0


def _served(
    deployment: Deployment,
    outcome: playbook.Run,
    seconds: dict[str, float],
    completion: probe.Completion | None,
    request: Request,
    console: Console,
) -> int:
    key = client_env(deployment.layout).get("ASSIST_KEY") if deployment.stack.auth.mode != "none" else None
    total = seconds.pop("total")
    if request.as_json:
        phases = {phase: round(seconds.get(phase, 0.0), 3) for phase in report.PHASES}
        settings = report.editor_settings(deployment, key)
        facts = {
            "status": "serving",
            "url": deployment.url,
            "key": key,
            "changed": outcome.changed,
            "changes": outcome.changes,
        }
        _print(
            {
                **facts,
                "phases": phases,
                "total": round(total, 3),
                "completion": completion and completion.facts(),
                "curl": report.curl(deployment, key),
                "vscode": settings,
            }
        )
        return 0
    console.print(report.phase_table(seconds, total))
    console.print(f"changed={outcome.changed}", highlight=False)
    report.show_service(console, deployment, key)
    if completion:
        report.show_completion(console, completion)
    return 0


def _completion(deployment: Deployment) -> probe.Completion | None:
    """Return a completion for the user to see; None where only the users of a GitLab instance may ask."""
    asks = deployment.stack.auth.mode != "gitlab" or "ASSIST_KEY" in client_env(deployment.layout)
    return probe.complete(deployment) if asks else None


def _print(document: dict[str, Any]) -> None:
    typer.echo(json.dumps(document, indent=1))
