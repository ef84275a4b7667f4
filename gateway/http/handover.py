"""Hands the listening socket from one gateway process to the next on the same machine.

Both accept from one queue of connections while the older one finishes its requests, so that a restart refuses
nobody. Each process that serves ``ASSIST_HANDOVER_DIR`` has a Unix socket there, named by its process id; the
folder is its owner's alone, and so is the right to take a listener.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_ANSWER_S = 2.0
_PAUSE_S = 0.2
_LONGEST_ADDRESS = 512
_BACKLOG = 1024


def take(folder: Path, host: str, port: int) -> socket.socket | None:
    """Return the listener for ``host`` and ``port`` of the youngest process that has one, else None.

    Removes the sockets of processes that have ended.
    """
    for path in sorted(folder.glob("*.sock"), key=_made, reverse=True):
        with socket.socket(socket.AF_UNIX) as giver:
            giver.settimeout(_ANSWER_S)
            try:
                with _address(path) as address:
                    giver.connect(address)
                giver.sendall(f"{host} {port}".encode())
                giver.shutdown(socket.SHUT_WR)
                _, descriptors, _, _ = socket.recv_fds(giver, 1, 1)
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
                continue
            except OSError:
                continue
        if descriptors:
            return socket.socket(fileno=descriptors[0])
    return None


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """Yield an address of the socket at ``path``, however long that is: unix(7) has room for 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _made(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@dataclass(frozen=True)
class Listener:
    """A listening socket; ``shared``: another process accepts from it as well."""

    socket: socket.socket
    shared: bool


def listen(folder: Path, host: str, port: int) -> Listener:
    """Return the listener of another process of ``folder``, or else a new one.

    Raises OSError, with the address, where it cannot be had.
    """
    if taken := take(folder, host, port):
        return Listener(taken, shared=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return Listener(socket.create_server((host, port), family=family, backlog=_BACKLOG), shared=False)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "already in use by another program" if in_use else error.strerror
        raise OSError(f"port {port} of {host} is {reason}; choose another one: PORT=5100") from error


class Giver:
    """Gives this process's listener to whoever asks for its address."""

    def __init__(self, folder: Path, host: str, port: int, listener: socket.socket) -> None:
        self._folder, self._host, self._port = folder, host, port
        self._path = folder / f"{os.getpid()}.sock"
        self._address = f"{host} {port}".encode()
        self._listener = listener
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer, in a task of the running loop."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        giver = socket.socket(socket.AF_UNIX)
        with _address(self._path) as address:
            giver.bind(address)
        self._path.chmod(0o600)
        giver.listen()
        giver.settimeout(0)
        self._task = asyncio.create_task(self._answer(giver))

    async def stop(self) -> bool:
        """Answer no more; return whether another process has the listener and goes on serving."""
        if self._task is not None:
            self._task.cancel()
        self._path.unlink(missing_ok=True)
        other = await asyncio.to_thread(take, self._folder, self._host, self._port)
        if other is not None:
            other.close()
        return other is not None

    async def _answer(self, giver: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with giver:
            while True:
                try:
                    taker, _ = await loop.sock_accept(giver)
                except OSError:  # out of file descriptors: requests that end give some back
                    await asyncio.sleep(_PAUSE_S)
                    continue
                with taker, suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_ANSWER_S):
                        wanted = await loop.sock_recv(taker, _LONGEST_ADDRESS)
                    if wanted == self._address:
                        socket.send_fds(taker, [b"1"], [self._listener.fileno()])
