"""What must hold between settings that are each valid alone. Every check says what, why and the remedy."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from stackfile import runtime_selection
from stackfile.catalogue import AcceleratorFacts, ModelFacts
from stackfile.document import Location
from stackfile.gke_checks import findings as gke_findings
from stackfile.hosts_checks import findings as hosts_findings
from stackfile.jobs_checks import findings as jobs_findings
from stackfile.kubernetes_checks import findings as kubernetes_findings
from stackfile.resolved import ResolvedStack
from stackfile.stack import CLUSTERS, Stack

# Share of a device's memory that the runtime, activations and the CUDA context leave to weights and KV cache.
USABLE_SHARE = 0.92
# Rows that must fit at full context for the service to be of use; batches of short prompts are far larger.
ROWS_AT_FULL_CONTEXT = 1
# Triton serves a unary model and its decoupled twin, two processes that each load the weights.
MODELS_IN_TRITON = 2

Finding = tuple[Location, str]


@dataclass(frozen=True)
class Choice:
    """A stack with its facts at hand and ``auto`` replaced by what is chosen for the hardware."""

    stack: Stack
    model: ModelFacts
    device: AcceleratorFacts
    runtime: str
    precision: str

    @classmethod
    def of(cls, stack: Stack, model: ModelFacts, device: AcceleratorFacts) -> "Choice":
        """Choose runtime and precision where the stack says ``auto``."""
        if model.format == "gguf":
            auto = ("llama_cpp", next(iter(model.memory_gib)))
        else:
            precisions = device.precisions.get("ctranslate2", ())
            auto = runtime_selection.runtime(
                model.architecture, model.parameters, precisions, device.measured
            )
        name = auto[0] if stack.runtime == "auto" else stack.runtime
        choice = cls(stack, model, device, name, stack.precision)
        if stack.precision == "auto":
            offered = _offered(choice)
            best = auto[1] if name == auto[0] else next(iter(offered), "none")
            return replace(choice, precision=best)
        return choice


def _offered(choice: Choice) -> list[str]:
    """Return the precisions that runtime, accelerator and model have in common, best first."""
    offered = {str(runtime): names for runtime, names in choice.device.precisions.items()}
    return [name for name in offered.get(choice.runtime, ()) if name in choice.model.memory_gib]


def all_findings(choice: Choice) -> Iterator[Finding]:
    """Yield every conflict of the stack, in no special order."""
    yield from _format(choice)
    yield from _architecture(choice)
    yield from _precision(choice)
    yield from _memory(choice)
    yield from _split(choice)
    yield from _engine(choice.stack)
    yield from _ports(choice.stack)
    yield from _hold(choice.stack)
    yield from _context(choice)
    yield from _target(choice)
    yield from kubernetes_findings(choice.stack, choice.model, choice.device, choice.runtime)
    yield from gke_findings(choice.stack, choice.device)
    yield from hosts_findings(choice.stack)
    yield from jobs_findings(choice.stack)


def _format(choice: Choice) -> Iterator[Finding]:
    if choice.model.format == "gguf" and choice.runtime != "llama_cpp":
        yield (
            ("runtime",),
            f"{choice.stack.model} is GGUF, which {choice.runtime} cannot read; set runtime: llama_cpp",
        )


def _architecture(choice: Choice) -> Iterator[Finding]:
    architecture = choice.model.architecture
    if choice.model.format == "safetensors" and not runtime_selection.converts(choice.runtime, architecture):
        yield (
            ("runtime",),
            f"{choice.stack.model} is {architecture}, which is not converted for {choice.runtime}"
            f" ({', '.join(sorted(runtime_selection.ARCHITECTURES[choice.runtime]))} are); set runtime: auto",
        )


def _precision(choice: Choice) -> Iterator[Finding]:
    kind, known = choice.stack.accelerator.kind, _offered(choice)
    if choice.precision in known:
        return
    if not known:
        yield (
            ("accelerator", "kind"),
            f"{choice.runtime} runs {choice.stack.model} in no precision on {kind}; choose another runtime,"
            " model or accelerator",
        )
    else:
        yield (
            ("precision",),
            f"{choice.runtime} cannot run {choice.stack.model} as {choice.precision!r} on {kind};"
            f" set precision to one of: {', '.join(known)}",
        )


def _memory(choice: Choice) -> Iterator[Finding]:
    weights = choice.model.memory_gib.get(choice.precision)
    if choice.device.memory_gib is None or weights is None:
        return
    stack = choice.stack
    devices = stack.accelerator.count if stack.accelerator.split == "tensor" else 1
    usable = choice.device.memory_gib * USABLE_SHARE * devices
    copies = model_copies(stack)
    cached = 4 if choice.precision in {"float32", "F32"} else 2
    cache = choice.model.kv_cache_gib(_context_length(choice) * ROWS_AT_FULL_CONTEXT, cached)
    if copies * weights + cache <= usable:
        return
    smaller = [name for name in _offered(choice) if copies * choice.model.memory_gib[name] + cache <= usable]
    remedy = f"set precision: {smaller[0]}" if smaller else "choose a smaller model or a larger accelerator"
    yield (
        ("model",),
        f"{stack.model} needs {copies} x {weights:.1f} GiB of weights as {choice.precision} (unary, stream)"
        f" and {cache:.1f} GiB of KV cache, but {stack.accelerator.kind} offers {usable:.1f} GiB;"
        f" {remedy}, or lower context_length",
    )


def model_copies(stack: Stack | ResolvedStack) -> int:
    """Return how often one device holds the weights."""
    return stack.serving.instances * (MODELS_IN_TRITON if stack.engine.kind == "triton" else 1)


def _split(choice: Choice) -> Iterator[Finding]:
    accelerator = choice.stack.accelerator
    if accelerator.kind == "cpu" and accelerator.count > 1:
        yield ("accelerator", "count"), "a CPU is not counted; use serving.instances for more model instances"
    elif accelerator.count > 1 and accelerator.split is None:
        yield (
            ("accelerator", "split"),
            f"{accelerator.count} x {accelerator.kind} asked for but no split is declared, so all but one"
            " would idle; set split: replicate (one copy each) or count: 1",
        )
    elif accelerator.split == "tensor" and choice.runtime == "ctranslate2":
        yield (
            ("accelerator", "split"),
            "ctranslate2 splits a model over GPUs only under MPI, which Triton's Python backend is not;"
            " set split: replicate, or an int8 precision that fits one device",
        )


def _engine(stack: Stack) -> Iterator[Finding]:
    if stack.engine.kind == "openai" and not stack.engine.url and stack.target not in CLUSTERS:
        yield ("engine", "url"), "is needed with kind: openai, e.g. http://127.0.0.1:8080/v1"
    if stack.engine.kind == "triton" and stack.engine.url:
        yield (
            ("engine", "url"),
            "is read with kind: openai only; Triton's address is triton.host and triton.grpc_port",
        )


def _ports(stack: Stack) -> Iterator[Finding]:
    taken: dict[int, str] = {}
    for location, port in (
        (("gateway", "port"), stack.gateway.port),
        (("gateway", "metrics_port"), stack.gateway.metrics_port),
        (("triton", "http_port"), stack.triton.http_port),
        (("triton", "grpc_port"), stack.triton.grpc_port),
        (("triton", "metrics_port"), stack.triton.metrics_port),
    ):
        if port in taken:
            yield location, f"{port} is {taken[port]} already; give one of them another port"
        taken.setdefault(port, ".".join(location))


def _hold(stack: Stack) -> Iterator[Finding]:
    limits = stack.limits
    if "hold_s" in limits.model_fields_set and limits.hold_s >= limits.deadline_s:
        yield (
            ("limits", "hold_s"),
            f"a request that is held {limits.hold_s:g} s has no time left of limits.deadline_s"
            f" ({limits.deadline_s:g} s); lower hold_s or raise deadline_s",
        )


def _context_length(choice: Choice) -> int:
    return choice.stack.context_length or choice.model.context_length


def _context(choice: Choice) -> Iterator[Finding]:
    wanted = choice.stack.context_length
    if wanted and wanted > choice.model.context_length:
        yield (
            ("context_length",),
            f"{wanted} exceeds the {choice.model.context_length} tokens of {choice.stack.model};"
            " lower it or leave it out",
        )


def _target(choice: Choice) -> Iterator[Finding]:
    stack = choice.stack
    if stack.target == "gke" and choice.device.is_gpu and choice.device.gke is not None:
        allowed = choice.device.gke.gpus_per_node
        if stack.accelerator.count not in allowed:
            offers = ", ".join(str(count) for count in allowed)
            yield ("accelerator", "count"), f"GKE offers {stack.accelerator.kind} by {offers} a node"
    if stack.gateway.host not in {"127.0.0.1", "::1", "localhost"} and stack.auth.mode == "none":
        yield (
            ("auth", "mode"),
            f"none would let anybody who reaches {stack.gateway.host} use the service; set keys or gitlab",
        )
