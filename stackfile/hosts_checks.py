"""What must hold between the settings of ``hosts``, and between them and the rest of the stack."""

from collections.abc import Iterator

from stackfile.document import Location
from stackfile.hosts import Hosts
from stackfile.stack import Stack

Finding = tuple[Location, str]


def findings(stack: Stack) -> Iterator[Finding]:
    """Yield every conflict of the ``hosts`` section, which may be left out with target ``hosts``."""
    if stack.target != "hosts":
        if stack.hosts is not None:
            yield ("hosts",), f"is read with target: hosts only, not {stack.target}; remove it"
        return
    hosts = stack.hosts or Hosts()
    yield from _ports(stack, hosts)
    yield from _driver(hosts)
    yield from _addresses(stack)
    yield from _auth(stack)


def _ports(stack: Stack, hosts: Hosts) -> Iterator[Finding]:
    """One host may be everything, so every port is looked at as if it were."""
    taken: dict[int, str] = {}
    instances, workers = hosts.gateway.instances, stack.accelerator.count
    wanted: list[tuple[Location, int]] = [
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
    for location, port in wanted:
        name = ".".join(map(str, location))
        if port in taken and (taken[port] != name):
            yield (
                location,
                f"{port} is {taken[port]} already ({instances} gateways take one port each, counted up);"
                " give one of them another port",
            )
        taken.setdefault(port, name)


def _driver(hosts: Hosts) -> Iterator[Finding]:
    if hosts.driver.skip and hosts.driver.force:
        yield ("hosts", "driver", "force"), "installs what skip leaves to you; remove one of them"


def _addresses(stack: Stack) -> Iterator[Finding]:
    for part in ("gateway", "triton"):
        if "host" in getattr(stack, part).model_fields_set:
            yield (part, "host"), "is decided by the inventory on hosts (service_address); remove it"


def _auth(stack: Stack) -> Iterator[Finding]:
    if stack.auth.mode == "none":
        yield (
            ("auth", "mode"),
            "none would let everybody who reaches NGINX use the service; set keys or gitlab",
        )
