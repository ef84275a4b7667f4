"""Free loopback ports for servers under test."""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Below 32768, where Linux begins to choose ports for outgoing connections (ip_local_port_range): a port of those may
# be free now and be some client's own in the moment that the server starts.
_RANGE = range(10000, 20000)
# A file for each port that a process of this user has been given; it is locked for as long as that process lives.
_CLAIMS = Path(tempfile.gettempdir()) / f"ai-assist-ports-{os.getuid()}"
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return ports that are free on the loopback interface.

    None of them has been given before by this process, or by another one that still runs: between this call and the
    moment when a server binds its port, no other test's server takes it.
    """
    ports: list[int] = []
    for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
        if len(ports) == count:
            break
        if port not in _given and _is_claimed(port) and _is_free(port):
            _given.add(port)
            ports.append(port)
    assert len(ports) == count, f"no {count} free ports in {_RANGE}"
    return ports


def _is_claimed(port: int) -> bool:
    """Claim a port for as long as this process lives; return whether no other process has."""
    _CLAIMS.mkdir(exist_ok=True)
    claim = os.open(_CLAIMS / str(port), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(claim)
        return False
    return True  # the descriptor stays open, and so the lock held


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
