"""What each process is told, rendered from the Service: the same words on every target."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stackfile.resolved import ResolvedStack

# What a worker is told of the gateway's settings: the engine, the model, and how much one item may ask for.
_WORKER = frozenset(
    {
        "ASSIST_ENGINE", "ASSIST_ENGINE_URL", "TRITON_HOST", "TRITON_PORT", "ASSIST_MODEL",
        "ASSIST_MODEL_DIR", "ASSIST_CONTEXT_LENGTH", "ASSIST_FIM_TEMPLATE", "ASSIST_MAX_TOKENS_CAP",
        "ASSIST_MAX_N", "ASSIST_METRICS_HOST",
    }
)  # fmt: skip


@dataclass(frozen=True)
class GatewayPaths:
    """Where a target keeps things: the model's directory and the file of hashed keys."""

    model_dir: Path
    keys_file: Path


def gateway_environment(service: ResolvedStack, paths: GatewayPaths) -> dict[str, str]:
    """Return the gateway's environment, without secrets; names are those of ``gateway.settings``."""
    limits, gateway, auth = service.limits, service.gateway, service.auth
    environment = {
        "API_EXTERNAL_PORT": gateway.port,
        "ASSIST_HOST": gateway.host,
        "ASSIST_METRICS_HOST": gateway.metrics_host,
        "ASSIST_METRICS_PORT": gateway.metrics_port,
        "ASSIST_ENGINE": service.engine.kind,
        "ASSIST_ENGINE_URL": service.engine.url,
        "TRITON_HOST": service.triton.host,
        "TRITON_PORT": service.triton.grpc_port,
        "ASSIST_MODEL": service.model.id,
        "ASSIST_MODEL_DIR": paths.model_dir,
        "ASSIST_CONTEXT_LENGTH": service.context_length,
        "ASSIST_FIM_TEMPLATE": service.model.fim and service.model.fim.model_dump_json(),
        "ASSIST_AUTH": auth.mode,
        "ASSIST_KEYS_FILE": paths.keys_file,
        "ASSIST_GITLAB_URL": auth.gitlab_url,
        "GITLAB_API_URL": auth.gitlab_api_url,
        "ASSIST_GITLAB_CHECK_PATH": auth.gitlab_check_path,
        "ASSIST_GITLAB_CHECK_JSON": auth.gitlab_check_json,
        "USE_LOCAL_CACHE": json.dumps(service.cache.kind == "local"),
        "ASSIST_MAX_BODY_BYTES": limits.max_body_bytes,
        "ASSIST_MAX_IN_FLIGHT": limits.max_in_flight,
        "ASSIST_MAX_QUEUE": limits.max_queue,
        "ASSIST_QUEUE_TIMEOUT_S": limits.queue_timeout_s,
        "ASSIST_DEADLINE_S": limits.deadline_s,
        "ASSIST_HOLD_S": limits.hold_s,
        "ASSIST_GRACE_S": limits.grace_s,
        "ASSIST_MAX_TOKENS_CAP": limits.max_tokens,
        "ASSIST_MAX_N": limits.max_choices,
        "ASSIST_DEFAULT_RPM": limits.requests_per_minute,
        "ASSIST_DEFAULT_TPM": limits.tokens_per_minute,
        "ASSIST_DEFAULT_CONCURRENCY": limits.concurrency,
    }
    return _words(environment) | _jobs_environment(service)


def worker_environment(service: ResolvedStack, paths: GatewayPaths, index: int = 0) -> dict[str, str]:
    """Return the environment of a host's ``index``-th worker (``python -m gateway.worker``), without secrets.

    It completes and scores as the gateway does, so it is told the same; workers differ in their metrics port.
    """
    shared = gateway_environment(service, paths)
    told = {
        name: value for name, value in shared.items() if name in _WORKER or name in _jobs_environment(service)
    }
    return told | {"ASSIST_JOBS_METRICS_PORT": str(service.jobs.metrics_port + index)}


def _jobs_environment(service: ResolvedStack) -> dict[str, str]:
    """Return what gateway and worker must agree on; nothing where there are no jobs."""
    jobs = service.jobs
    if not jobs.enabled:
        return {}
    return _words(
        {
            "ASSIST_JOBS_QUEUE": jobs.queue,
            "ASSIST_JOBS_RESULT_S": jobs.result_s,
            "ASSIST_JOBS_MAX_PER_KEY": jobs.max_per_key,
            "ASSIST_JOBS_MAX_WAITING": jobs.max_waiting,
            "ASSIST_JOBS_MAX_ITEMS": jobs.max_items,
            "ASSIST_JOBS_MAX_BYTES": jobs.max_bytes,
            "ASSIST_JOBS_LONGEST_S": jobs.longest_s,
            "ASSIST_JOBS_PARALLEL": jobs.parallel,
        }
    )


def _words(environment: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in environment.items() if value is not None}
