"""Listen on this machine's loopback, connect inside another network namespace.

    forward.py PROCESS ADDRESS PORT FILE     127.0.0.1:<any free port> -> ADDRESS:PORT where PROCESS lives

The socket is made first and its port written to FILE, then this process moves into the namespace: nothing but the
loopback is used outside. Ends with PROCESS.
"""

import asyncio
import ctypes
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

CLONE_NEWNET = 0x40000000
CHUNK = 1 << 16


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and its end."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
            return
    writer.close()


async def serve(listening: socket.socket, address: str, port: int, process: int) -> None:
    """Serve until ``process`` has ended."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            inner_reader, inner_writer = await asyncio.open_connection(address, port)
            await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))
            inner_writer.close()
        writer.close()

    # Readable once the process has ended.
    ended, descriptor = asyncio.Event(), os.pidfd_open(process)
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    async with await asyncio.start_server(handle, sock=listening):
        await ended.wait()


def enter_network(process: int) -> None:
    """Move this process into the network namespace of another.

    Raises:
        OSError: Where the kernel refuses.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{process}/ns/net").open() as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main() -> None:
    """Read the command line and serve."""
    process, address, port, file = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    enter_network(process)
    part = file.with_name(f"{file.name}.part")
    part.write_text(str(listening.getsockname()[1]))
    part.rename(file)
    asyncio.run(serve(listening, address, port, process))


if __name__ == "__main__":
    main()
