"""What the exporters' role is told."""

from typing import Any

from assist.hosts.inventory import Inventory
from stackfile import ResolvedStack
from stackfile.hosts import Hosts


def monitoring_facts(service: ResolvedStack, inventory: Inventory, host: str, gpus: int) -> dict[str, Any]:
    """Return the exporters' part for ``host`` with ``gpus`` GPUs; they listen on the hosts' network."""
    settings, address = (service.hosts or Hosts()).monitoring, inventory.addresses[host]
    bracketed = f"[{address}]" if ":" in address else address
    return {"enabled": settings.enabled, "listen": f"{bracketed}:{settings.node_port}", "gpus": gpus}
