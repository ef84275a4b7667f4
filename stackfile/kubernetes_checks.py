"""Conflicts within the ``kubernetes`` section, and between the section and the rest of the stack."""

from collections.abc import Iterator

from stackfile.catalogue import AcceleratorFacts, ModelFacts
from stackfile.document import Conflict
from stackfile.kubernetes import DIGEST, LLAMA_CUDA, Kubernetes, complete
from stackfile.stack import CLUSTERS, Stack

# Of llama.cpp's CUDA build, which CUDA 12 limits.
_LLAMA_CAPABILITY = 5.0


def conflicts(stack: Stack, model: ModelFacts, device: AcceleratorFacts, runtime: str) -> Iterator[Conflict]:
    """Yield every conflict of the ``kubernetes`` section, which is optional on a cluster."""
    if stack.target not in CLUSTERS:
        if stack.kubernetes is not None:
            yield (
                ("kubernetes",),
                f"applies to target: kubernetes or gke only, not {stack.target}; remove it",
            )
        return
    label = device.gke.accelerator if device.gke else None
    kubernetes = complete(
        stack.kubernetes,
        gke=stack.target == "gke",
        gpu=device.is_gpu,
        gpu_label=label,
        own_llama=own_llama(stack),
        pickled=model.format == "pickle",
    )
    yield from _replicas(kubernetes)
    yield from _store(stack, kubernetes, device)
    yield from _surge(kubernetes, device)
    yield from _engine(stack)
    yield from _llama(stack, model, runtime)
    if device.is_gpu and own_llama(stack):
        yield from _llama_gpu(stack, kubernetes, device)
    elif kubernetes.images.llama_cuda:
        yield (
            ("kubernetes", "images", "llama_cuda"),
            "applies to engine.kind: openai without engine.url on a GPU only; remove it",
        )
    yield from _binding(stack)
    if stack.monitoring.traces:
        yield (
            ("monitoring", "traces"),
            "is not available on clusters: the gateway's image has no OpenTelemetry; remove it",
        )


def own_llama(stack: Stack) -> bool:
    """Return whether the cluster runs llama.cpp's server: the engine is ``openai`` and has no address."""
    return stack.target in CLUSTERS and stack.engine.kind == "openai" and not stack.engine.url


def _replicas(kubernetes: Kubernetes) -> Iterator[Conflict]:
    gateway = kubernetes.gateway
    if gateway.max_replicas < gateway.replicas:
        yield (
            ("kubernetes", "gateway", "max_replicas"),
            f"{gateway.max_replicas} is below replicas ({gateway.replicas}); raise it or lower replicas",
        )


def _store(stack: Stack, kubernetes: Kubernetes, device: AcceleratorFacts) -> Iterator[Conflict]:
    store, where = kubernetes.store, ("kubernetes", "store")
    if store.kind == "host_path" and store.path is None:
        yield (*where, "path"), "is required with kind: host_path, e.g. /var/lib/ai-assist"
    if store.kind == "pvc" and store.path is not None:
        yield (*where, "path"), "applies to kind: host_path only; remove it, or set kind: host_path"
    if store.kind == "host_path" and kubernetes.shared_cluster:
        yield (
            (*where, "kind"),
            "host_path needs a PersistentVolume, which a shared cluster does not allow; set pvc",
        )
    once = store.access_mode == "ReadWriteOnce"
    if once and stack.target == "gke":
        yield (
            (*where, "access_mode"),
            "ReadWriteOnce keeps gateway, loader and GPU on one node, but GKE has a pool for each; set"
            " access_mode: ReadWriteMany and storage_class: standard-rwx (Filestore), or leave store out",
        )
    elif once and device.is_gpu and not kubernetes.engine.node_selector:
        yield (
            ("kubernetes", "llama" if kubernetes.llama else "triton", "node_selector"),
            "is required with a ReadWriteOnce store: the gateway could start on a node without GPUs and keep"
            " the volume there; select the GPU nodes, or set store.access_mode: ReadWriteMany",
        )


def _surge(kubernetes: Kubernetes, device: AcceleratorFacts) -> Iterator[Conflict]:
    if kubernetes.engine.spare_gpus and not device.is_gpu:
        yield (
            ("kubernetes", "llama" if kubernetes.llama else "triton", "spare_gpus"),
            "has no effect on a CPU, which always surges; remove it",
        )


def _engine(stack: Stack) -> Iterator[Conflict]:
    if stack.engine.kind == "openai" and stack.kubernetes and "triton" in stack.kubernetes.model_fields_set:
        yield ("kubernetes", "triton"), "applies to engine.kind: triton only; remove it"


def _llama(stack: Stack, model: ModelFacts, runtime: str) -> Iterator[Conflict]:
    if not own_llama(stack):
        if stack.kubernetes and stack.kubernetes.llama:
            yield (
                ("kubernetes", "llama"),
                "applies to engine.kind: openai without engine.url only; remove it",
            )
        return
    if runtime != "llama_cpp":
        yield (
            ("runtime",),
            f"{runtime} runs in Triton only, but the engine openai without engine.url is llama.cpp's server;"
            " set runtime: llama_cpp, or engine.url of a server that you run",
        )
    elif model.format != "gguf":
        # Our converter names tokens by their ids, because Triton exchanges ids with the gateway.
        yield (
            ("model",),
            f"{stack.model} has no GGUF file with the texts of its tokens, so llama.cpp's own server would"
            " return token numbers; choose a model whose format is gguf, or engine.kind: triton",
        )


def _llama_gpu(stack: Stack, kubernetes: Kubernetes, device: AcceleratorFacts) -> Iterator[Conflict]:
    kind = stack.accelerator.kind
    if float(device.compute_capability or 0) < _LLAMA_CAPABILITY:
        yield (
            ("accelerator", "kind"),
            f"llama.cpp's CUDA image has no code for the {kind} (compute capability"
            f" {device.compute_capability}, {_LLAMA_CAPABILITY} is the least); choose another accelerator",
        )
    if kubernetes.images.llama_cuda is None:
        yield (
            ("kubernetes", "images"),
            "llama_cuda is required: our own image of llama.cpp computes on CPUs only. Set it to"
            f" {LLAMA_CUDA}@sha256:…, with the digest that this prints: {DIGEST}",
        )
    if stack.accelerator.split == "replicate":
        yield (
            ("accelerator", "split"),
            "llama.cpp's server has one copy of the model; set split: layers, or count: 1 and"
            " kubernetes.llama.replicas",
        )


def _binding(stack: Stack) -> Iterator[Conflict]:
    if stack.auth.mode == "none":
        yield (
            ("auth", "mode"),
            "none lets every pod of the cluster use the service; set keys or gitlab",
        )
    loopback = {"127.0.0.1", "::1", "localhost"}
    for part in ("gateway", "triton"):
        section = getattr(stack, part)
        if "host" in section.model_fields_set and section.host in loopback:
            yield (
                (part, "host"),
                f"{section.host} is reachable from within the pod only; leave it out on a cluster",
            )
