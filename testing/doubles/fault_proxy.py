"""A TCP proxy that fails on command: what lies between two processes when a network goes wrong.

Runs in a thread with an event loop of its own, so that blocking tests can use it.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from testing.ports import free_ports


class FaultProxy:
    """Forwards ``127.0.0.1:port`` to ``target``; the methods act on connections that exist and those to come."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self.latency_s = 0.0
        self._holding = False
        self._limit: int | None = None
        self._hold_after: int | None = None
        self._pause_after: int | None = None
        self._going_on = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        # Not one that the kernel chooses: while the proxy is down, another process could be given it.
        (self.port,) = free_ports(1)
        self.up()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def up(self) -> None:
        """Accept connections, on the same port as before."""
        self._run(self._listen())

    def down(self) -> None:
        """Refuse new connections and reset those that exist."""
        self._run(self._close())
        self.reset()

    def reset(self) -> None:
        """Reset every connection, as a crashed host's kernel does."""
        self._run(self._reset())

    def hold(self, after: int | None = None) -> None:
        """Swallow every byte from now on, or after exactly so many more towards the client: a black hole."""
        self._holding, self._hold_after = after is None, after

    def pause(self, after: int) -> None:
        """Keep back what comes after exactly so many more bytes towards the client, until ``resume``."""
        self._run(self._set_pause(after))

    def resume(self) -> None:
        """Forward what was kept back, and what comes."""
        self._run(self._set_pause(None))

    def limit(self, size: int | None) -> None:
        """Reset every connection after ``size`` more bytes towards the client."""
        self._limit = size

    def heal(self) -> None:
        """Forward again; connections that lost bytes are reset."""
        held, self._holding, self._limit, self.latency_s = self._holding, False, None, 0.0
        self._hold_after = None
        self.resume()
        if held:
            self.reset()

    def close(self) -> None:
        self.resume()
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _set_pause(self, after: int | None) -> None:
        self._pause_after = after
        if after is None:
            self._going_on.set()
        else:
            self._going_on.clear()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self) -> None:
        for writer in tuple(self._writers):
            _abort(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_connection(*self._target)
        except OSError:
            _abort(writer)
            return
        self._writers |= {writer, upstream}
        try:
            await asyncio.gather(
                self._pump(reader, upstream, back=False), self._pump(upstream_reader, writer, back=True)
            )
        finally:
            self._writers -= {writer, upstream}
            _abort(writer)
            _abort(upstream)

    async def _paused(self, data: bytes, writer: asyncio.StreamWriter) -> bytes:
        """Forward what goes before the pause; return the rest, once the pause is over if it comes in ``data``."""
        assert self._pause_after is not None
        if len(data) <= self._pause_after:
            self._pause_after -= len(data)
            return data
        writer.write(data[: self._pause_after])
        await writer.drain()
        rest, self._pause_after = data[self._pause_after :], 0
        await self._going_on.wait()
        return rest

    def _until_hold(self, data: bytes) -> bytes:
        """Return what of ``data`` still goes through, and hold from there on."""
        assert self._hold_after is not None
        through = data[: self._hold_after]
        self._hold_after -= len(through)
        if len(through) < len(data):
            self._holding, self._hold_after = True, None
        return through

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.latency_s)
                if back and self._pause_after is not None:
                    data = await self._paused(data, writer)
                if self._holding:
                    continue
                if back and self._hold_after is not None:
                    data = self._until_hold(data)
                if back and self._limit is not None:
                    self._limit -= len(data)
                    if self._limit < 0:
                        await self._reset()
                        return
                writer.write(data)
                await writer.drain()
            writer.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close with a reset: SO_LINGER of zero seconds."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """Run a proxy in front of ``target`` for as long as the block lasts."""
    proxy = FaultProxy(target)
    try:
        yield proxy
    finally:
        proxy.close()


@pytest.fixture
def proxied_triton(triton: Any) -> Iterator[FaultProxy]:
    """Put a proxy in front of the real Triton."""
    with fault_proxy(triton.grpc) as proxy:
        yield proxy
