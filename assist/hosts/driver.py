"""What the driver's role is told: the stack's switches and the catalogue's packages for its accelerator."""

from typing import Any

from stackfile import ResolvedStack
from stackfile.catalogue import drivers
from stackfile.hosts import Hosts


def driver_facts(service: ResolvedStack, gpus: int) -> dict[str, Any] | None:
    """Return the driver's part for a host that uses ``gpus`` GPUs; ``None`` where it uses none."""
    facts = service.accelerator.driver
    if facts is None or gpus == 0:
        return None
    branch = drivers()[facts.branch]
    return (service.hosts or Hosts()).driver.model_dump() | {
        "gpus": gpus,
        "branch": facts.branch,
        "minimum": facts.minimum,
        "serves": branch.cuda,
        "systems": {name: offer.model_dump(mode="json") for name, offer in branch.systems.items()},
    }
