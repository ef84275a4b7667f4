"""How a stack uses memory, and every limit that is too small for it, each with settings that would fit."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from stackfile import catalogue, node_memory
from stackfile.catalogue import AcceleratorFacts, ModelFacts
from stackfile.document import Conflict, Location
from stackfile.hosts import Hosts
from stackfile.kubernetes import Kubernetes
from stackfile.kubernetes_checks import own_llama
from stackfile.memory import DEFAULT_SLOTS, USABLE_SHARE, Fitting, Memory, Use, default_context
from stackfile.resolved import ResolvedStack
from stackfile.stack import Stack

_GPU_SLOTS = 2 * DEFAULT_SLOTS - 1


def use_of(stack: Stack, model: ModelFacts, device: AcceleratorFacts, runtime: str, precision: str) -> Use:
    """Return how the stack serves its model; slots and context that it does not set fit a GPU."""
    context, slots = stack.context_length, stack.serving.slots
    use = Use(
        model=model,
        runtime=runtime,
        precision=precision,
        context=context or default_context(model),
        slots=slots or (_GPU_SLOTS if device.is_gpu else DEFAULT_SLOTS),
        engine=_engine(stack, own=own_llama(stack)),
        **_processes(stack, gpu=device.is_gpu),
    )
    fitting = Fitting(lambda each: each.device, _device_limit(device))
    if fitting.fits(use) or (context and slots):
        return use
    if context:
        return fitting.fewer_slots(use) or use
    return (fitting.shorter_context(use) if slots else fitting.fewest_changes(use)) or use


def use_resolved(stack: ResolvedStack) -> Use:
    """Return how a resolved stack serves its model."""
    own = stack.kubernetes is not None and stack.kubernetes.llama is not None
    return Use(
        model=stack.model,
        runtime=stack.runtime,
        precision=stack.precision,
        context=stack.context_length,
        slots=stack.serving.slots or DEFAULT_SLOTS,
        engine=_engine(stack, own=own),
        **_processes(stack, gpu=stack.accelerator.is_gpu),
    )


def _engine(stack: Stack | ResolvedStack, *, own: bool) -> str:
    return "triton" if stack.engine.kind == "triton" else "llama" if own else "external"


def _processes(stack: Stack | ResolvedStack, *, gpu: bool) -> dict[str, int]:
    count = stack.accelerator.count
    return {
        "instances": stack.serving.instances,
        "devices": count if gpu else 0,
        "split": count if stack.accelerator.split == "layers" else 1,
    }


def memory_of(stack: Stack, use: Use) -> Memory:
    """Return the memory of the stack's processes: what they take, or larger limits that the stack sets."""
    limits = dict[str, int | None]()
    for at, limit, _ in _limits(stack, use):
        limits[str(at[-2])] = limit
    own = use.engine != "external"
    return Memory(
        loader_mib=limits.get("loader") or (use.loader if own else 0),
        gateway_mib=limits.get("gateway") or use.gateway(stack.limits.max_in_flight),
        engine_mib=limits.get("triton") or limits.get("llama") or use.host,
        device_mib=use.device if own else 0,
        weights_mib=use.weights if own else 0,
        cache_mib=use.cache if own else 0,
        workspace_mib=use.workspace if own else 0,
    )


def smaller(use: Use, offered: Sequence[str]) -> tuple[tuple[str, Use], ...]:
    """Return the quantisations below the use's, largest first: precisions, or files of a like model.

    Files without a checksum come last, and say what makes them usable.
    """
    model = use.model
    if model.format == "gguf":
        choices = [
            (_named(name, facts), replace(use, model=facts, precision=next(iter(facts.memory_gib))))
            for name, facts in catalogue.models().items()
            if facts.format == "gguf" and _shape(facts) == _shape(model)
        ]
    else:
        choices = [(f"precision: {name}", replace(use, precision=name)) for name in offered]
    less = [choice for choice in choices if choice[1].weights < use.weights]
    return tuple(sorted(less, key=lambda choice: (not _usable(choice[1].model), -choice[1].weights)))


def conflicts(stack: Stack, device: AcceleratorFacts, use: Use, offered: Sequence[str]) -> Iterator[Conflict]:
    """Yield every limit that the stack exceeds: of the accelerator, of a process, and of GKE's nodes."""
    if use.engine == "external" or not use.weights:
        return
    yield from _device(stack, device, use, offered)
    for at, limit, need in _limits(stack, use):
        if limit is not None and limit < need(use):
            ways = [f"{at[-1]}: {need(use)}"]
            if at[-2] in {"triton", "llama"}:
                ways += Fitting(need, limit, smaller(use, offered)).remedies(use)
            cause = _parts(stack, use, need(use))
            yield at, f"{limit} MiB is too little: {cause}; set {_listed(ways)}"
    yield from _nodes(stack, device, use, offered)


def described(model: str, use: Use, total_mib: int) -> str:
    """Return what a model takes, in words: weights, cache and workspace in GiB."""
    gib = [part / 1024 for part in (use.weights, use.cache, use.workspace)]
    return (
        f"{model} as {use.precision} takes {total_mib / 1024:.1f} GiB ({gib[0]:.1f} of weights, {gib[1]:.1f}"
        f" of cache for {use.slots} x {use.context} tokens, {gib[2]:.1f} to compute in)"
    )


def memory_words(stack: ResolvedStack) -> str:
    """Return the memory of every process of a stack, for a reader of a plan."""
    memory = stack.memory
    parts = {
        "loader": memory.loader_mib,
        "engine": memory.engine_mib,
        "each GPU": memory.device_mib,
        "each gateway": memory.gateway_mib,
    }
    said = ", ".join(f"{name} {mib / 1024:.2f} GiB" for name, mib in parts.items() if mib)
    return f"{said} ({stack.serving.slots} slots of {stack.context_length} tokens)"


def _parts(stack: Stack, use: Use, need: int) -> str:
    return described(stack.model, use, need) if need in {use.host, use.device} else f"{need} MiB are needed"


def _usable(model: ModelFacts) -> bool:
    return model.format != "gguf" or model.pinned


def _named(name: str, model: ModelFacts) -> str:
    return f"model: {name}" + ("" if model.pinned else f" (once `assist models pin {name}` has pinned it)")


def _shape(model: ModelFacts) -> tuple[object, ...]:
    return model.architecture, model.layers, model.width, model.kv_width, model.heads


def _device_limit(device: AcceleratorFacts) -> int:
    return int(device.memory_gib * 1024 * USABLE_SHARE) if device.memory_gib else sys.maxsize


def _device(stack: Stack, device: AcceleratorFacts, use: Use, offered: Sequence[str]) -> Iterator[Conflict]:
    limit = _device_limit(device)
    if use.device <= limit:
        return
    ways = Fitting(lambda each: each.device, limit, smaller(use, offered)).remedies(use)
    yield (
        ("model",),
        f"{described(stack.model, use, use.device)}, but {stack.accelerator.kind} offers"
        f" {limit / 1024:.1f} GiB; {_remedy(ways, 'a smaller model or a larger accelerator')}",
    )


def _limits(stack: Stack, use: Use) -> Iterator[tuple[Location, int | None, Callable[[Use], int]]]:
    """Yield each limit that a stack can set: where, its value in MiB or None, and what is needed."""

    def gateway(each: Use) -> int:
        return each.gateway(stack.limits.max_in_flight)

    if stack.target == "hosts":
        hosts = stack.hosts or Hosts()
        yield ("hosts", "gateway", "memory_mib"), hosts.gateway.memory_mib, gateway
        yield ("hosts", "triton", "memory_mib"), hosts.triton.memory_mib, lambda each: each.host
    elif stack.target != "local":
        kubernetes = stack.kubernetes or Kubernetes()
        yield ("kubernetes", "gateway", "memory_mib"), kubernetes.gateway.memory_mib, gateway
        yield ("kubernetes", "loader", "memory_mib"), kubernetes.loader.memory_mib, lambda each: each.loader
        if use.engine == "triton":
            yield ("kubernetes", "triton", "memory_mib"), kubernetes.triton.memory_mib, lambda each: each.host
        elif use.engine == "llama" and kubernetes.llama:
            yield ("kubernetes", "llama", "memory_mib"), kubernetes.llama.memory_mib, lambda each: each.host


def _nodes(stack: Stack, device: AcceleratorFacts, use: Use, offered: Sequence[str]) -> Iterator[Conflict]:
    """Yield each pool of GKE whose nodes, of a known size, are too small for the largest pod on them."""
    if stack.gke is None or stack.gke.autopilot:
        return
    memory, gke = memory_of(stack, use), stack.gke
    pods = {"cpu_pool": max(memory.loader_mib, memory.gateway_mib)}
    engine_pool = "gpu_pool" if device.is_gpu else "cpu_pool"
    pods[engine_pool] = max(pods.get(engine_pool, 0), memory.engine_mib)
    for name, need in pods.items():
        pool = getattr(gke, name)
        machine = pool.machine_type or (device.gke.machine_type if device.gke else "")
        gib = node_memory.machine_gib(machine)
        if gib is None or need <= node_memory.for_pods(gib):
            continue
        limit = node_memory.for_pods(gib)
        ways = Fitting(lambda each: each.host, limit, smaller(use, offered)).remedies(use)
        yield (
            ("gke", name, "machine_type"),
            f"a node of type {machine} has {limit / 1024:.1f} GiB for pods, but"
            f" {_parts(stack, use, need)}; {_remedy(ways, 'a larger machine_type')}",
        )


def _remedy(ways: Sequence[str], otherwise: str) -> str:
    return f"set {_listed(ways)}, or choose {otherwise}" if ways else f"choose {otherwise}"


def _listed(ways: Sequence[str]) -> str:
    return ", or ".join(ways)
