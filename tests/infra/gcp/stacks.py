"""Stacks for these tests: the repository's own, changed in one place at a time."""

from pathlib import Path
from typing import Any

from stackfile import ResolvedStack, load_stack
from stackfile.catalogue import ROOT


def stack(name: str = "gke-dev", **changes: Any) -> ResolvedStack:
    """Return a stack with settings of its gke section replaced, as ``gpu_pool__driver="none"``.

    No check runs on the result: a test may look at one setting without its companions.
    """
    service = load_stack(ROOT / "stacks" / f"{name}.yaml")
    gke = service.gke
    for path, value in changes.items():
        gke = _replaced(gke, path.split("__"), value)
    return service.model_copy(update={"gke": gke})


def plain(**changes: Any) -> ResolvedStack:
    """Return ``gke-dev`` with a store of GKE's default class, whose price is listed."""
    service = stack(**changes)
    assert service.kubernetes is not None
    store = service.kubernetes.store.model_copy(update={"storage_class": None})
    kubernetes = service.kubernetes.model_copy(update={"store": store})
    return service.model_copy(update={"kubernetes": kubernetes})


def _replaced(section: Any, path: list[str], value: Any) -> Any:
    if len(path) > 1:
        value = _replaced(getattr(section, path[0]), path[1:], value)
    return section.model_copy(update={path[0]: value})


def written(service: ResolvedStack, directory: Path) -> Path:
    """Write what a user would: the gke section of a stack file that resolves to ``service``."""
    import yaml

    assert service.gke is not None
    assert service.kubernetes is not None
    document = {
        "name": service.name,
        "target": service.target,
        "model": service.model.id,
        "runtime": service.runtime,
        "precision": service.precision,
        "accelerator": {"kind": service.accelerator.kind, "count": service.accelerator.count},
        "kubernetes": {"store": service.kubernetes.store.model_dump(mode="json")},
        "gke": service.gke.model_dump(mode="json", exclude_defaults=True),
    }
    file = directory / f"{service.name}.yaml"
    file.write_text(yaml.safe_dump(document))
    return file
