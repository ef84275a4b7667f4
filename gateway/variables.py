"""The environment variables of the gateway's settings: their names, those of other systems, and former ones.

Where several of a field are set, the ``ASSIST_`` name of today wins.
"""

import logging
from collections.abc import Mapping

from pydantic import AliasChoices

_log = logging.getLogger(__name__)
PREFIX = "ASSIST_"

# Variables of GitLab AI Assist and FauxPilot, so that an existing .env file moves over unchanged.
INHERITED = {
    "port": "API_EXTERNAL_PORT", "triton_host": "TRITON_HOST", "triton_port": "TRITON_PORT",
    "triton_verbosity": "TRITON_VERBOSITY", "docs_url": "DOCS_URL", "openapi_url": "OPENAPI_URL",
    "redoc_url": "REDOC_URL", "bypass_external_auth": "BYPASS_EXTERNAL_AUTH", "redis_pass": "REDIS_PASS",
    "gitlab_api_url": "GITLAB_API_URL", "use_local_cache": "USE_LOCAL_CACHE",
}  # fmt: skip
# Former variables of settings that were renamed; they work for one release, with a warning.
RENAMED = {
    "connect_timeout_s": "ASSIST_CONNECT_S", "engine_wait_s": "ASSIST_HOLD_S",
    "first_token_timeout_s": "ASSIST_FIRST_TOKEN_S", "gitlab_cache_ttl_s": "ASSIST_GITLAB_CACHE_S",
    "oidc_keys_ttl_s": "ASSIST_OIDC_KEYS_S", "jobs_result_ttl_s": "ASSIST_JOBS_RESULT_S",
    "jobs_max_runtime_s": "ASSIST_JOBS_LONGEST_S", "jobs_concurrency": "ASSIST_JOBS_PARALLEL",
}  # fmt: skip


def variables(field: str) -> AliasChoices:
    """Return all variables of a field, its own first; the first one that is set counts."""
    others = [names[field] for names in (INHERITED, RENAMED) if field in names]
    return AliasChoices(PREFIX + field.upper(), *others)


def log_renamed(environment: Mapping[str, str]) -> None:
    """Log a warning for each former variable that is set, with its new name; names are not case-sensitive."""
    given = {name.upper() for name, value in environment.items() if value}
    for field, old in RENAMED.items():
        new = PREFIX + field.upper()
        if old in given and new in given:
            _log.warning("%s is ignored because %s, its new name, is set; remove %s", old, new, old)
        elif old in given:
            _log.warning("%s is now called %s; the old name stops working in the next release", old, new)
