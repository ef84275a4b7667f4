"""Prometheus' configuration for a stack's processes: on this machine, or on hosts.

On clusters the operator's ServiceMonitors and the Services' annotations say the same (``infra/k8s``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from stackfile.resolved import ResolvedStack

INTERVAL = "15s"


@dataclass(frozen=True)
class Target:
    """One address to scrape, ``host:port``, of a job such as ``gateway``; ``host`` names its machine."""

    job: str
    address: str
    host: str = ""


def bracketed(host: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def local_targets(stack: ResolvedStack) -> list[Target]:
    """Return what a stack of target ``local`` serves on this machine."""
    gateway, triton = stack.gateway, stack.triton
    host = bracketed(gateway.metrics_host)
    targets = [Target("gateway", f"{host}:{gateway.metrics_port}")]
    if stack.jobs.enabled:
        targets.append(Target("worker", f"{host}:{stack.jobs.metrics_port}"))
    if stack.engine.kind == "triton":
        targets.append(Target("triton", f"{bracketed(triton.host)}:{triton.metrics_port}"))
    else:
        # llama.cpp's server and vLLM have metrics beside their API; a server without any is only not up.
        targets.append(Target("engine", urlsplit(stack.engine.url or "").netloc))
    return targets


def configuration(
    stack: ResolvedStack, targets: Iterable[Target], rule_files: Iterable[str], interval: str = INTERVAL
) -> dict[str, Any]:
    """Return the content of ``prometheus.yml``."""
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": list(rule_files),
        "scrape_configs": scrape_configs(stack, targets),
    }


def scrape_configs(stack: ResolvedStack, targets: Iterable[Target]) -> list[dict[str, Any]]:
    """Return one entry a job, for a Prometheus that scrapes more than this stack."""
    by_job: dict[str, list[Target]] = {}
    for target in targets:
        by_job.setdefault(target.job, []).append(target)
    return [
        {
            # Two stacks in one Prometheus need two names; the label is the same for both.
            "job_name": f"{stack.name}-{job}",
            "relabel_configs": [{"target_label": "job", "replacement": job}],
            "static_configs": [_static(stack, target) for target in listed],
        }
        for job, listed in by_job.items()
    ]


def _static(stack: ResolvedStack, target: Target) -> dict[str, Any]:
    host = {"host": target.host} if target.host else {}
    return {"targets": [target.address], "labels": {"stack": stack.name, **host}}
