"""The ports of a host, and the clients of each: for the firewall's rules and the preflight."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from assist.addresses import bracketed
from assist.hosts.inventory import Inventory
from monitoring.scrape import Target
from stackfile import ResolvedStack
from stackfile.hosts import Hosts


@dataclass(frozen=True)
class Opening:
    """A TCP port, its use, and the addresses or ranges that may connect; only loopback if empty."""

    port: int
    use: str
    sources: tuple[str, ...]

    def rule(self) -> dict[str, Any]:
        """Return the opening as the firewall's template takes it, by address family."""
        ranges = sorted({str(ip_network(source)) for source in self.sources})
        families = {family: [one for one in ranges if ip_network(one).version == family] for family in (4, 6)}
        return {"port": self.port, "use": self.use, "ipv4": families[4], "ipv6": families[6]}


def openings(stack: ResolvedStack, inventory: Inventory, host: str) -> list[Opening]:
    """Return every port of ``host``, according to its groups."""
    hosts = stack.hosts or Hosts()
    ports = [Opening(hosts.firewall.ssh_port, "SSH", hosts.firewall.administrators)]
    if hosts.monitoring.enabled:
        scrapers = (*_others(inventory, *inventory.groups), *hosts.firewall.monitoring)
        ports.append(Opening(hosts.monitoring.node_port, "node exporter", scrapers))
    for group, listed in (("gateway", _gateway), ("gpu", _gpu), ("queue", _queue)):
        if host in inventory.groups[group]:
            ports += listed(stack, hosts, inventory)
    return ports


def targets(service: ResolvedStack, inventory: Inventory) -> list[Target]:
    """Return what Prometheus scrapes, at the addresses on the hosts' own network."""
    jobs = {
        "gateway metrics": "gateway",
        "Triton metrics": "triton",
        "worker metrics": "worker",
        "node exporter": "node",
    }
    return [
        Target(jobs[opening.use], f"{bracketed(inventory.addresses[host])}:{opening.port}", host)
        for host in inventory.hosts
        for opening in openings(service, inventory, host)
        if opening.use in jobs
    ]


def _others(inventory: Inventory, *groups: str) -> tuple[str, ...]:
    return () if inventory.single else tuple(inventory.of(*groups))


def _gateway(stack: ResolvedStack, hosts: Hosts, inventory: Inventory) -> Iterator[Opening]:
    yield Opening(hosts.front.https_port, "NGINX", hosts.firewall.clients)
    for index in range(hosts.gateway.instances):
        # Every NGINX passes requests to every gateway, so that a gateway under replacement is not missed.
        yield Opening(stack.gateway.port + index, "gateway", _others(inventory, "gateway"))
        yield Opening(stack.gateway.metrics_port + index, "gateway metrics", hosts.firewall.monitoring)


def _gpu(stack: ResolvedStack, hosts: Hosts, inventory: Inventory) -> Iterator[Opening]:
    if stack.engine.kind == "triton":
        triton = stack.triton
        yield Opening(triton.grpc_port, "Triton gRPC", _others(inventory, "gateway"))
        yield Opening(triton.http_port, "Triton HTTP", ())
        yield Opening(triton.metrics_port, "Triton metrics", hosts.firewall.monitoring)
    for index in range(workers(stack)):
        yield Opening(stack.jobs.metrics_port + index, "worker metrics", hosts.firewall.monitoring)


def workers(stack: ResolvedStack) -> int:
    """Return how many workers a GPU host has: one for each GPU, and one where the CPU computes."""
    accelerator = stack.accelerator
    return 0 if not stack.jobs.enabled else accelerator.count if accelerator.is_gpu else 1


def _queue(stack: ResolvedStack, hosts: Hosts, inventory: Inventory) -> Iterator[Opening]:
    if stack.cache.kind == "redis":
        yield Opening(hosts.redis.cache_port, "Redis cache", _others(inventory, "gateway"))
    yield Opening(hosts.redis.queue_port, "Redis queue", _others(inventory, "gateway", "gpu"))
