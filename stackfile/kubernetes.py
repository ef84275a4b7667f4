"""The ``kubernetes`` section of a stack. Sizes: ``cpu_m`` in thousandths of a core, ``*_mib`` in MiB."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from stackfile.fields import Count
from stackfile.validation import Strict
from stackfile.version import VERSION

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
_REFERENCE = re.compile(
    r"[a-z0-9][a-z0-9._/-]*(:[0-9]+/[a-z0-9._/-]+)?(:(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)


def _fixed(image: str) -> str:
    match = _REFERENCE.fullmatch(image)
    if match is None:
        raise ValueError("is not an image reference; write name:tag or name@sha256:<64 hex digits>")
    if not match["digest"] and match["tag"] in {None, "latest"}:
        raise ValueError("has a mutable tag; give a tag other than latest, or better a digest")
    return image


def _by_digest(image: str) -> str:
    if "@sha256:" not in image:
        raise ValueError(f"needs a digest, because its tags move with every release; print it with: {DIGEST}")
    return _fixed(image)


# llama.cpp's own image of its server with CUDA, and what prints the digest of the current one.
LLAMA_CUDA = "ghcr.io/ggml-org/llama.cpp"
DIGEST = f"docker buildx imagetools inspect {LLAMA_CUDA}:server-cuda --format '{{{{.Manifest.Digest}}}}'"
Image = Annotated[str, AfterValidator(_fixed)]
DigestImage = Annotated[str, AfterValidator(_by_digest)]


# Built by images/build: for CPUs from NVIDIA's wheel, for GPUs from NVIDIA's container, which has CUDA.
TRITON_CPU = f"localhost/ai-assist/triton:{VERSION}"
TRITON_GPU = f"localhost/ai-assist/triton:{VERSION}-gpu"
# The loader with torch, for models with pickled weights only.
LOADER_TORCH = f"localhost/ai-assist/loader:{VERSION}-torch"


class Images(Strict):
    """The container images; the defaults are the names that images/build gives them."""

    gateway: Image = f"localhost/ai-assist/gateway:{VERSION}"
    """Image of the gateway, by tag or digest; the tag `latest` is refused."""
    loader: Image = f"localhost/ai-assist/loader:{VERSION}"
    """Image of the model loader. For a model whose format is pickle the default has the tag with torch."""
    llama_cuda: DigestImage | None = None
    """llama.cpp's official server with CUDA, by digest: needed with engine `openai` on a GPU."""
    triton: Image = TRITON_CPU
    """Image of Triton and of llama.cpp's server. On a GPU the default has the tag for GPUs."""
    redis: Image = "redis:7.2.5-bookworm"
    """Image of Redis."""


class StoreVolume(Strict):
    """The volume of the model store. ``path`` is a directory of the node, for ``host_path`` only.

    A ``ReadWriteOnce`` volume keeps every pod that reads the model on one node.
    """

    kind: Literal["pvc", "host_path"] = "pvc"
    """`pvc`, or `host_path` with `path`."""
    size_gib: Count = 20
    """Size of the volume in GiB. On GKE the default is 1024, Filestore's smallest."""
    storage_class: DnsLabel | None = None
    """Storage class. Default: the cluster's; on GKE `standard-rwx` (Filestore)."""
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"
    """`ReadWriteOnce` keeps every pod that reads the model on one node; `ReadWriteMany` does not."""
    path: Annotated[str, StringConstraints(pattern=r"^/[^/]")] | None = None
    """Folder of the node, with kind `host_path`."""


class GatewayPods(Strict):
    """The gateways: their size, and their number, between ``replicas`` and ``max_replicas`` by CPU use."""

    replicas: Count = 2
    """Least number of gateways."""
    max_replicas: Count = 6
    """Largest number of gateways."""
    cpu_percent: Annotated[int, Field(ge=10, le=100)] = 80
    """CPU use in percent of the request that the autoscaler aims at."""
    cpu_m: Count = 250
    """CPU of a gateway, request and limit, in thousandths of a core."""
    memory_mib: Count | None = None
    """Memory of a gateway, request and limit, in MiB. Default: what it takes (docs/memory.md); less is
    refused."""


class TritonPods(Strict):
    """The Triton servers: number, size and nodes. A rolling update may use ``spare_gpus`` for its surge."""

    replicas: Count = 1
    """Number of Triton pods."""
    cpu_m: Count = 1000
    """CPU of a Triton pod, request and limit, in thousandths of a core."""
    memory_mib: Count | None = None
    """Memory of a Triton pod, request and limit, in MiB. Default: what it takes (docs/memory.md); less is
    refused."""
    shm_mib: Count = 256
    """Shared memory of a Triton pod in MiB."""
    spare_gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs that a rolling update may use in addition."""
    startup_timeout_s: Count = 1200
    """Seconds within which Triton must have loaded the model."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes for Triton. On GKE the default is the accelerator's label."""


# The Service of llama.cpp's server where the cluster runs one.
LLAMA_PORT = 8080
LLAMA_URL = f"http://llama:{LLAMA_PORT}/v1"


class LlamaPods(Strict):
    """llama.cpp's server, the engine ``openai`` without a ``url``: number and size."""

    replicas: Count = 1
    """Number of llama.cpp's servers."""
    cpu_m: Count = 1000
    """CPU of a server, request and limit, in thousandths of a core."""
    memory_mib: Count | None = None
    """Memory of a server, request and limit, in MiB. Default: what it takes (docs/memory.md); less is
    refused."""
    startup_timeout_s: Count = 1200
    """Seconds within which a server must have loaded the model."""
    spare_gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs that a rolling update may use in addition."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels of the nodes for the servers. On GKE the default is the accelerator's label."""


class LoaderPods(Strict):
    """The Job that fills the store: its size, its retries, and how long `pulumi up` waits for it."""

    cpu_m: Count = 500
    """CPU of the loader, request and limit, in thousandths of a core."""
    memory_mib: Count | None = None
    """Memory of the loader, request and limit, in MiB. Default: what it takes (docs/memory.md); less is
    refused."""
    retries: Annotated[int, Field(ge=0)] = 10
    """Retries of a failed loader."""
    wait_timeout_s: Count = 900
    """Seconds for which `pulumi up` and the other pods wait for the model."""
    https_proxy: str | None = None
    """Proxy by which the loader reaches the model hub."""
    no_proxy: str | None = None
    """Hosts that the loader reaches without the proxy."""
    package_index: str | None = None
    """Address of the Python package index, for models that a source `index` has."""


class IngressSettings(Strict):
    """The Ingress for editors outside the cluster, always with TLS. ``annotations`` go to the controller."""

    host: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")]
    """Host name of the Ingress."""
    class_name: DnsLabel
    """Class of the Ingress controller."""
    tls_secret: DnsLabel
    """Secret with the certificate."""
    namespace: DnsLabel = "ingress-nginx"
    """Namespace of the Ingress controller, which may reach the gateway."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations of the Ingress, for its controller."""


class Monitoring(Strict):
    """Where Prometheus runs. ``service_monitor`` needs the Prometheus operator's CRDs in the cluster."""

    namespace: DnsLabel = "monitoring"
    """Namespace of Prometheus, which may reach the metrics."""
    service_monitor: bool = False
    """Whether ServiceMonitors are created; needs the Prometheus operator's CRDs."""


class Kubernetes(Strict):
    """How the service runs on a cluster. ``shared_cluster``: the namespace exists, and nothing else is ours.

    ``registry`` is a private registry's host; pods log in to it with the secret ``gitlab-registry``.
    """

    namespace: DnsLabel = "ai-assist"
    """Namespace of every object."""
    shared_cluster: bool = False
    """Whether the namespace exists already and no object outside it is created."""
    registry: str | None = None
    """Host of a private registry; pods log in with the secret `gitlab-registry`."""
    images: Images = Images()
    store: StoreVolume = StoreVolume()
    gateway: GatewayPods = GatewayPods()
    triton: TritonPods = TritonPods()
    llama: LlamaPods | None = None
    loader: LoaderPods = LoaderPods()
    ingress: IngressSettings | None = None
    monitoring: Monitoring = Monitoring()

    @property
    def engine(self) -> TritonPods | LlamaPods:
        """The pods of the engine."""
        return self.llama or self.triton


# Filestore's smallest basic instance is 1 TiB; GKE has no other built-in class that many nodes can mount.
GKE_STORE = StoreVolume(storage_class="standard-rwx", access_mode="ReadWriteMany", size_gib=1024)


def complete(
    section: Kubernetes | None, *, gke: bool, gpu: bool, gpu_label: str | None, own_llama: bool, pickled: bool
) -> Kubernetes:
    """Return the section with the defaults that depend on target, hardware and model.

    On GKE the store is Filestore, because several node pools mount it, and ``gpu_label`` selects the GPUs.
    ``pickled``: the model has pickled weights only.
    """
    kubernetes = section or Kubernetes()
    images = ({"triton": TRITON_GPU} if gpu else {}) | ({"loader": LOADER_TORCH} if pickled else {})
    for name in kubernetes.images.model_fields_set:
        images.pop(name, None)
    changed: dict[str, object] = {"images": kubernetes.images.model_copy(update=images)} if images else {}
    if own_llama and kubernetes.llama is None:
        kubernetes = kubernetes.model_copy(update={"llama": LlamaPods()})
    if gke and "store" not in kubernetes.model_fields_set:
        changed["store"] = GKE_STORE
    if gke and gpu_label is not None:
        pods = kubernetes.engine
        selector = {"cloud.google.com/gke-accelerator": gpu_label} | pods.node_selector
        part = "llama" if kubernetes.llama else "triton"
        changed[part] = pods.model_copy(update={"node_selector": selector})
    return kubernetes.model_copy(update=changed)
