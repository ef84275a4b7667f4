"""Conflicts between settings that are each valid alone. Every check reports cause and remedy."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from stackfile import deadline, runtime_selection
from stackfile.catalogue import AcceleratorFacts, ModelFacts
from stackfile.document import Conflict
from stackfile.gke_checks import conflicts as gke_conflicts
from stackfile.hosts_checks import conflicts as hosts_conflicts
from stackfile.kubernetes_checks import conflicts as kubernetes_conflicts
from stackfile.kubernetes_checks import own_llama
from stackfile.licence_checks import conflicts as licence_conflicts
from stackfile.memory import Use
from stackfile.memory_checks import conflicts as memory_conflicts
from stackfile.memory_checks import use_of
from stackfile.stack import CLUSTERS, LimitsSection, Stack

# Where llama.cpp can use a GPU: by whether the stack is on a cluster.
_LLAMA_ON_GPU = {
    True: "engine.kind: openai with kubernetes.images.llama_cuda (llama.cpp's own server with CUDA)",
    False: "engine.kind: openai with engine.url of a llama.cpp server with CUDA that you run",
}


@dataclass(frozen=True)
class Selection:
    """A stack with its catalogue facts, and with runtime and precision selected for the hardware."""

    stack: Stack
    model: ModelFacts
    device: AcceleratorFacts
    runtime: str
    precision: str

    @classmethod
    def of(cls, stack: Stack, model: ModelFacts, device: AcceleratorFacts) -> "Selection":
        """Select runtime and precision where the stack says ``auto``."""
        if model.format == "gguf":
            auto = ("llama_cpp", next(iter(model.memory_gib)))
        else:
            precisions = device.precisions.get("ctranslate2", ())
            auto = runtime_selection.runtime(
                model.architecture, model.parameters, precisions, device.measured
            )
        name = auto[0] if stack.runtime == "auto" else stack.runtime
        selection = cls(stack, model, device, name, stack.precision)
        if stack.precision == "auto":
            offered = _offered(selection)
            best = auto[1] if name == auto[0] else next(iter(offered), "none")
            return replace(selection, precision=best)
        return selection

    @cached_property
    def use(self) -> Use:
        """How the model is served, with the slots and the context."""
        return use_of(self.stack, self.model, self.device, self.runtime, self.precision)

    @property
    def limits(self) -> LimitsSection:
        """The stack's limits, with the deadline and the grace period that model and device need."""
        stack = self.stack
        needed = deadline.derive(
            self.model, self.device, self.runtime, self.precision,
            max_tokens=stack.limits.max_tokens,
            context_length=self.use.context,
        )  # fmt: skip
        return deadline.complete(stack.limits, needed)


def _offered(selection: Selection) -> list[str]:
    """Return the precisions that runtime, accelerator and model all support, best first."""
    model = selection.model
    offered = {str(runtime): names for runtime, names in selection.device.precisions.items()}
    names = offered.get(selection.runtime, ())
    if model.format == "gguf":
        # A ready file keeps the type that it is written in, wherever llama.cpp runs at all; what a server of
        # the user's own runs on is the user's knowledge, and a cluster's has an image of its own for GPUs.
        runs = names or selection.stack.engine.url is not None or own_llama(selection.stack)
        return list(model.memory_gib) if runs and selection.runtime == "llama_cpp" else []
    return [name for name in names if name in model.memory_gib]


def all_conflicts(selection: Selection) -> Iterator[Conflict]:
    """Yield every conflict of the stack, in no particular order."""
    yield from licence_conflicts(selection.stack, selection.model)
    yield from _place(selection)
    yield from _format(selection)
    yield from _architecture(selection)
    yield from _precision(selection)
    yield from memory_conflicts(selection.stack, selection.device, selection.use, _offered(selection))
    yield from _split(selection)
    yield from _engine(selection.stack)
    yield from _ports(selection.stack)
    yield from _engine_wait(selection)
    yield from _jobs(selection.stack)
    yield from _context(selection)
    yield from _target(selection)
    yield from kubernetes_conflicts(selection.stack, selection.model, selection.device, selection.runtime)
    yield from gke_conflicts(selection.stack, selection.device)
    yield from hosts_conflicts(selection.stack)


def _place(selection: Selection) -> Iterator[Conflict]:
    if selection.model.on_this_machine and selection.stack.target != "local":
        yield (
            ("model",),
            f"{selection.stack.model} is in {selection.model.path} on this machine, which target"
            f" {selection.stack.target} does not have; add it from a hub, or give its entry `sources`"
            " with a mirror",
        )


def _format(selection: Selection) -> Iterator[Conflict]:
    if selection.model.format == "gguf" and selection.runtime != "llama_cpp":
        yield (
            ("runtime",),
            f"{selection.stack.model} is GGUF, which {selection.runtime} cannot read; set runtime: llama_cpp",
        )


def _architecture(selection: Selection) -> Iterator[Conflict]:
    stack, model = selection.stack, selection.model
    if model.format == "gguf":
        if reason := runtime_selection.unreadable(model.architecture, model.memory_gib):
            yield ("model",), f"{stack.model} cannot be served: {reason}; choose another model"
        return
    able = runtime_selection.converters(model.architecture)
    if not able:
        yield (
            ("model",),
            f"{stack.model} is {model.architecture}, which no runtime here converts from safetensors;"
            " choose a GGUF file of the model (format: gguf), which llama.cpp serves as it is",
        )
    elif selection.runtime not in able:
        yield (
            ("runtime",),
            f"{stack.model} is {model.architecture}, which cannot be converted for {selection.runtime}"
            f" ({', '.join(able)} can serve it); set runtime: auto",
        )


def _precision(selection: Selection) -> Iterator[Conflict]:
    kind, offered = selection.stack.accelerator.kind, _offered(selection)
    if selection.precision in offered:
        return
    if not offered and selection.runtime == "llama_cpp" and selection.device.is_gpu:
        yield (
            ("accelerator", "kind"),
            f"the pinned llama.cpp computes on CPUs only and would leave the {kind} idle; set kind: cpu,"
            f" {_LLAMA_ON_GPU[selection.stack.target in CLUSTERS]}, or a model in safetensors, which"
            " ctranslate2 serves on a GPU",
        )
    elif not offered:
        yield (
            ("accelerator", "kind"),
            f"{selection.runtime} cannot run {selection.stack.model} on {kind} in any precision;"
            " choose another runtime, model or accelerator",
        )
    else:
        yield (
            ("precision",),
            f"{selection.runtime} cannot run {selection.stack.model} as {selection.precision!r} on {kind};"
            f" set precision to one of: {', '.join(offered)}",
        )


def _split(selection: Selection) -> Iterator[Conflict]:
    accelerator = selection.stack.accelerator
    if accelerator.kind == "cpu" and accelerator.count > 1:
        yield ("accelerator", "count"), "must be 1 for a CPU; use serving.instances for more model instances"
    elif accelerator.count > 1 and accelerator.split is None:
        yield (
            ("accelerator", "split"),
            f"{accelerator.count} x {accelerator.kind} without a split would leave all but one idle;"
            " set split: replicate (one copy each) or count: 1",
        )
    elif accelerator.split == "layers" and not own_llama(selection.stack):
        yield ("accelerator", "split"), _no_layers(selection)
    elif accelerator.split == "layers" and accelerator.count == 1:
        yield ("accelerator", "split"), "layers needs several devices; raise count, or remove it"


def _no_layers(selection: Selection) -> str:
    """Return why the stack's engine cannot spread a model's layers, and what can."""
    if selection.stack.engine.url:
        return "the server at engine.url spreads the layers itself (--split-mode layer); remove it here"
    able = f"or {_LLAMA_ON_GPU[selection.stack.target in CLUSTERS]}, for a model whose format is gguf"
    if selection.runtime == "ctranslate2":
        return (
            "ctranslate2 splits a model over GPUs only under MPI, which Triton's Python backend does not use;"
            f" set split: replicate, or an int8 precision that fits one device, {able}"
        )
    return f"Triton's runtimes do not spread a model over GPUs; set count: 1, {able}"


def _engine(stack: Stack) -> Iterator[Conflict]:
    if stack.engine.kind == "openai" and not stack.engine.url and stack.target not in CLUSTERS:
        yield ("engine", "url"), "is required with kind: openai, e.g. http://127.0.0.1:8080/v1"
    if stack.engine.kind == "triton" and stack.engine.url:
        yield (
            ("engine", "url"),
            "applies to kind: openai only; Triton's address is triton.host and triton.grpc_port",
        )


def _ports(stack: Stack) -> Iterator[Conflict]:
    taken: dict[int, str] = {}
    for location, port in (
        (("gateway", "port"), stack.gateway.port),
        (("gateway", "metrics_port"), stack.gateway.metrics_port),
        (("triton", "http_port"), stack.triton.http_port),
        (("triton", "grpc_port"), stack.triton.grpc_port),
        (("triton", "metrics_port"), stack.triton.metrics_port),
    ):
        if port in taken:
            yield location, f"{port} is already used by {taken[port]}; give one of them another port"
        taken.setdefault(port, ".".join(location))


def _engine_wait(selection: Selection) -> Iterator[Conflict]:
    limits = selection.limits
    if "engine_wait_s" in limits.model_fields_set and limits.engine_wait_s >= limits.deadline_s:
        yield (
            ("limits", "engine_wait_s"),
            f"a request that waits {limits.engine_wait_s:g} s for its engine has no time left of"
            f" limits.deadline_s ({limits.deadline_s:g} s); lower engine_wait_s or raise deadline_s",
        )


def _jobs(stack: Stack) -> Iterator[Conflict]:
    jobs = stack.jobs
    if jobs.enabled and stack.target in CLUSTERS:
        yield (
            ("jobs", "enabled"),
            f"no worker runs on {stack.target} yet, so jobs would wait in the queue for ever; remove it, or"
            " use target: hosts",
        )
    if jobs.max_bytes > stack.limits.max_body_bytes:
        yield (
            ("jobs", "max_bytes"),
            f"{jobs.max_bytes} exceeds limits.max_body_bytes ({stack.limits.max_body_bytes}), which applies"
            " first; lower max_bytes or raise max_body_bytes",
        )


def _context(selection: Selection) -> Iterator[Conflict]:
    length = selection.stack.context_length
    if length and length > selection.model.context_length:
        yield (
            ("context_length",),
            f"{length} exceeds the {selection.model.context_length} tokens of {selection.stack.model};"
            " lower it or leave it out",
        )


def _target(selection: Selection) -> Iterator[Conflict]:
    stack = selection.stack
    if stack.target == "gke" and selection.device.is_gpu and selection.device.gke is not None:
        allowed = selection.device.gke.gpus_per_node
        if stack.accelerator.count not in allowed:
            offers = ", ".join(str(count) for count in allowed)
            yield (
                ("accelerator", "count"),
                f"GKE offers {offers} of {stack.accelerator.kind} on a node; set one of these",
            )
    if stack.gateway.host not in {"127.0.0.1", "::1", "localhost"} and stack.auth.mode == "none":
        yield (
            ("auth", "mode"),
            f"none lets everybody who can reach {stack.gateway.host} use the service; set keys or gitlab",
        )
