"""The stack file's own sections. A setting that the file leaves out has the default given here."""

from typing import Annotated, Literal

from pydantic import Field

from stackfile.fields import Count, Port, Seconds
from stackfile.gke import Gke
from stackfile.hosts import Hosts
from stackfile.jobs import JobsSection
from stackfile.kubernetes import Kubernetes
from stackfile.validation import Strict

Target = Literal["local", "hosts", "kubernetes", "gke"]
CLUSTERS = frozenset({"kubernetes", "gke"})


class AcceleratorSection(Strict):
    """What the model runs on. ``count`` devices a node; ``split`` says how several devices share the work.

    ``replicate`` runs one copy of the model on each; ``tensor`` splits one model over all of them.
    """

    kind: str = "cpu"
    count: Count = 1
    split: Literal["replicate", "tensor"] | None = None


class EngineSection(Strict):
    """The engine: our Triton, or any OpenAI-compatible server at ``url``."""

    kind: Literal["triton", "openai"] = "triton"
    url: str | None = None


class ServingSection(Strict):
    """How Triton batches. Every lone request pays ``max_queue_delay_us``, so its default is 0."""

    max_batch_size: Count = 64
    max_queue_size: Count = 256
    max_queue_delay_us: Annotated[int, Field(ge=0)] = 0
    instances: Count = 1
    intra_threads: Annotated[int, Field(ge=0)] = 0


class TritonSection(Strict):
    """Where Triton listens: HTTP for health, gRPC for the gateway, and its own metrics."""

    host: str = "127.0.0.1"
    http_port: Port = 8000
    grpc_port: Port = 8001
    metrics_port: Port = 8002


class GatewaySection(Strict):
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    port: Port = 5000
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 8082


class LimitsSection(Strict):
    """The gateway's limits. Times in seconds, sizes in bytes or tokens; a per-key limit of 0 limits nothing.

    ``engine_wait_s``: how long, from the beginning of its engine's absence, requests wait for the engine;
    the completion itself takes the rest of ``deadline_s``.
    """

    max_body_bytes: Count = 4 * 2**20
    max_in_flight: Count = 64
    max_queue: Annotated[int, Field(ge=0)] = 256
    queue_timeout_s: Seconds = 20.0
    deadline_s: Seconds = 30.0
    engine_wait_s: Annotated[float, Field(ge=0)] = 15.0
    grace_s: Seconds = 30.0
    max_tokens: Count = 1024
    max_choices: Count = 16
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    concurrency: Annotated[int, Field(ge=0)] = 0


class AuthSection(Strict):
    """Who may call the gateway: anybody, holders of our keys, or users of a GitLab instance."""

    mode: Literal["none", "keys", "gitlab"] = "keys"
    gitlab_url: str = "https://gitlab.com"
    gitlab_api_url: str = "https://gitlab.com/api/v4/"
    gitlab_check_path: str = "ml/ai-assist"
    gitlab_check_json: str = "user_is_allowed"


class CacheSection(Strict):
    """Where positive GitLab answers and shared limits live. ``redis`` needs the secret ASSIST_REDIS_URL."""

    kind: Literal["local", "redis"] = "local"


class Stack(Strict):
    """One deployment, as its user describes it."""

    name: Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
    target: Target
    model: str
    revision: str | None = None
    runtime: Literal["auto", "ctranslate2", "llama_cpp", "onnxruntime"] = "auto"
    precision: str = "auto"
    context_length: Count | None = None
    accelerator: AcceleratorSection = AcceleratorSection()
    engine: EngineSection = EngineSection()
    serving: ServingSection = ServingSection()
    triton: TritonSection = TritonSection()
    gateway: GatewaySection = GatewaySection()
    limits: LimitsSection = LimitsSection()
    auth: AuthSection = AuthSection()
    cache: CacheSection = CacheSection()
    jobs: JobsSection = JobsSection()
    kubernetes: Kubernetes | None = None
    gke: Gke | None = None
    hosts: Hosts | None = None
