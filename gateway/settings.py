"""Settings of the gateway: one object per process, read from the environment, never a global.

Names start with ``ASSIST_``. The names of GitLab's AI Assist and FauxPilot (``API_EXTERNAL_PORT``,
``TRITON_HOST``, ``TRITON_PORT``, ``TRITON_VERBOSITY``, ``DOCS_URL``, ``OPENAPI_URL``, ``REDOC_URL``) keep
working, so that an existing ``.env`` file moves over unchanged; where both are set, ours wins.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from gateway.edge_settings import EdgeSettings
from gateway.jobs.settings import JobsSettings

# What editors send as the model name of "whatever you serve": FauxPilot's and GitLab's names, and OpenAI's
# last two completion models, which client libraries use in their own examples.
COMMON_ALIASES = (
    "codegen", "fastertransformer", "py-model", "gitlab", "copilot-codex", "ensemble",
    "gpt-3.5-turbo-instruct", "davinci-002",
)  # fmt: skip


def _legacy(ours: str, *old: str) -> AliasChoices:
    """Return the names a setting is read from: ours first, then the inherited ones."""
    return AliasChoices(f"ASSIST_{ours}", *old)


class Settings(EdgeSettings, JobsSettings):
    """Everything the gateway can be told.

    Times are in seconds, sizes in tokens unless the name says otherwise.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASSIST_", frozen=True, extra="ignore", populate_by_name=True, env_ignore_empty=True
    )

    host: str = "127.0.0.1"
    port: int = Field(5000, ge=0, le=65535, validation_alias=_legacy("PORT", "API_EXTERNAL_PORT"))
    keep_alive_s: int = Field(75, ge=1)

    engine: Literal["triton", "openai"] = "triton"
    engine_url: str | None = None
    engine_key: str | None = Field(None, repr=False)
    triton_host: str = Field("127.0.0.1", validation_alias=_legacy("TRITON_HOST", "TRITON_HOST"))
    triton_port: int = Field(8001, validation_alias=_legacy("TRITON_PORT", "TRITON_PORT"))
    triton_verbosity: bool = Field(
        default=False, validation_alias=_legacy("TRITON_VERBOSITY", "TRITON_VERBOSITY")
    )
    triton_model: str = "fastertransformer"
    triton_stream_model: str = "fastertransformer_stream"
    connect_s: float = Field(2.0, gt=0)
    drained_file: Path | None = Field(None, description="Tritons (host:port) that get no new requests")
    hold_s: float = Field(0.0, ge=0, description="how long of Triton's absence requests wait for it")

    model: str = "tiny-codegen"
    model_aliases: Annotated[tuple[str, ...], NoDecode] = ()
    unknown_model: Literal["404", "alias"] = "404"
    model_dir: Path | None = None
    context_length: int | None = Field(None, ge=16)
    fim_template: str | None = None
    language_prefix: Literal["auto", "always", "never"] = "auto"

    strict: bool = False
    truncate: bool = True
    default_max_tokens: int = Field(16, ge=1)
    default_temperature: float = Field(0.6, ge=0, le=2)
    gitlab_max_tokens: int = Field(64, ge=1)
    gitlab_generation_max_tokens: int = Field(256, ge=1)
    max_tokens_cap: int = Field(2048, ge=1)
    max_n: int = Field(20, ge=1)
    max_prompts: int = Field(64, ge=1)
    max_rows: int = Field(256, ge=1)
    max_logprobs: int = Field(5, ge=0)
    max_stops: int = Field(64, ge=1)
    max_stop_chars: int = Field(256, ge=1)
    deadline_s: float = Field(30.0, gt=0)
    first_token_s: float | None = Field(None, gt=0)
    write_timeout_s: float = Field(30.0, gt=0)

    docs_url: str | None = Field(None, validation_alias=_legacy("DOCS_URL", "DOCS_URL"))
    openapi_url: str | None = Field(None, validation_alias=_legacy("OPENAPI_URL", "OPENAPI_URL"))
    redoc_url: str | None = Field(None, validation_alias=_legacy("REDOC_URL", "REDOC_URL"))

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:  # noqa: ANN401  -- a pydantic before-validator sees whatever was given
        """Read a comma-separated list, as an environment file writes it."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _complete(self) -> "Settings":
        """Refuse combinations that would only fail at the first request."""
        if self.engine == "openai" and not self.engine_url:
            raise ValueError(
                "ASSIST_ENGINE=openai needs ASSIST_ENGINE_URL, for example http://127.0.0.1:8080/v1"
            )
        if self.jobs_redis_url is not None and self.auth_mode == "gitlab" and self.cache_salt is None:
            raise ValueError(
                "ASSIST_JOBS_REDIS_URL with GitLab's tokens needs ASSIST_CACHE_SALT: callers are known by "
                "salted names, and with a new salt after each start nobody would find their jobs again"
            )
        if self.docs_url and not self.openapi_url:
            raise ValueError("DOCS_URL needs OPENAPI_URL as well, for example /openapi.json")
        return self

    @property
    def triton_address(self) -> str:
        """Return ``host:port`` of Triton's gRPC endpoint.

        ``ASSIST_ENGINE_URL`` wins over TRITON_HOST/PORT.
        """
        if self.engine_url:
            return self.engine_url.removeprefix("grpc://").rstrip("/")
        return f"{self.triton_host}:{self.triton_port}"
