"""Loopback ports for servers that can't choose one by themselves, reserved among this user's processes."""

import fcntl
import os
import random
import socket
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from testing.cluster.errors import ClusterError

# Below 32768, where Linux begins to choose ports for outgoing connections; above those that other tests draw from.
_RANGE = range(20000, 32000)


class Ports:
    """Ports that no other holder of ``Ports`` gets, from ``reserve`` to ``release`` or this process's end."""

    def __init__(self) -> None:
        self._held = ExitStack()

    def reserve(self, count: int) -> list[int]:
        """Return ports that are free now and reserved.

        Raises:
            ClusterError: Where there are not that many.

        """
        taken: list[int] = []
        # At random, so that processes beside each other seldom try the same.
        for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
            if self._lock(port):
                taken.append(port)
            if len(taken) == count:
                return taken
        raise ClusterError(f"fewer than {count} free ports in {_RANGE.start}-{_RANGE.stop}")

    def _lock(self, port: int) -> bool:
        file = (_folder() / str(port)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        if not _is_free(port):
            file.close()
            return False
        self._held.enter_context(file)
        return True

    def release(self) -> None:
        """Let others have them."""
        self._held.close()


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"ai-assist-ports-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _is_free(port: int) -> bool:
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
