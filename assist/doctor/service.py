"""What the service of this machine answers, from the inside out."""

import contextlib

from assist import probe, speeds
from assist.client_env import client_env
from assist.deployment import Deployment
from assist.findings import Finding, ok


def answers(deployment: Deployment) -> list[Finding]:
    """Probe the engine, then the gateway, then make a real completion, if all before that answered."""
    urls = {"engine-not-ready": ("triton", probe.triton_url(deployment))} if deployment.needs_triton else {}
    urls |= {"gateway-not-ready": ("gateway", f"{deployment.url}/ready")}
    found = [_ready(fault, program, url) for fault, (program, url) in urls.items()]
    return [*found, completion(deployment)] if all(one.status == "ok" for one in found) else found


def _ready(fault: str, program: str, url: str) -> Finding:
    status, check = probe.status(url), f"{program} ready"
    if status == 200:
        return ok(check, f"{url} answers 200")
    cause = f"{url} answers {status}" if status else f"nothing answers at {url}"
    remedy = f".run/bin/assist logs {program}  # where it was started just now, wait a moment"
    return Finding(check, "problem", cause, remedy, fault=fault, where=program)


def completion(deployment: Deployment) -> Finding:
    """Make a real completion and return its result."""
    if deployment.stack.auth.mode == "gitlab" and "ASSIST_KEY" not in client_env(deployment.layout):
        return ok("completion", "not tried: only users of the GitLab instance may call the service")
    try:
        made = probe.complete(deployment)
    except probe.NotServingError as error:
        remedy = f"{deployment.up_command}  # if it does not help: .run/bin/assist logs"
        return Finding(
            "completion", "problem", str(error), remedy, fault="completion-fails", where=deployment.url
        )
    stack = deployment.stack
    speed = speeds.Speed(round(made.tokens / made.seconds, 1), stack.runtime, stack.precision)
    # A figure for `assist models list`; a folder that cannot be written is another check's matter.
    with contextlib.suppress(OSError):
        speeds.record(deployment.layout.speeds, stack.model.id, speed)
    return ok("completion", f"a real completion took {made.seconds * 1000:.0f} ms")
