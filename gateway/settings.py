"""Settings of the gateway and its worker: one object per process, read from the environment, never a global.

Every field is an environment variable: ``ASSIST_`` and the field's name in capitals. Names that end in ``_s``
are seconds, in ``_bytes`` bytes. ``gateway.variables`` has the other names that a field may have.
"""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasGenerator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gateway.variables import PREFIX, variables

_MAY_BE_EMPTY = ("ASSIST_GITLAB_CHECK_PATH", "ASSIST_GITLAB_CHECK_JSON")
AuthMode = Literal["none", "keys", "gitlab"]


class Settings(BaseSettings):
    """The settings of one gateway or worker process.

    Raises ``pydantic.ValidationError`` with the remedy for a value that cannot work, and for a combination
    that would fail at the first request or leave the gateway open to the network without authentication.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True,
        hide_input_in_errors=True, use_attribute_docstrings=True,
        alias_generator=AliasGenerator(validation_alias=variables),
    )  # fmt: skip

    # The HTTP server
    host: str = "127.0.0.1"
    """Address that the HTTP API listens on. The default accepts connections from this machine only."""
    port: int = Field(5000, ge=0, le=65535)
    """TCP port of the HTTP API; 0 takes any free port."""
    keep_alive_s: int = Field(75, ge=1)
    """Seconds that an idle keep-alive connection stays open; longer than load balancers' usual 60."""
    header_timeout_s: float = Field(10.0, gt=0)
    """Seconds within which a client must have sent its request's headers."""
    body_timeout_s: float = Field(10.0, gt=0)
    """Seconds within which a client must have sent its request's body."""
    write_timeout_s: float = Field(30.0, gt=0)
    """Seconds that one chunk of a stream waits for a client that does not read; then the stream ends."""
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0)
    """Largest request body in bytes; larger ones get 413."""
    max_connections: int = Field(4096, gt=0)
    """Open client connections at once; further ones get 503."""
    cors_origins: str | None = None
    """Browser origins that may read responses: a comma-separated list, `*` or `none`. Unset: `*` with
    authentication, without it `none`: any web page could use a gateway on its visitor's machine."""
    drain_delay_s: float = Field(0.0, ge=0)
    """Seconds after SIGTERM in which requests are still served while `/ready` answers 503, so that load
    balancers can take the gateway out."""
    grace_s: float = Field(30.0, ge=0)
    """Seconds for requests under way to finish, after the drain delay; then they are cancelled."""
    handover_dir: Path | None = None
    """Folder in which a gateway finds the one that it replaces, and takes its listening socket, so that a
    restart refuses nobody; unset: none. Both must run on one machine as one user."""
    docs_url: str | None = Field(None)
    """Path of Swagger UI, such as `/docs`; unset: none. Needs ASSIST_OPENAPI_URL."""
    openapi_url: str | None = Field(None)
    """Path of the OpenAPI document, such as `/openapi.json`; unset: none."""
    redoc_url: str | None = Field(None)
    """Path of ReDoc, such as `/redoc`; unset: none."""

    # Logs and metrics
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log lines to write. `debug` adds exceptions' texts, which may hold parts of a prompt."""
    metrics_host: str = "127.0.0.1"
    """Address of the metrics port, which needs no key."""
    metrics_port: int | None = Field(8082, ge=0, le=65535)
    """TCP port of `/metrics` and `/usage`; 0 takes any free port, `none` opens no port."""
    metrics_users: int = Field(100, ge=0, le=10_000)
    """Users with counters of their own in the metrics; all others are counted as `other`."""
    release: str = ""
    """Release of the gateway, which the metrics and traces name; unset: unknown."""
    otlp_endpoint: str | None = None
    """Base URL of an OpenTelemetry collector (OTLP over HTTP, such as `http://127.0.0.1:4318`) that gets the
    traces of requests, without any text of them; unset: no traces."""
    otlp_ratio: float = Field(1.0, ge=0, le=1)
    """Share of the requests that are traced; a caller's own decision, in `traceparent`, goes first."""

    # The engine
    engine: Literal["triton", "openai"] = "triton"
    """Kind of the engine: `triton` (gRPC) or `openai`, any server with OpenAI's completions API."""
    engine_url: str | None = None
    """URL of the engine: `grpc://host:port` for Triton, which wins over ASSIST_TRITON_HOST and _PORT, or a
    base URL such as `http://127.0.0.1:8080/v1`, which an engine of kind `openai` requires."""
    engine_key: str | None = Field(None, repr=False)
    """API key that the gateway sends to an engine of kind `openai`; unset: none."""
    triton_host: str = Field("127.0.0.1")
    """Host name or address of Triton's gRPC endpoint."""
    triton_port: int = Field(8001)
    """TCP port of Triton's gRPC endpoint; the default is Triton's own."""
    triton_verbosity: bool = Field(default=False)
    """No effect; accepted because FauxPilot's `.env` files set it."""
    triton_model: str = "fastertransformer"
    """Name of Triton's unary model, which scores prompts; the default is FauxPilot's."""
    triton_stream_model: str = "fastertransformer_stream"
    """Name of Triton's decoupled model, which completes; without it the unary one does, in one piece."""
    connect_timeout_s: float = Field(2.0, gt=0)
    """Seconds for Triton's response to a query for a model's metadata, which precedes the first request."""
    engine_wait_s: float = Field(0.0, ge=0)
    """Seconds from the beginning of Triton's absence for which requests wait for its return instead of
    failing with 503; 0 never waits. Set it where the only Triton is replaced in place."""
    drained_file: Path | None = None
    """File that names Tritons to send no new requests to, one `host:port` a line; unset or missing: none."""

    # The model
    model: str = "tiny-codegen"
    """Name under which the gateway lists its model."""
    model_revision: str = ""
    """Revision of the model that the stack asks for, which the metrics name; unset: unknown."""
    model_aliases: Annotated[tuple[str, ...], NoDecode] = ()
    """Further names for the model that clients may send: a comma-separated list."""
    unknown_model: Literal["404", "alias"] = "404"
    """Response to any other model name: `404`, or `alias` to serve the model under that name too."""
    model_dir: Path | None = None
    """The model's folder, with `tokenizer.json` or one GGUF file that carries a tokenizer. Required."""
    context_length: int | None = Field(None, ge=16)
    """Tokens of prompt and completion together; unset: the model's own limit from its files."""
    fim_template: str | None = None
    """How the model takes prefix and suffix: a text with `{prefix}` and `{suffix}`, or JSON with `template`
    and `stop`, a list of sentinels. `none`: not at all; a vocabulary may have such tokens though the model
    was not trained on them. Unset: the tokens in a GGUF file's own vocabulary. Without any, a suffix is
    refused, or ignored where clients send one whatever the model."""
    language_prefix: Literal["auto", "always", "never"] = "auto"
    """Whether GitLab's requests get the language as `<python>` before the prompt; `auto`: only for models
    without a fill-in-the-middle template, because other models were not trained on such tags."""

    # Limits and defaults of a request
    strict: bool = False
    """Whether parameters without effect, too long prompts and a `max_tokens` over the cap get 400."""
    truncate: bool = True
    """Whether prompts that are too long lose their beginning; `false` answers 400, as FauxPilot does."""
    default_max_tokens: int = Field(16, ge=1)
    """Tokens of a completion whose request has no `max_tokens`; the default is OpenAI's."""
    default_temperature: float = Field(0.6, ge=0, le=2)
    """Temperature of a request that has none; the default is FauxPilot's, on which its clients rely."""
    gitlab_max_tokens: int = Field(64, ge=1)
    """Tokens of a GitLab code completion, whose requests carry no number."""
    gitlab_generation_max_tokens: int = Field(256, ge=1)
    """Tokens of a GitLab code generation, whose requests carry no number."""
    max_tokens_cap: int = Field(2048, ge=1)
    """Most tokens of one completion; a larger `max_tokens` is reduced to it, or gets 400 where strict."""
    max_n: int = Field(20, ge=1)
    """Largest `n` and `best_of`."""
    max_prompts: int = Field(64, ge=1)
    """Most prompts in one request."""
    max_rows: int = Field(256, ge=1)
    """Most completions of one request: its prompts times its choices."""
    max_logprobs: int = Field(5, ge=0)
    """Largest `logprobs`; the default is OpenAI's."""
    max_stops: int = Field(64, ge=1)
    """Most stop strings in one request; OpenAI's 4 would refuse editors that send twelve."""
    max_stop_chars: int = Field(256, ge=1)
    """Longest stop string in characters."""
    deadline_s: float = Field(30.0, gt=0)
    """Seconds for a whole request, the queue included; its answer then ends, or is 504 without a token."""
    first_token_timeout_s: float | None = Field(None, gt=0)
    """Seconds until a stream's first token; then it gets 504. Unset: ASSIST_DEADLINE_S alone."""

    recent_answers_s: float = Field(60.0, ge=0)
    """Seconds for which a caller who types a greedy answer gets its rest from memory; 0 keeps none."""

    # Admission
    max_in_flight: int = Field(64, gt=0)
    """Requests at the engine at once; further ones wait in the queue."""
    max_queue: int = Field(256, ge=0)
    """Requests that may wait for a slot; further ones get 503."""
    queue_timeout_s: float = Field(20.0, gt=0)
    """Seconds that a request waits for a slot; then it gets 503."""
    default_rpm: int = Field(0, ge=0)
    """Requests per minute of a caller without a limit of its own; 0: no limit. More get 429."""
    default_tpm: int = Field(0, ge=0)
    """Tokens per minute, prompt and completion, of a caller without a limit of its own; 0: no limit."""
    default_concurrency: int = Field(0, ge=0)
    """Requests at once of a caller without a limit of its own; 0: no limit. More get 429."""

    # Authentication
    auth: AuthMode | None = None
    """Who may call: `keys` (ASSIST_KEYS_FILE), `gitlab` (users of a GitLab server) or `none` (everybody).
    Unset: `keys` where a key file is set, `gitlab` where BYPASS_EXTERNAL_AUTH is false, else `none`, which
    then needs a loopback address."""
    bypass_external_auth: bool | None = Field(None)
    """GitLab AI Assist's switch, used where ASSIST_AUTH is unset: true means `none`, false `gitlab`."""
    keys_file: Path | None = None
    """File of hashed API keys, made by `assist keys add`; changes take effect within a second."""
    gitlab_api_url: str = Field("https://gitlab.com/api/v4/")
    """Base URL of the GitLab API that checks callers' access tokens."""
    gitlab_check_path: str = "ml/ai-assist"
    """Path below GITLAB_API_URL that is requested with the caller's token; empty: only OIDC tokens are
    accepted. Current GitLab releases do not have the default, which is GitLab AI Assist's: set `user`."""
    gitlab_check_json: str = "user_is_allowed"
    """Dotted key of that response that must be `true`; empty: any response with status 200 allows a token."""
    gitlab_timeout_s: float = Field(1.0, gt=0, le=30)
    """Seconds that GitLab has to answer; then the caller gets 503."""
    gitlab_cache_ttl_s: float = Field(3600.0, ge=0)
    """Seconds for which an allowed token is not checked again, and a revoked one still works; 0: no cache."""
    gitlab_url: str = "https://gitlab.com"
    """URL of the GitLab server that signs the tokens of OIDC callers."""
    oidc_issuer: str | None = None
    """Required `iss` of OIDC tokens; unset: ASSIST_GITLAB_URL."""
    oidc_audience: str = Field("gitlab-code-suggestions", min_length=1)
    """Required `aud` of OIDC tokens; the default is what GitLab writes."""
    oidc_scopes: str = "code_suggestions,complete_code"
    """Scopes of which an OIDC token needs one: a comma-separated list."""
    oidc_leeway_s: float = Field(10.0, ge=0, le=60)
    """Seconds by which GitLab's clock may differ from the gateway's."""
    oidc_keys_ttl_s: float = Field(86_400.0, gt=0)
    """Seconds for which GitLab's public keys are used; they are fetched again from half of that time on."""
    oidc_refresh_s: float = Field(5.0, gt=0)
    """Least seconds between two requests for GitLab's public keys, however many unknown key ids arrive."""

    # State shared by replicas
    cache_salt: SecretStr | None = None
    """Secret that hides tokens in the cache and in callers' ids, the same for replicas that share a Redis.
    Unset: random at each start."""
    use_local_cache: bool = Field(default=True)
    """GitLab AI Assist's switch where ASSIST_REDIS_URL is unset: false means the Redis at host `redis`."""
    redis_url: SecretStr | None = None
    """URL of the Redis in which replicas share rate limits and allowed tokens; unset: each keeps its own."""
    redis_pass: SecretStr | None = Field(None)
    """Password of the Redis at host `redis`; part of ASSIST_REDIS_URL where that is set."""
    redis_timeout_s: float = Field(0.1, gt=0, le=5)
    """Seconds for one step of a Redis command; after a failure the gateway uses in-process state."""

    # Jobs
    jobs_redis_url: SecretStr | None = None
    """URL of the Redis that keeps jobs, their queue and their results; unset: no jobs."""
    jobs_queue: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "jobs"
    """Name of the queue; several may share a Redis."""
    jobs_result_ttl_s: int = Field(86_400, gt=0)
    """Seconds for which a finished job and its results are kept."""
    jobs_max_per_key: int = Field(100, gt=0)
    """Most jobs of one key: waiting, running and kept. More get 429."""
    jobs_max_waiting: int = Field(1000, gt=0)
    """Most jobs of all keys together that wait or run. More get 503."""
    jobs_max_items: int = Field(256, gt=0)
    """Most texts to score, or completions, in one job."""
    jobs_max_bytes: int = Field(1024 * 1024, gt=0)
    """Largest request body of a job in bytes."""
    jobs_max_runtime_s: int = Field(1800, gt=0)
    """Seconds that a job may run at a worker; then it fails, and its results so far are kept."""
    jobs_concurrency: int = Field(4, gt=0)
    """Items of one job at the engine at once."""
    jobs_lease_s: float = Field(30.0, gt=0)
    """Seconds without a heartbeat after which a worker counts as dead and its job is delivered again."""
    jobs_metrics_port: int | None = Field(None, ge=0, le=65535)
    """TCP port of the worker's `/metrics`; 0 takes any free port, unset: no port."""

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings of this process; secrets may be files of systemd's ``LoadCredential``."""
        # Elsewhere an empty variable counts as unset, but for these two an empty value has a meaning.
        empty: dict[str, Any] = {name: "" for name in _MAY_BE_EMPTY if os.environ.get(name) == ""}
        return cls(_secrets_dir=os.environ.get("CREDENTIALS_DIRECTORY"), **empty)

    @field_validator("model_aliases", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:  # noqa: ANN401  -- a pydantic before-validator sees whatever was given
        """Read a comma-separated list, as an environment file writes it."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("gitlab_api_url", "gitlab_url")
    @classmethod
    def _check_url(cls, url: str, info: ValidationInfo) -> str:
        """End the API's URL with the slash that urljoin needs, GitLab's without one, like its ``iss``."""
        if not url.startswith(("http://", "https://")):
            raise ValueError("must be an http(s) URL such as https://gitlab.example.com/api/v4/")
        return url.rstrip("/") + ("/" if info.field_name == "gitlab_api_url" else "")

    @field_validator(
        "keys_file",
        "redis_url",
        "cache_salt",
        "auth",
        "oidc_issuer",
        "jobs_redis_url",
        "otlp_endpoint",
        mode="before",
    )
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("metrics_port", mode="before")
    @classmethod
    def _none_is_off(cls, value: object) -> object:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        """Refuse combinations that would only fail at the first request."""
        if self.auth_mode == "keys" and self.keys_file is None:
            raise ValueError("ASSIST_AUTH=keys needs ASSIST_KEYS_FILE; make one with `assist keys add USER`")
        if self.engine == "openai" and not self.engine_url:
            raise ValueError(
                "ASSIST_ENGINE=openai needs ASSIST_ENGINE_URL, for example http://127.0.0.1:8080/v1"
            )
        if self.jobs_redis_url is not None and self.auth_mode == "gitlab" and self.cache_salt is None:
            raise ValueError(
                "ASSIST_JOBS_REDIS_URL with GitLab's tokens needs ASSIST_CACHE_SALT: jobs belong to salted "
                "caller ids, and with a new salt after each start callers would lose their jobs"
            )
        if self.docs_url and not self.openapi_url:
            raise ValueError("DOCS_URL needs OPENAPI_URL as well, for example /openapi.json")
        return self

    @model_validator(mode="after")
    def _check_exposure(self) -> Self:
        """Refuse a reachable address without authentication, unless the operator asked for it."""
        chosen = self.auth is not None or self.bypass_external_auth
        if self.auth_mode == "none" and not chosen and not _is_loopback(self.host):
            raise ValueError(
                "The gateway would listen on a public address without authentication. "
                "Set ASSIST_AUTH to keys (with ASSIST_KEYS_FILE) or gitlab, or to none on purpose."
            )
        return self

    @property
    def triton_address(self) -> str:
        """Return ``host:port`` of Triton's gRPC endpoint; ``engine_url`` wins over host and port."""
        if self.engine_url:
            return self.engine_url.removeprefix("grpc://").rstrip("/")
        return f"{self.triton_host}:{self.triton_port}"

    @property
    def auth_mode(self) -> AuthMode:
        """Return how callers are authenticated: as chosen, else as the other settings imply."""
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
        """Return the URL of the replicas' Redis, ``None`` for in-process state."""
        if self.redis_url is not None:
            return self.redis_url.get_secret_value()
        if self.use_local_cache:
            return None
        password = f":{self.redis_pass.get_secret_value()}@" if self.redis_pass else ""
        return f"redis://{password}redis:6379/0"

    @property
    def jobs_url(self) -> str:
        """Return the URL of the jobs' Redis. Raises ``ValueError`` with the remedy where it is not set."""
        if self.jobs_redis_url is None:
            raise ValueError(
                "ASSIST_JOBS_REDIS_URL is not set. Set it to the queue's Redis, for example "
                "redis://jobs:PASSWORD@127.0.0.1:6380/0"
            )
        return self.jobs_redis_url.get_secret_value()

    @property
    def jobs_prefix(self) -> str:
        """Return what all Redis keys of this queue begin with, Celery's among them."""
        return f"assist:jobs:{self.jobs_queue}:"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
