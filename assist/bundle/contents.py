"""What a stack needs, derived from the stack, the lock files and the roles; nothing is typed twice."""

import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from assist.bundle import host_packages, packages
from assist.bundle.errors import BundleError
from assist.deployment import Deployment
from assist.preflight import libpython_package
from stackfile.catalogue import DIRECTORY
from stackfile.resolved import ResolvedStack

BOOTSTRAP, CONTROL, PIP = "bootstrap.txt", "control.txt", "infra.txt"
# Each names the virtual environment that it runs in, which is made from the lock file of that name.
_PROJECTS = ("Pulumi.yaml", "policies/PulumiPolicy.yaml")


@dataclass(frozen=True)
class Contents:
    """What must be in the bundle. ``locks`` are names in requirements/, ``sources`` paths in the project.

    ``depends`` says that the packages' dependencies come along, as they are installed and not only unpacked.
    """

    locks: tuple[str, ...]
    model: str
    packages: tuple[str, ...]
    depends: bool
    images: tuple[str, ...]
    plugins: bool
    sources: tuple[str, ...]


def wanted(deployment: Deployment) -> Contents:
    """Return what ``deployment`` needs where nothing can be downloaded. Raises BundleError for target gke."""
    service, source = deployment.service, deployment.layout.source
    if service.target == "gke":
        raise BundleError(
            f"stack {service.name} is for GKE, which is reached over Google's APIs. For a cluster that is cut"
            " off, write a stack with target: kubernetes."
        )
    clusters = service.target == "kubernetes"
    environments = _of_projects(source) if clusters else _of_machines(deployment)
    locks = tuple(dict.fromkeys([BOOTSTRAP, CONTROL, *environments]))
    return Contents(
        locks=locks,
        model=service.model.id if deployment.needs_triton else "",
        packages=_packages(deployment),
        depends=service.target == "hosts",
        images=images(service) if clusters else (),
        plugins=clusters,
        sources=(*(f"requirements/{lock}" for lock in locks), _path(DIRECTORY / "models.yaml", source)),
    )


def _of_machines(deployment: Deployment) -> list[str]:
    return [lock for locks in deployment.locks.values() for lock in locks]


def _of_projects(source: Path) -> list[str]:
    found = []
    for name in _PROJECTS:
        options = yaml.safe_load((source / name).read_text(encoding="utf-8"))["runtime"]["options"]
        found.append(f"{Path(options['virtualenv']).name}.txt")
    return found


def _packages(deployment: Deployment) -> tuple[str, ...]:
    if deployment.service.target == "hosts":
        return host_packages.wanted(
            deployment.service, deployment.layout.source / "ansible", packages.release()
        )
    local = deployment.service.target == "local" and deployment.needs_triton
    return (libpython_package(sys.version_info),) if local else ()


def images(service: ResolvedStack) -> tuple[str, ...]:
    """Return the container images that the service's objects name on a cluster."""
    if service.kubernetes is None:
        return ()
    named = service.kubernetes.images.model_dump()
    unused = set() if service.cache.kind == "redis" else {"redis"}
    return tuple(sorted({str(image) for part, image in named.items() if part not in unused}))


def _path(file: Path, source: Path) -> str:
    return (
        str(file.relative_to(file.parents[1]))
        if source not in file.parents
        else str(file.relative_to(source))
    )
