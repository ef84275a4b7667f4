"""The contents of a stack's bundle, derived from the stack, the lock files and the roles."""

import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from assist.bundle import host_packages, packages
from assist.bundle.errors import BundleError
from assist.deployment import Deployment
from stackfile.catalogue import DIRECTORY
from stackfile.resolved import ResolvedStack

BOOTSTRAP, CONTROL, PIP = "bootstrap.txt", "control.txt", "infra.txt"
# Each names its virtual environment, which is made from the lock file of that name.
_PROJECTS = ("Pulumi.yaml", "policies/PulumiPolicy.yaml")


@dataclass(frozen=True)
class Contents:
    """The contents of a bundle. ``locks`` are names in requirements/, ``sources`` paths in the project.

    ``depends``: whether the packages' dependencies are included, because the packages are installed, not
    only unpacked.
    """

    locks: tuple[str, ...]
    model: str
    packages: tuple[str, ...]
    depends: bool
    images: tuple[str, ...]
    plugins: bool
    sources: tuple[str, ...]


def of(deployment: Deployment) -> Contents:
    """Return what ``deployment`` needs without a network. Raises BundleError for target gke."""
    stack, source = deployment.stack, deployment.layout.source
    if stack.target == "gke":
        raise BundleError(
            f"stack {stack.name} is for GKE, which needs Google's APIs. For an air-gapped cluster, write a"
            " stack with target: kubernetes."
        )
    clusters = stack.target == "kubernetes"
    environments = _of_projects(source) if clusters else _of_machines(deployment)
    locks = tuple(dict.fromkeys([BOOTSTRAP, CONTROL, *environments]))
    return Contents(
        locks=locks,
        model=stack.model.id if deployment.needs_triton else "",
        packages=_packages(deployment),
        depends=stack.target == "hosts",
        images=images(stack) if clusters else (),
        plugins=clusters,
        sources=(*(f"requirements/{lock}" for lock in locks), _path(DIRECTORY / "models.yaml", source)),
    )


def _of_machines(deployment: Deployment) -> list[str]:
    return [lock for locks in deployment.locks.values() for lock in locks]


def _of_projects(source: Path) -> list[str]:
    locks = []
    for name in _PROJECTS:
        options = yaml.safe_load((source / name).read_text(encoding="utf-8"))["runtime"]["options"]
        locks.append(f"{Path(options['virtualenv']).name}.txt")
    return locks


def _packages(deployment: Deployment) -> tuple[str, ...]:
    if deployment.stack.target == "hosts":
        return host_packages.of(deployment.stack, deployment.layout.source / "ansible", packages.release())
    local = deployment.stack.target == "local" and deployment.needs_triton
    return (packages.libpython_package(sys.version_info),) if local else ()


def images(stack: ResolvedStack) -> tuple[str, ...]:
    """Return the container images of the stack's objects on a cluster."""
    if stack.kubernetes is None:
        return ()
    named = stack.kubernetes.images.model_dump(exclude_none=True)
    unused = set() if stack.cache.kind == "redis" else {"redis"}
    if "llama_cuda" in named:
        unused.add("triton")
    return tuple(sorted({str(image) for part, image in named.items() if part not in unused}))


def _path(file: Path, source: Path) -> str:
    return (
        str(file.relative_to(file.parents[1]))
        if source not in file.parents
        else str(file.relative_to(source))
    )
