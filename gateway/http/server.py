"""uvicorn with a drain when it stops, and with limits on how long connections wait."""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from gateway.http.drain import Drain
from gateway.http.handover import Giver
from gateway.http.uvicorn_protocol import bounded_protocol
from gateway.settings import Settings

_log = logging.getLogger(__name__)
_CANCEL_AFTER_S = 1
_STEP_S = 0.2
# Clients that keep their connection notice within their next request that it ends.
_LINGER_S = 1.0


class DrainingServer(uvicorn.Server):
    """On SIGTERM or SIGINT: drain first, then do what uvicorn does. A second SIGINT ends at once.

    uvicorn alone closes its listening socket at the signal, so that a client sees a refused connection, and
    waits for half-sent bodies without end. It also ends by the signal it caught; an orderly stop exits 0.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        settings: Settings,
        wait_for: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        super().__init__(config)
        self._drain, self._settings = drain, settings
        self._giver: Giver | None = None
        self._wait_for = wait_for

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for what must be ready, listen, and offer the listener to the next process."""
        while self._wait_for is not None and not await self._wait_for():
            if self.should_exit:
                return
            await asyncio.sleep(_STEP_S)
        await super().startup(sockets=sockets)
        if sockets and self.started and (folder := self._settings.handover_dir) is not None:
            self._giver = Giver(folder, self._settings.host, self._settings.port, sockets[0])
            self._giver.start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- uvicorn's signature
        """Report the gateway as not ready and let the main loop end."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self._drain.begin()
        self.should_exit = True

    async def main_loop(self) -> None:
        """Serve until a signal, then drain with the socket still open, so that new requests get a 503.

        Where another process has the socket too, new connections are its own, and requests on the old ones
        are served while they come.
        """
        await super().main_loop()
        self._drain.begin()
        _log.info("Stopping: %d requests under way", self._drain.under_way)
        if self._giver is not None and await self._giver.stop():
            for listening in self.servers:
                listening.close()
            await self._wait(_LINGER_S, _sleep)
        else:
            await self._wait(self._settings.drain_delay_s, _sleep)
            self._drain.refuse()
        if not await self._wait(self._settings.grace_s, self._drain.wait_until_idle):
            _log.warning("Cancelling %d requests that did not finish in time", self._drain.under_way)

    async def _wait(self, seconds: float, done: Callable[[float], Awaitable[bool]]) -> bool:
        """Await ``done`` in short steps: a second signal is noticed only between them."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not self.force_exit and (left := end - loop.time()) > 0:
            if await done(min(left, _STEP_S)):
                return True
        return False


async def _sleep(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return False


def server(
    app: FastAPI, settings: Settings, *, host: str, port: int, keep_alive_s: int = 75,
    wait_for: Callable[[], Awaitable[bool]] | None = None,
) -> DrainingServer:  # fmt: skip
    """Return a server for an application that has an ``Edge``; its ``run()`` blocks until the stop.

    It accepts no connection before ``wait_for`` returns true, which it calls again and again.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=bounded_protocol(settings.header_timeout_s, settings.max_connections),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=_CANCEL_AFTER_S,
        backlog=1024,
    )
    return DrainingServer(config, app.state.edge.drain, settings, wait_for)
