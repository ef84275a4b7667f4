"""An inventory: the groups of each host, and its address on the hosts' own network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

GROUPS = ("gateway", "gpu", "queue")


class InventoryError(ValueError):
    """An invalid inventory; the message names the host or group and the remedy."""


@dataclass(frozen=True)
class Inventory:
    """Hosts by group, and each host's address (``service_address``), an IP."""

    groups: Mapping[str, Sequence[str]]
    addresses: Mapping[str, str]

    def check(self) -> None:
        """Raise InventoryError for missing groups and invalid addresses."""
        for group in GROUPS:
            if not self.groups.get(group):
                raise InventoryError(
                    f"group {group} has no host; one host may be in all of {', '.join(GROUPS)}"
                )
        if len(self.groups["queue"]) > 1:
            raise InventoryError("group queue has several hosts, but there is one queue; keep one host in it")
        for host in self.hosts:
            try:
                ip_address(self.addresses.get(host, ""))
            except ValueError:
                raise InventoryError(
                    f"{host}: service_address is {self.addresses.get(host)!r}, which is not an IP address;"
                    " set service_address to the host's address on the hosts' own network"
                ) from None

    @property
    def hosts(self) -> list[str]:
        """Every host, once, in the inventory's order."""
        return list(dict.fromkeys(host for group in GROUPS for host in self.groups.get(group, ())))

    @property
    def single(self) -> bool:
        """Whether one host is in every group, so that only NGINX has to listen beyond loopback."""
        return len(self.hosts) == 1

    def of(self, *groups: str) -> list[str]:
        """Return the addresses of the hosts in any of ``groups``, sorted."""
        return sorted({self.addresses[host] for group in groups for host in self.groups[group]})

    def listen(self, host: str) -> str:
        """Return the address on which a host's internal services listen."""
        return "127.0.0.1" if self.single else self.addresses[host]

    def reach(self, group: str) -> list[str]:
        """Return the addresses at which other hosts reach ``group``, in the inventory's order."""
        return [self.listen(host) for host in self.groups[group]]
