"""Conflicts within the ``hosts`` section, and between the section and the rest of the stack."""

from collections.abc import Iterator

from stackfile.document import Conflict, Location, dotted
from stackfile.hosts import Hosts
from stackfile.stack import Stack


def conflicts(stack: Stack) -> Iterator[Conflict]:
    """Yield every conflict of the ``hosts`` section, which is optional with target ``hosts``."""
    if stack.target != "hosts":
        if stack.hosts is not None:
            yield ("hosts",), f"applies to target: hosts only, not {stack.target}; remove it"
        return
    hosts = stack.hosts or Hosts()
    yield from _ports(stack, hosts)
    yield from _driver(hosts)
    yield from _addresses(stack)
    yield from _auth(stack)


def _ports(stack: Stack, hosts: Hosts) -> Iterator[Conflict]:
    """Check every port against every other: one host may be in all groups."""
    taken: dict[int, str] = {}
    instances, workers = hosts.gateway.instances, stack.accelerator.count
    ports: list[tuple[Location, int]] = [
        (("hosts", "firewall", "ssh_port"), hosts.firewall.ssh_port),
        *(
            (("triton", name), getattr(stack.triton, name))
            for name in ("http_port", "grpc_port", "metrics_port")
        ),
        *((("gateway", "port"), stack.gateway.port + index) for index in range(instances)),
        *((("gateway", "metrics_port"), stack.gateway.metrics_port + index) for index in range(instances)),
        *((("jobs", "metrics_port"), stack.jobs.metrics_port + index) for index in range(workers)),
        (("hosts", "front", "https_port"), hosts.front.https_port),
        (("hosts", "monitoring", "node_port"), hosts.monitoring.node_port),
        (("hosts", "redis", "cache_port"), hosts.redis.cache_port),
        (("hosts", "redis", "queue_port"), hosts.redis.queue_port),
    ]
    for location, port in ports:
        name = dotted(location)
        if port in taken and (taken[port] != name):
            yield (
                location,
                f"{port} is already used by {taken[port]} ({instances} gateways use consecutive ports);"
                " give one of them another port",
            )
        taken.setdefault(port, name)


def _driver(hosts: Hosts) -> Iterator[Conflict]:
    if hosts.driver.skip and hosts.driver.force:
        yield (
            ("hosts", "driver", "force"),
            "contradicts skip, which leaves the driver to you; remove one of them",
        )


def _addresses(stack: Stack) -> Iterator[Conflict]:
    for part in ("gateway", "triton"):
        if "host" in getattr(stack, part).model_fields_set:
            yield (part, "host"), "comes from the inventory (service_address) with target: hosts; remove it"


def _auth(stack: Stack) -> Iterator[Conflict]:
    if stack.auth.mode == "none":
        yield (
            ("auth", "mode"),
            "none lets everybody who can reach NGINX use the service; set keys or gitlab",
        )
