"""A lab's network: a bridge in a namespace without a way out, and one leg on it for each host.

This machine's own namespace has no address and no route in it, so that two labs at the same addresses run side
by side.
"""

from testing.lab.namespaces import FOLDER
from testing.lab.processes import run
from testing.lab.record import Host, LabFolder
from testing.lab.settings import GATEWAY


def create(lab: LabFolder) -> None:
    """Make the lab's bridge, at the first address of its network."""
    name = lab.switch
    run("ip", "netns", "add", name)
    _ip(name, "link", "set", "lo", "up")
    _ip(name, "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
    _ip(name, "addr", "add", f"{GATEWAY}/24", "dev", "br0")
    _ip(name, "link", "set", "br0", "up")


def attach(lab: LabFolder, host: Host) -> None:
    """Make a host's namespace with one link, ``eth0``, to the bridge; nothing happens where it exists."""
    name = lab.namespace(host.name)
    if (FOLDER / name).exists():
        return
    link = f"h-{host.name}"
    run("ip", "netns", "add", name)
    _ip(name, "link", "set", "lo", "up")
    _ip(lab.switch, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip(lab.switch, "link", "set", link, "master", "br0", "up")
    _ip(name, "addr", "add", f"{host.ip}/24", "brd", "+", "dev", "eth0")
    _ip(name, "link", "set", "eth0", "up")
    # It ends on the bridge; with it, ansible_default_ipv4 has what it has on other hosts.
    _ip(name, "route", "add", "default", "via", GATEWAY)


def inside(lab: LabFolder, *command: str) -> list[str]:
    """Return a command line that runs a program of this machine in the lab's network, at its first address."""
    return ["ip", "netns", "exec", lab.switch, *command]


def remove(lab: LabFolder) -> None:
    """Remove the bridge and every host's namespace, those of a killed run as well."""
    for path in FOLDER.glob(f"{lab.switch}*") if FOLDER.is_dir() else ():
        if path.name == lab.switch or path.name.startswith(f"{lab.switch}-"):
            run("ip", "netns", "del", path.name)


def _ip(namespace: str, *arguments: str) -> None:
    run("ip", "-n", namespace, *arguments)
