"""The stack file's own sections. A setting that the file leaves out has the default given here."""

from typing import Annotated, Literal

from pydantic import Field

from stackfile.fields import Count, Port, Seconds
from stackfile.gke import Gke
from stackfile.hosts import Hosts
from stackfile.jobs import JobsSection
from stackfile.kubernetes import Kubernetes
from stackfile.monitoring import MonitoringSection
from stackfile.validation import Strict

Target = Literal["local", "hosts", "kubernetes", "gke"]
CLUSTERS = frozenset({"kubernetes", "gke"})


class AcceleratorSection(Strict):
    """What the model runs on. ``count`` devices a node; ``split`` says how several devices share the work.

    ``replicate`` runs one copy of the model on each; ``layers`` spreads the layers of one over all of them.
    """

    kind: str = "cpu"
    """Name of an accelerator in `catalogue/accelerators.yaml`."""
    count: Count = 1
    """Devices on a node."""
    split: Literal["replicate", "layers"] | None = None
    """With several devices: `replicate` runs one copy of the model on each, `layers` spreads the layers of
    one copy over all, with llama.cpp's server on a cluster."""


class EngineSection(Strict):
    """The engine: our Triton, or any OpenAI-compatible server at ``url``."""

    kind: Literal["triton", "openai"] = "triton"
    """What generates tokens: `triton`, or `openai`, any OpenAI-compatible server."""
    url: str | None = None
    """Base URL of an engine of kind `openai`, such as `http://127.0.0.1:8080/v1`. On a cluster without a URL,
    llama.cpp's server is deployed."""


class ServingSection(Strict):
    """How Triton batches. Every lone request pays ``max_queue_delay_us``, so its default is 0."""

    max_batch_size: Count = 64
    """Sequences that Triton may batch."""
    max_queue_size: Count = 256
    """Requests that may wait in Triton; more are refused."""
    max_queue_delay_us: Annotated[int, Field(ge=0)] = 0
    """Microseconds to wait for a fuller batch. Every lone request waits that long."""
    instances: Count = 1
    """Copies of the model on one device."""
    slots: Count | None = None
    """Sequences that each copy computes at once, each with a cache for `context_length` tokens; further
    requests wait. Default: 9 on a CPU, and on a GPU up to 17, as many as fit."""
    intra_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of each copy on a CPU; 0: the runtime chooses by model size."""


class TritonSection(Strict):
    """Where Triton listens: HTTP for health, gRPC for the gateway, and its own metrics."""

    host: str = "127.0.0.1"
    """Address of Triton. On a cluster, the name of Triton's Service."""
    http_port: Port = 8000
    """Port of Triton's HTTP endpoint, for health."""
    grpc_port: Port = 8001
    """Port of Triton's gRPC endpoint, for the gateway."""
    metrics_port: Port = 8002
    """Port of Triton's Prometheus metrics."""


class GatewaySection(Strict):
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    """Address of the gateway, to which editors connect. On a cluster, every address of the pod."""
    port: Port = 5000
    """Port of the gateway."""
    metrics_host: str = "127.0.0.1"
    """Address of the gateway's Prometheus metrics."""
    metrics_port: Port = 8082
    """Port of the gateway's Prometheus metrics."""


class LimitsSection(Strict):
    """The gateway's limits. Times in seconds, sizes in bytes or tokens; a per-key limit of 0 limits nothing.

    ``engine_wait_s``: how long, from the beginning of its engine's absence, requests wait for the engine;
    the completion itself takes the rest of ``deadline_s``.
    """

    max_body_bytes: Count = 4 * 2**20
    """Largest request body in bytes; larger ones get 413."""
    max_in_flight: Count = 64
    """Requests at the engine at once. Under load, no caller gets all of them (docs/adr/0008)."""
    max_queue: Annotated[int, Field(ge=0)] = 256
    """Requests that wait for a slot; more get 503."""
    queue_timeout_s: Seconds = 20.0
    """Longest wait for a slot, in seconds; then the request gets 503."""
    deadline_s: Seconds = 30.0
    """Longest time of a request, in seconds. A started answer then ends with what there is; without any, the
    request gets 504. Unset: the time that the largest answer takes with this model on this accelerator, 30 at
    least; `assist plan` shows how it is derived."""
    engine_wait_s: Annotated[float, Field(ge=0)] = 15.0
    """Seconds, from the beginning of the engine's absence, for which requests wait for its return; then they
    get 503. 0 never waits."""
    grace_s: Seconds = 30.0
    """Longest time to finish accepted requests at a stop, in seconds. Unset: `deadline_s`, 30 at least."""
    max_tokens: Count = 1024
    """Largest number of tokens of one completion."""
    max_choices: Count = 16
    """Largest number of choices of one request."""
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    """Requests a minute for each key without its own limit; 0: no limit."""
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    """Tokens a minute for each key without its own limit; 0: no limit."""
    concurrency: Annotated[int, Field(ge=0)] = 0
    """Requests at once for each key without its own limit; 0: no limit."""


class AuthSection(Strict):
    """Who may call the gateway: everybody, holders of our keys, or users of a GitLab instance."""

    mode: Literal["none", "keys", "gitlab"] = "keys"
    """Who may call: `keys` (holders of API keys), `gitlab` (users of a GitLab instance) or `none` (everybody;
    on loopback only)."""
    gitlab_url: str = "https://gitlab.com"
    """GitLab instance whose signed tokens (OIDC) are accepted in mode `gitlab`."""
    gitlab_api_url: str = "https://gitlab.com/api/v4/"
    """GitLab API that checks all other tokens."""
    gitlab_check_path: str = "ml/ai-assist"
    """Path below the API that is requested with the caller's token; empty: only signed tokens are
    accepted."""
    gitlab_check_json: str = "user_is_allowed"
    """JSON field of the response that must be exactly `true`."""


class CacheSection(Strict):
    """Where positive GitLab answers and shared limits live. ``redis`` needs the secret ASSIST_REDIS_URL."""

    kind: Literal["local", "redis"] = "local"
    """`local`: each gateway has its own cache and limits; `redis`: gateways share them, at the secret
    `ASSIST_REDIS_URL`."""


class Stack(Strict):
    """One deployment, as its user describes it."""

    name: Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
    """Name of the stack, and of its file."""
    target: Target
    """Where the service runs: on this machine (`local`), on `hosts` with systemd, on an existing cluster
    (`kubernetes`), or on a cluster that is created (`gke`)."""
    model: str
    """Id of a model in `catalogue/models.yaml`."""
    revision: str | None = None
    """Revision of the model. Default: the catalogue's."""
    accept_licence: str | None = None
    """Id of the model's licence, as the catalogue has it: required where it allows no commercial use. Says
    that you have read the licence and may use the model under it."""
    fim: Literal["none"] | None = None
    """`none`: the model does not fill in the middle, whatever the catalogue says. Default: the catalogue's
    `fim`, without which it does not either."""
    runtime: Literal["auto", "ctranslate2", "llama_cpp", "onnxruntime"] = "auto"
    """Runtime of the model in Triton; `auto`: the fastest at one stream, by measurement, for model and
    hardware (`catalogue/accelerators.yaml`, docs/adr/0006)."""
    precision: str = "auto"
    """Precision of the weights: `int8`, `int8_float16`, `float16`, `float32`, or a GGUF type such as `Q8_0`;
    `auto`: the best one of runtime and hardware."""
    context_length: Count | None = None
    """Tokens of prompt and completion together. Default: the model's, at most 8192, and as many as fit a
    GPU."""
    accelerator: AcceleratorSection = AcceleratorSection()
    engine: EngineSection = EngineSection()
    serving: ServingSection = ServingSection()
    triton: TritonSection = TritonSection()
    gateway: GatewaySection = GatewaySection()
    limits: LimitsSection = LimitsSection()
    auth: AuthSection = AuthSection()
    cache: CacheSection = CacheSection()
    jobs: JobsSection = JobsSection()
    monitoring: MonitoringSection = MonitoringSection()
    kubernetes: Kubernetes | None = None
    gke: Gke | None = None
    hosts: Hosts | None = None
