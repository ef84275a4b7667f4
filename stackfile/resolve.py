"""Stack file + catalogue -> Service."""

import difflib
from pathlib import Path
from typing import TypeVar

from stackfile import catalogue, checks
from stackfile.document import Document, read
from stackfile.errors import Problem, StackFileError
from stackfile.hosts import Hosts
from stackfile.jobs import resolved as resolved_jobs
from stackfile.kubernetes import LLAMA_URL, Kubernetes, complete
from stackfile.kubernetes_checks import own_llama
from stackfile.resolved import Accelerator, Model, ResolvedStack
from stackfile.stack import CLUSTERS, Gateway, Stack, Triton
from stackfile.validation import validate

T = TypeVar("T")
P = TypeVar("P", Triton, Gateway)


def load_stack(file: Path) -> ResolvedStack:
    """Read a stack file and resolve it. Raises StackFileError with every problem, each with file and line."""
    document = read(file)
    stack, problems = validate(document, Stack, {"name": file.stem, "target": "local", "model": ""})
    if stack is None:
        raise StackFileError(problems)
    if stack.name != file.stem:
        problems.append(document.problem(("name",), f"must be {file.stem!r}, the file's own name"))
    model = _known(document, ("model",), stack.model, catalogue.models(), problems) if stack.model else None
    device = _known(
        document, ("accelerator", "kind"), stack.accelerator.kind, catalogue.accelerators(), problems
    )
    choice = checks.Choice.of(stack, model, device) if model and device else None
    if choice:
        problems += [document.problem(at, message) for at, message in checks.all_findings(choice)]
    if problems or choice is None:
        raise StackFileError(problems)
    return _service(choice)


def _known(
    document: Document, at: tuple[str, ...], name: str, facts: dict[str, T], problems: list[Problem]
) -> T | None:
    if name not in facts:
        close = difflib.get_close_matches(name, facts, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(facts)}"
        problems.append(document.problem(at, f"{name!r} is not in the catalogue; {hint}"))
    return facts.get(name)


def _service(choice: checks.Choice) -> ResolvedStack:
    stack, count = choice.stack, choice.stack.accelerator.count
    facts = choice.model.model_dump() | {"revision": stack.revision or choice.model.revision}
    return ResolvedStack.model_validate(
        {
            "name": stack.name,
            "target": stack.target,
            "model": Model(id=stack.model, **facts),
            "runtime": choice.runtime,
            "precision": choice.precision,
            "context_length": stack.context_length or choice.model.context_length,
            "accelerator": Accelerator(
                kind=stack.accelerator.kind,
                count=count,
                split="none" if count == 1 else stack.accelerator.split or "none",
                **choice.device.model_dump(exclude={"measurements"}),
            ),
            "triton": _listening(stack, stack.triton, host="triton"),
            "gateway": _listening(stack, stack.gateway, host="0.0.0.0", metrics_host="0.0.0.0"),  # noqa: S104 -- in a pod, NetworkPolicies decide who connects
            "kubernetes": _on_cluster(choice),
            "jobs": resolved_jobs(stack.jobs, stack.target),
            "hosts": stack.hosts or Hosts() if stack.target == "hosts" else None,
            "engine": stack.engine.model_copy(update={"url": LLAMA_URL})
            if own_llama(stack)
            else stack.engine,
            "serving": stack.serving,
            **{part: getattr(stack, part) for part in ("limits", "auth", "cache", "gke")},
        }
    )


def _listening(stack: Stack, part: P, **hosts: str) -> P:
    """Return ``part`` with a cluster's addresses where the stack names none: a pod's loopback reaches nobody.

    Triton's host is the name of its headless Service, so that gRPC clients see every pod behind it.
    """
    if stack.target not in CLUSTERS:
        return part
    return part.model_copy(update={key: to for key, to in hosts.items() if key not in part.model_fields_set})


def _on_cluster(choice: checks.Choice) -> Kubernetes | None:
    stack, device = choice.stack, choice.device
    if stack.target not in CLUSTERS:
        return None
    label = device.gke.accelerator if device.gke else None
    return complete(
        stack.kubernetes,
        gke=stack.target == "gke",
        gpu=device.is_gpu,
        gpu_label=label,
        own_llama=own_llama(stack),
    )
