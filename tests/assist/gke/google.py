"""A project as Google describes it, in the shape of its REST documents, with every number chosen by the test."""

import json
from pathlib import Path
from typing import Any

import httpx

from assist.gke.google import Google, recorded

PROJECT, REGION = "demo-project", "us-central1"
COMPUTE = f"https://compute.googleapis.com/compute/v1/projects/{PROJECT}"
MACHINES = {"n1-standard-2": (2, 7680), "n1-standard-4": (4, 15360)}
ZONES = ("us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f")


def responses(**quotas: float) -> dict[str, Any]:
    """Return a healthy project's responses by URL; ``quotas`` replace limits by metric."""
    limits = {"CPUS": 72, "PREEMPTIBLE_CPUS": 72, "SSD_TOTAL_GB": 2000} | {
        "NVIDIA_T4_GPUS": 6, "PREEMPTIBLE_NVIDIA_T4_GPUS": 6, "GPUS_ALL_REGIONS": 6,
    } | quotas  # fmt: skip
    listed = [{"metric": metric, "limit": limit, "usage": 0} for metric, limit in limits.items()]
    services = [{"name": f"projects/1/services/{name}.googleapis.com"} for name in ("compute", "container")]
    resources = "https://cloudresourcemanager.googleapis.com/v1/projects"
    responses: dict[str, Any] = {
        f"{resources}/{PROJECT}": {"projectId": PROJECT, "lifecycleState": "ACTIVE"},
        f"https://cloudbilling.googleapis.com/v1/projects/{PROJECT}/billingInfo": {"billingEnabled": True},
        _services(): {"services": services},
        COMPUTE: {"quotas": listed},
        f"{COMPUTE}/regions/{REGION}": {"quotas": listed},
    }
    for zone in ZONES:
        cards = [{"name": "nvidia-tesla-t4", "maximumCardsPerInstance": 4}]
        responses[f"{COMPUTE}/zones/{zone}/acceleratorTypes"] = {"items": cards}
        for name, (cpus, memory) in MACHINES.items():
            responses[f"{COMPUTE}/zones/{zone}/machineTypes/{name}"] = {"guestCpus": cpus, "memoryMb": memory}
    return {url: {"status": 200, "body": body} for url, body in responses.items()}


def _services() -> str:
    return f"https://serviceusage.googleapis.com/v1/projects/{PROJECT}/services?filter=state:ENABLED"


def refuse(responses: dict[str, Any], part: str, status: int, message: str) -> None:
    """Make every address that holds ``part`` answer with an error, as Google words it."""
    body = {"error": {"code": status, "message": message}}
    hit = [url for url in responses if part in url]
    assert hit, part
    for url in hit:
        responses[url] = {"status": status, "body": body}


def client(responses: dict[str, Any], folder: Path) -> Google:
    file = folder / "recorded.json"
    file.write_text(json.dumps(responses))
    return Google(PROJECT, recorded(file))


def body(responses: dict[str, Any], part: str) -> dict[str, Any]:
    (url,) = [url for url in responses if url.endswith(part)]
    found: dict[str, Any] = responses[url]["body"]
    return found


def unreachable() -> Google:
    def cut(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("network is unreachable", request=request)

    return Google(PROJECT, httpx.Client(transport=httpx.MockTransport(cut)))
