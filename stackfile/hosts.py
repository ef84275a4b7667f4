"""The ``hosts`` section of a stack: what differs from one set of hosts to another, but for their addresses.

Which host does what, and how it is reached, is the inventory's. Sizes are in MiB and GiB as named.
"""

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from stackfile.validation import Strict

Count = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]
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
        raise ValueError("is no address range; write one such as 10.0.0.0/8 or 2001:db8::/32") from None


Range = Annotated[str, AfterValidator(_range)]


class Folders(Strict):
    """Where a host keeps things. ``models`` and ``hf_home`` belong on the fastest disk."""

    programs: Folder = "/opt/ai-assist"
    state: Folder = "/var/lib/ai-assist"
    config: Folder = "/etc/ai-assist"
    models: Folder = "/var/lib/ai-assist/models"
    hf_home: Folder = "/var/lib/ai-assist/huggingface"


class Needs(Strict):
    """What a host must have free before anything is installed; the model's own size comes on top."""

    disk_gib: Annotated[float, Field(gt=0)] = 4.0
    memory_gib: Annotated[float, Field(gt=0)] = 1.0
    kernel: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")] = "5.10"


class Front(Strict):
    """NGINX, where editors connect: always TLS. Rates are per client address, ``burst`` requests on top.

    ``self_signed`` makes a certificate for ``server_name``; ``files`` takes the inventory's
    ``service_tls_certificate`` and ``service_tls_key``.
    """

    https_port: Port = 443
    server_name: HostName = "ai-assist.internal"
    certificate: Literal["self_signed", "files"] = "self_signed"
    requests_per_second: Count = 20
    burst: Annotated[int, Field(ge=0)] = 100
    connections: Count = 64


class Gateways(Strict):
    """The gateways of one host: ``instances`` on the ports from ``gateway.port`` on, restarted in turn."""

    instances: Annotated[int, Field(ge=1, le=16)] = 2
    memory_mib: Count = 1024


class Server(Strict):
    """Triton on a host, from NVIDIA's wheel; ``startup_s`` is how long it may take to load the model."""

    startup_s: Count = 1200
    memory_mib: Count = 8192


class Driver(Strict):
    """NVIDIA's driver on GPU hosts, from the system's own archive; one that serves already is left alone.

    ``skip`` leaves it to whoever runs the host, ``force`` installs the pinned branch over another. ``reboot``
    lets a host that needs it reboot, one at a time. ``secure_boot: enrolled``: the firmware knows the key.
    """

    skip: bool = False
    force: bool = False
    reboot: bool = True
    reboot_timeout_s: Count = 900
    secure_boot: Literal["refuse", "enrolled"] = "refuse"


class Monitoring(Strict):
    """Prometheus' exporters, for ``hosts.firewall.monitoring`` and the inventory's hosts alone."""

    enabled: bool = True
    node_port: Port = 9100


class Redis(Strict):
    """Two servers on the queue host: a cache that forgets, a queue that never does."""

    cache_port: Port = 6379
    queue_port: Port = 6380
    cache_mib: Count = 128
    queue_mib: Count = 512


class Firewall(Strict):
    """Who may connect from outside the inventory; the hosts' own traffic is allowed by itself."""

    enabled: bool = True
    ssh_port: Port = 22
    administrators: tuple[Range, ...] = ("0.0.0.0/0", "::/0")
    clients: tuple[Range, ...] = ("0.0.0.0/0", "::/0")
    monitoring: tuple[Range, ...] = ()


class Logs(Strict):
    """How much of the logs is kept; none of them holds a prompt, a completion or a key."""

    days: Count = 14
    journal_mib: Count = 512


class Hosts(Strict):
    """How the service runs on hosts with systemd."""

    folders: Folders = Folders()
    needs: Needs = Needs()
    front: Front = Front()
    gateway: Gateways = Gateways()
    triton: Server = Server()
    driver: Driver = Driver()
    monitoring: Monitoring = Monitoring()
    redis: Redis = Redis()
    firewall: Firewall = Firewall()
    logs: Logs = Logs()
