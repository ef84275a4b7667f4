"""Network namespaces of this machine: entering one, and connecting from the inside of one.

Run as a program, ``python -IS namespaces.py NAMESPACE HOST PORT`` connects and hands the socket to ssh, whose
``ProxyCommand`` it is, with ``ProxyUseFdpass``. So this module imports nothing but the standard library.
"""

import ctypes
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_CONNECT_S = 10.0
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def entered(namespace: str) -> Iterator[None]:
    """Let this thread, and no other, be in a network namespace for as long as the block lasts."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        other = os.open(FOLDER / namespace, os.O_RDONLY)
        try:
            _enter(other)
        finally:
            os.close(other)
        yield
    finally:
        _enter(home)
        os.close(home)


def _enter(descriptor: int) -> None:
    # os.setns is there from Python 3.12 on.
    if _libc.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns: the network namespace can't be entered")


def connect(namespace: str, host: str, port: int) -> socket.socket:
    """Return a TCP connection made inside a namespace; the socket works outside as well.

    Raises OSError where the connection is refused or is not made within ten seconds.
    """
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def inside() -> None:
        try:
            with entered(namespace):
                made.append(socket.create_connection((host, port), _CONNECT_S))
        except OSError as error:
            failed.append(error)

    # In a thread of its own, so that the caller's namespace is the same throughout.
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    made[0].settimeout(None)
    return made[0]


def main(namespace: str, host: str, port: str) -> None:
    """Hand a connection to the process at standard output."""
    connection = connect(namespace, host, int(port))
    with socket.socket(fileno=os.dup(1)) as ssh:
        socket.send_fds(ssh, [b"\0"], [connection.fileno()])


if __name__ == "__main__":
    main(*sys.argv[1:])
