"""The part of the resolved stack for the role ``monitoring``."""

from typing import Any

from assist.addresses import url_host
from assist.hosts.inventory import Inventory
from stackfile import ResolvedStack
from stackfile.hosts import Hosts


def monitoring_facts(service: ResolvedStack, inventory: Inventory, host: str, gpus: int) -> dict[str, Any]:
    """Return the exporters' part for ``host`` with ``gpus`` GPUs; they listen on the hosts' network."""
    settings, address = (service.hosts or Hosts()).monitoring, inventory.addresses[host]
    listen = f"{url_host(address)}:{settings.node_port}"
    return {"enabled": settings.enabled, "listen": listen, "gpus": gpus}
