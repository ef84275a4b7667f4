"""What an operator can set about callers, limits and lifecycle; every field is an environment variable.

Names begin with ``ASSIST_``. ``BYPASS_EXTERNAL_AUTH``, ``GITLAB_API_URL``, ``USE_LOCAL_CACHE`` and
``REDIS_PASS`` are the names of GitLab's AI Assist (reference: its 2022 deployment) and mean the same here.
"""

from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

AuthMode = Literal["none", "keys", "gitlab"]


def _legacy(field: str, *names: str) -> AliasChoices:
    """Accept ``ASSIST_<FIELD>`` first, then the older names of the systems that this one replaces."""
    return AliasChoices(f"ASSIST_{field.upper()}", *names, field)


class EdgeSettings(BaseSettings):
    """The edge's share of the gateway's settings; times are seconds, sizes bytes, 0 limits nothing."""

    model_config = SettingsConfigDict(
        hide_input_in_errors=True, env_prefix="ASSIST_", populate_by_name=True, extra="ignore", frozen=True
    )

    auth: AuthMode | None = Field(
        None, description="none, keys or gitlab; unset: decided by what else is set"
    )
    bypass_external_auth: bool | None = Field(
        None, validation_alias=_legacy("bypass_external_auth", "BYPASS_EXTERNAL_AUTH")
    )
    keys_file: Path | None = None

    gitlab_api_url: str = Field(
        "https://gitlab.com/api/v4/", validation_alias=_legacy("gitlab_api_url", "GITLAB_API_URL")
    )
    gitlab_check_path: str = Field("ml/ai-assist", description="empty: only OIDC tokens are taken")
    gitlab_check_json: str = Field(
        "user_is_allowed", description="dotted key that must be true; empty: any 200"
    )
    gitlab_timeout_s: float = Field(1.0, gt=0, le=30)
    gitlab_cache_s: float = Field(3600.0, ge=0)
    gitlab_url: str = Field("https://gitlab.com", description="signs the tokens of OIDC callers")
    oidc_issuer: str | None = Field(None, description="their `iss`; unset: gitlab_url")
    oidc_audience: str = Field("gitlab-code-suggestions", min_length=1)
    oidc_scopes: str = Field(
        "code_suggestions,complete_code", description="comma list; one of them is needed"
    )
    oidc_leeway_s: float = Field(10.0, ge=0, le=60, description="how far GitLab's clock may be off")
    oidc_keys_s: float = Field(86_400.0, gt=0, description="how long GitLab's public keys are good")
    oidc_refresh_s: float = Field(5.0, gt=0, description="the pause between questions for its keys")
    cache_salt: SecretStr | None = Field(None, description="shared by replicas that share a Redis")
    use_local_cache: bool = Field(
        default=True, validation_alias=_legacy("use_local_cache", "USE_LOCAL_CACHE")
    )
    redis_url: SecretStr | None = None
    redis_pass: SecretStr | None = Field(None, validation_alias=_legacy("redis_pass", "REDIS_PASS"))
    redis_timeout_s: float = Field(0.1, gt=0, le=5)

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = Field(8082, ge=0, le=65535, description="0: any free port; none: no port")

    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0)
    body_timeout_s: float = Field(10.0, gt=0)
    header_timeout_s: float = Field(10.0, gt=0)
    max_connections: int = Field(4096, gt=0)

    max_in_flight: int = Field(64, gt=0)
    max_queue: int = Field(256, ge=0)
    queue_timeout_s: float = Field(20.0, gt=0)
    default_rpm: int = Field(0, ge=0)
    default_tpm: int = Field(0, ge=0)
    default_concurrency: int = Field(0, ge=0)

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    grace_s: float = Field(30.0, ge=0)
    drain_delay_s: float = Field(0.0, ge=0, description="after SIGTERM, serve this long while not ready")
    cors_origins: str | None = Field(None, description="comma list, * or none; unset: * unless auth is none")

    @field_validator("gitlab_api_url")
    @classmethod
    def _end_with_slash(cls, url: str) -> str:
        """Add the slash without which urljoin drops the last path segment (``/api/v4``)."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(
                "GITLAB_API_URL must be an http(s) URL such as https://gitlab.example.com/api/v4/"
            )
        return url if url.endswith("/") else f"{url}/"

    @field_validator("gitlab_url")
    @classmethod
    def _be_http_url(cls, url: str) -> str:
        """Take the slash off: GitLab's issuer has none, and ``iss`` must match to the letter."""
        if not url.startswith(("http://", "https://")):
            raise ValueError("ASSIST_GITLAB_URL must be an http(s) URL such as https://gitlab.example.com")
        return url.rstrip("/")

    @field_validator("keys_file", "redis_url", "cache_salt", "auth", "oidc_issuer", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("metrics_port", mode="before")
    @classmethod
    def _none_is_off(cls, value: object) -> object:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _check_auth(self) -> Self:
        """Refuse an open door: no authentication on a reachable address, unless asked for."""
        if self.auth_mode == "keys" and self.keys_file is None:
            raise ValueError("ASSIST_AUTH=keys needs ASSIST_KEYS_FILE; make one with `assist keys add USER`")
        asked = self.auth is not None or self.bypass_external_auth
        if self.auth_mode == "none" and not asked and not _is_loopback(getattr(self, "host", "127.0.0.1")):
            raise ValueError(
                "The gateway would listen on a public address without authentication. "
                "Set ASSIST_AUTH to keys (with ASSIST_KEYS_FILE) or gitlab, or to none on purpose."
            )
        return self

    @property
    def auth_mode(self) -> AuthMode:
        """Return how callers are told apart: as chosen, else as the other settings imply."""
        if self.auth is not None:
            return self.auth
        if self.bypass_external_auth:
            return "none"
        if self.keys_file is not None:
            return "keys"
        return "gitlab" if self.bypass_external_auth is False else "none"

    @property
    def scopes(self) -> frozenset[str]:
        """Return the scopes of which an OIDC token needs one."""
        return frozenset(scope.strip() for scope in self.oidc_scopes.split(",") if scope.strip())

    @property
    def redis(self) -> str | None:
        """Return the Redis URL, ``None`` for an in-process cache; GitLab's host name is ``redis``."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.use_local_cache:
            return None
        password = f":{self.redis_pass.get_secret_value()}@" if self.redis_pass else ""
        return f"redis://{password}redis:6379/0"

    @property
    def origins(self) -> frozenset[str]:
        """Return the browser origins that may read answers.

        With authentication a page needs the user's key anyway, so every origin may try, as with llama.cpp's
        server and GitLab's. Without it any web page could use a gateway on the visitor's own machine, so none
        may.
        """
        if self.cors_origins is None:
            return frozenset() if self.auth_mode == "none" else frozenset({"*"})
        named = (origin.strip() for origin in self.cors_origins.split(","))
        return frozenset(origin for origin in named if origin not in {"", "none"})


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
