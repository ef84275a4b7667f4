"""What each process is told, rendered from the Service: the same words on every target."""

import json
from dataclasses import dataclass
from pathlib import Path

from spec.service import Service


@dataclass(frozen=True)
class Paths:
    """Where a target keeps things: the model's directory and the file of hashed keys."""

    model_dir: Path
    keys_file: Path


def gateway_environment(service: Service, paths: Paths) -> dict[str, str]:
    """Return the gateway's environment, without secrets; names are those of ``api.settings``."""
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
    return {name: str(value) for name, value in environment.items() if value is not None}
