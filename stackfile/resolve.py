"""Stack file and catalogue resolved into one ResolvedStack."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from stackfile import catalogue, checks, renamed_keys
from stackfile.document import Document, read
from stackfile.errors import Problem, StackFileError
from stackfile.hosts import Hosts
from stackfile.jobs import resolved as resolved_jobs
from stackfile.kubernetes import LLAMA_URL, Kubernetes, complete
from stackfile.kubernetes_checks import own_llama
from stackfile.memory_checks import memory_of
from stackfile.resolved import ResolvedAccelerator, ResolvedModel, ResolvedStack
from stackfile.stack import CLUSTERS, GatewaySection, Stack, TritonSection
from stackfile.validation import validate

T = TypeVar("T")
P = TypeVar("P", TritonSection, GatewaySection)


def stack_file(stack: str, root: Path = catalogue.ROOT) -> Path:
    """Return the stack file that a user names: ``root/stacks/<stack>.yaml``, or the path itself."""
    return Path(stack) if stack.endswith((".yaml", ".yml")) else root / "stacks" / f"{stack}.yaml"


def load_stack(file: Path) -> ResolvedStack:
    """Read a stack file and resolve it with the catalogue.

    Keys under their former names are accepted, with one warning each in the log ``stackfile``. Raises
    StackFileError with every problem, each with file and line.
    """
    document, renamed, problems = renamed_keys.translate(read(file))
    renamed_keys.report(renamed)
    stack, invalid = validate(document, Stack, {"name": file.stem, "target": "local", "model": ""})
    problems += invalid
    if stack is None:
        raise StackFileError(problems)
    if stack.name != file.stem:
        problems.append(document.problem(("name",), f"must be {file.stem!r}, the file's own name"))
    model = None
    if stack.model:
        models = catalogue.models()
        model = _facts(document, ("model",), stack.model, models, catalogue.unknown_model, problems)
    kind = stack.accelerator.kind
    device = _facts(
        document, ("accelerator", "kind"), kind, catalogue.accelerators(), _unknown_accelerator, problems
    )
    selection = checks.Selection.of(stack, model, device) if model and device else None
    if selection:
        problems += [document.problem(at, message) for at, message in checks.all_conflicts(selection)]
    if problems or selection is None:
        raise StackFileError(problems)
    return _resolved(selection)


def _facts(
    document: Document,
    at: tuple[str, ...],
    name: str,
    facts: dict[str, T],
    hint: Callable[[str, dict[str, T]], str],
    problems: list[Problem],
) -> T | None:
    if name not in facts:
        problems.append(document.problem(at, f"{name!r} is not in the catalogue; {hint(name, facts)}"))
    return facts.get(name)


def _unknown_accelerator(name: str, facts: dict[str, catalogue.AcceleratorFacts]) -> str:
    close = difflib.get_close_matches(name, facts, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose one of: {', '.join(facts)}"


def _resolved(selection: checks.Selection) -> ResolvedStack:
    stack, count = selection.stack, selection.stack.accelerator.count
    facts = selection.model.model_dump() | {"revision": stack.revision or selection.model.revision}
    if stack.fim == "none":
        facts["fim"] = None
    return ResolvedStack.model_validate(
        {
            "name": stack.name,
            "target": stack.target,
            "model": ResolvedModel(id=stack.model, **facts),
            "accept_licence": stack.accept_licence,
            "runtime": selection.runtime,
            "precision": selection.precision,
            "context_length": selection.use.context,
            "accelerator": ResolvedAccelerator(
                kind=stack.accelerator.kind,
                count=count,
                split="none" if count == 1 else stack.accelerator.split or "none",
                **selection.device.model_dump(exclude={"measurements"}),
            ),
            "triton": _listening(stack, stack.triton, host="triton"),
            "gateway": _listening(stack, stack.gateway, host="0.0.0.0", metrics_host="0.0.0.0"),  # noqa: S104 -- in a pod, NetworkPolicies decide who connects
            "kubernetes": _on_cluster(selection),
            "jobs": resolved_jobs(stack.jobs, stack.target),
            "hosts": stack.hosts or Hosts() if stack.target == "hosts" else None,
            "engine": stack.engine.model_copy(update={"url": LLAMA_URL})
            if own_llama(stack)
            else stack.engine,
            "serving": stack.serving.model_copy(update={"slots": selection.use.slots}),
            "memory": memory_of(stack, selection.use),
            "limits": selection.limits,
            **{part: getattr(stack, part) for part in ("auth", "cache", "gke", "monitoring")},
        }
    )


def _listening(stack: Stack, part: P, **hosts: str) -> P:
    """Return ``part`` with addresses that other pods can reach, where the stack sets none.

    Triton's host is the name of its headless Service, so that gRPC clients find every pod behind the Service.
    """
    if stack.target not in CLUSTERS:
        return part
    return part.model_copy(update={key: to for key, to in hosts.items() if key not in part.model_fields_set})


def _on_cluster(selection: checks.Selection) -> Kubernetes | None:
    stack, device = selection.stack, selection.device
    if stack.target not in CLUSTERS:
        return None
    label = device.gke.accelerator if device.gke else None
    return complete(
        stack.kubernetes,
        gke=stack.target == "gke",
        gpu=device.is_gpu,
        gpu_label=label,
        own_llama=own_llama(stack),
        pickled=selection.model.format == "pickle",
    )
