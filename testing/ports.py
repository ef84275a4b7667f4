"""Free loopback ports for servers under test."""

import contextlib
import random
import socket

# Below 32768, where Linux begins to choose ports for outgoing connections (ip_local_port_range): a port of those may
# be free now and be some client's own in the moment that the server starts.
_RANGE = range(10000, 20000)
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return ports that are free now on the loopback interface, none of them given before by this process.

    Chosen at random, so that test processes beside each other don't choose the same.
    """
    ports: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if len(ports) == count:
            break
        if port not in _given and _is_free(port):
            ports.append(port)
    assert len(ports) == count, f"no {count} free ports in {_RANGE}"
    _given.update(ports)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
