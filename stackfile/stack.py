"""The stack file: the few settings a user writes. Everything left out has the default that stands here."""

from typing import Annotated, Literal

from pydantic import Field

from stackfile.gke import Gke
from stackfile.hosts import Hosts
from stackfile.jobs import Jobs
from stackfile.kubernetes import Kubernetes
from stackfile.validation import Strict

Target = Literal["local", "hosts", "kubernetes", "gke"]
CLUSTERS = frozenset({"kubernetes", "gke"})
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Accelerator(Strict):
    """What the model runs on. ``count`` devices a node; ``split`` says how several devices share the work.

    ``replicate`` runs one copy of the model on each; ``tensor`` splits one model over all of them.
    """

    kind: str = "cpu"
    count: Count = 1
    split: Literal["replicate", "tensor"] | None = None


class Engine(Strict):
    """Who generates: our Triton, or any OpenAI-compatible server at ``url``."""

    kind: Literal["triton", "openai"] = "triton"
    url: str | None = None


class Serving(Strict):
    """How Triton batches. ``max_queue_delay_us`` is paid by every lone request, so it is 0 by default."""

    max_batch_size: Count = 64
    max_queue_size: Count = 256
    max_queue_delay_us: Annotated[int, Field(ge=0)] = 0
    instances: Count = 1
    intra_threads: Annotated[int, Field(ge=0)] = 0


class Triton(Strict):
    """Where Triton listens: HTTP for health, gRPC for the gateway, and its own metrics."""

    host: str = "127.0.0.1"
    http_port: Port = 8000
    grpc_port: Port = 8001
    metrics_port: Port = 8002


class Gateway(Strict):
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    port: Port = 5000
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 8082


class Limits(Strict):
    """What the gateway admits. Times in seconds, sizes in bytes or tokens; per-key limits are 0 for none.

    ``hold_s``: how long of its engine's absence requests wait for it; they need the rest of ``deadline_s``.
    """

    max_body_bytes: Count = 4 * 2**20
    max_in_flight: Count = 64
    max_queue: Annotated[int, Field(ge=0)] = 256
    queue_timeout_s: Seconds = 20.0
    deadline_s: Seconds = 30.0
    hold_s: Annotated[float, Field(ge=0)] = 15.0
    grace_s: Seconds = 30.0
    max_tokens: Count = 1024
    max_choices: Count = 16
    requests_per_minute: Annotated[int, Field(ge=0)] = 0
    tokens_per_minute: Annotated[int, Field(ge=0)] = 0
    concurrency: Annotated[int, Field(ge=0)] = 0


class Auth(Strict):
    """Who may ask: anybody, holders of our keys, or users of a GitLab instance."""

    mode: Literal["none", "keys", "gitlab"] = "keys"
    gitlab_url: str = "https://gitlab.com"
    gitlab_api_url: str = "https://gitlab.com/api/v4/"
    gitlab_check_path: str = "ml/ai-assist"
    gitlab_check_json: str = "user_is_allowed"


class Cache(Strict):
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
    accelerator: Accelerator = Accelerator()
    engine: Engine = Engine()
    serving: Serving = Serving()
    triton: Triton = Triton()
    gateway: Gateway = Gateway()
    limits: Limits = Limits()
    auth: Auth = Auth()
    cache: Cache = Cache()
    jobs: Jobs = Jobs()
    kubernetes: Kubernetes | None = None
    gke: Gke | None = None
    hosts: Hosts | None = None
