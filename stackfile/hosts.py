"""The ``hosts`` section of a stack: settings that differ from one set of hosts to another.

The roles and addresses of the hosts are in Ansible's inventory. Sizes are in MiB and GiB, as named.
"""

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from stackfile.fields import Count, Port
from stackfile.validation import Strict

HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]


def _plain(folder: str) -> str:
    if {".", ".."} & set(folder.split("/")):
        raise ValueError("must not contain . or ..; write the folder's plain path, such as /srv/models")
    return folder


Folder = Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9._-]+)+$"), AfterValidator(_plain)]


def _range(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise ValueError("is not an address range; write, for example, 10.0.0.0/8 or 2001:db8::/32") from None


Range = Annotated[str, AfterValidator(_range)]


class Folders(Strict):
    """The folders of a host. ``models`` and ``hf_home`` belong on the fastest disk."""

    programs: Folder = "/opt/ai-assist"
    """Releases and their virtual environments."""
    state: Folder = "/var/lib/ai-assist"
    """Data of the queue."""
    config: Folder = "/etc/ai-assist"
    """Settings and secrets."""
    models: Folder = "/var/lib/ai-assist/models"
    """The model store. Choose a folder on the fastest disk."""
    hf_home: Folder = "/var/lib/ai-assist/huggingface"
    """`HF_HOME` of the model loader."""


class Requirements(Strict):
    """What a host must have free before anything is installed, in addition to the model's own size."""

    disk_gib: Annotated[float, Field(gt=0)] = 4.0
    """Free disk space in GiB, in addition to twice the model's size."""
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    """Memory in GiB. Default: the limits of the host's services together (docs/memory.md)."""
    kernel: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")] = "5.10"
    """Oldest Linux kernel."""


class ReverseProxy(Strict):
    """NGINX, to which editors connect over TLS. Rates are per client address, plus ``burst`` requests.

    ``self_signed`` makes a certificate for ``server_name``; ``files`` uses the inventory's
    ``service_tls_certificate`` and ``service_tls_key``.
    """

    https_port: Port = 443
    """Port of NGINX, to which editors connect."""
    server_name: HostName = "ai-assist.internal"
    """Host name of the certificate."""
    certificate: Literal["self_signed", "files"] = "self_signed"
    """`self_signed`, or `files`: the inventory's `service_tls_certificate` and `service_tls_key`."""
    requests_per_second: Count = 20
    """Requests a second for each client address; more get 429."""
    burst: Annotated[int, Field(ge=0)] = 100
    """Requests above that rate that are still accepted at once."""
    connections: Count = 64
    """Connections at once for each client address; more get 429."""


class GatewayUnits(Strict):
    """The gateways of one host: ``instances`` on the ports from ``gateway.port`` on, restarted in turn."""

    instances: Annotated[int, Field(ge=1, le=16)] = 2
    """Gateways of a host, on the ports from `gateway.port` and `gateway.metrics_port` on."""
    memory_mib: Count | None = None
    """Memory limit of a gateway in MiB. Default: what it takes (docs/memory.md); less is refused."""


class TritonUnit(Strict):
    """Triton on a host, from NVIDIA's wheel; ``startup_timeout_s`` bounds the time to load the model."""

    startup_timeout_s: Count = 1200
    """Seconds within which Triton must have loaded the model."""
    memory_mib: Count | None = None
    """Memory limit of Triton in MiB. Default: what it takes (docs/memory.md); less is refused."""


class DriverSettings(Strict):
    """How NVIDIA's driver reaches GPU hosts: from the system's own archive, unless a suitable one is there.

    ``skip`` leaves the driver to the host's operator, ``force`` installs the pinned branch over another.
    ``reboot`` lets a host that needs a reboot restart, one host at a time. ``secure_boot: enrolled``: the
    firmware trusts the host's module signing key.
    """

    skip: bool = False
    """Whether the driver is left to the host's operator."""
    force: bool = False
    """Whether the pinned branch replaces a working driver of another branch."""
    reboot: bool = True
    """Whether a host may reboot for its driver."""
    reboot_timeout_s: Count = 900
    """Seconds within which a host must be back after a reboot."""
    secure_boot: Literal["refuse", "enrolled"] = "refuse"
    """With Secure Boot: `refuse` to build a driver's module, or `enrolled`: the firmware trusts the key of
    modules built on the host."""


class Exporters(Strict):
    """Prometheus exporters, reachable from ``hosts.firewall.monitoring`` and the inventory's hosts only."""

    enabled: bool = True
    """Whether Prometheus exporters run on every host."""
    node_port: Port = 9100
    """Port of the node exporter."""


class RedisServers(Strict):
    """Two servers on the queue host: a cache (LRU eviction) and a persistent queue. Sizes in MiB."""

    cache_port: Port = 6379
    """Port of the cache."""
    queue_port: Port = 6380
    """Port of the queue."""
    cache_mib: Count = 128
    """Memory of the cache in MiB; the least recently used entries are evicted."""
    queue_mib: Count = 512
    """Memory of the queue in MiB; when full, new jobs are refused."""


class Firewall(Strict):
    """Who may connect from outside the inventory; traffic between the hosts is always allowed."""

    enabled: bool = True
    """Whether nftables restricts the hosts' ports, in a separate table."""
    ssh_port: Port = 22
    """Port of SSH."""
    administrators: tuple[Range, ...] = ("0.0.0.0/0", "::/0")
    """Address ranges that may reach SSH."""
    clients: tuple[Range, ...] = ("0.0.0.0/0", "::/0")
    """Address ranges that may reach NGINX."""
    monitoring: tuple[Range, ...] = ()
    """Address ranges that may reach the metrics."""


class Logs(Strict):
    """How long and how large logs are kept; no log holds a prompt, a completion or a key."""

    days: Count = 14
    """Days for which log files are kept."""
    journal_mib: Count = 512
    """Size of the journal in MiB."""


class Hosts(Strict):
    """How the service runs on hosts with systemd."""

    folders: Folders = Folders()
    requirements: Requirements = Requirements()
    front: ReverseProxy = ReverseProxy()
    gateway: GatewayUnits = GatewayUnits()
    triton: TritonUnit = TritonUnit()
    driver: DriverSettings = DriverSettings()
    monitoring: Exporters = Exporters()
    redis: RedisServers = RedisServers()
    firewall: Firewall = Firewall()
    logs: Logs = Logs()
