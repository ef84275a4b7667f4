"""Streamed answers of Triton: asked for, read, and left in a way that Triton survives.

A stream that is cancelled in the moment of a response may take Triton's gRPC front with it
(triton-inference-server/server issues 7368 and 7472), and editors leave streams at every other keystroke. So
a stream ends by itself: our backend is asked on the same stream to stop, which it answers with the end.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.engine.model_metadata import ModelMetadata

# Our backend looks for withdrawals ten times a second.
_LEAVE_S = 3.0
# It also ends what is out of time by itself, which must come before gRPC's own limit: that one cancels.
_GRACE_S = 1.0
_CLOSE_S = 1.0
_GONE = (grpc.aio.AioRpcError, asyncio.InvalidStateError)


class Streams:
    """The streams of one engine, those included that nobody reads any more."""

    def __init__(self) -> None:
        self._leaving: set[asyncio.Task[None]] = set()

    def open(
        self,
        stub: service_pb2_grpc.GRPCInferenceServiceStub,
        request: service_pb2.ModelInferRequest,
        interface: ModelMetadata,
        timeout_s: float,
        metadata: list[tuple[str, str]] | None,
    ) -> "Stream":
        """Ask for a stream that is to end within ``timeout_s``."""
        if interface.withdraws:
            request.parameters["timeout"].int64_param = int(timeout_s * 1e6)
            request.parameters["withdrawable"].string_param = uuid4().hex
            timeout_s += _GRACE_S
        return Stream(stub.ModelStreamInfer(timeout=timeout_s, metadata=metadata), request, self)

    def left(self, leaving: asyncio.Task[None]) -> None:
        """Keep what ends a stream until it has."""
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Give streams that were left a moment to end."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=_CLOSE_S)


class Stream:
    """One request to a decoupled model, and its responses.

    A task of its own reads them: grpc.aio cancels a call when a task that waits for it is cancelled.
    """

    def __init__(self, call: Any, request: service_pb2.ModelInferRequest, streams: Streams) -> None:  # noqa: ANN401 -- grpc's own type is private
        self._call, self._request, self._streams = call, request, streams
        self._withdrawable = "withdrawable" in request.parameters
        # Holds the responses of one request at most, and those are bounded by its tokens.
        self._read: asyncio.Queue[service_pb2.ModelStreamInferResponse | Exception | None] = asyncio.Queue()
        self._asked = asyncio.Event()
        self._reading = asyncio.create_task(self._read_all())

    async def responses(self) -> AsyncGenerator[service_pb2.ModelStreamInferResponse, None]:
        """Yield what comes. Raises ``AioRpcError`` where the call fails."""
        while (found := await self._read.get()) is not None:
            if isinstance(found, Exception):
                raise found
            yield found

    async def leave(self, *, complete: bool) -> None:
        """Let the stream end: by itself where it is ``complete``, else by stopping the work for it.

        Who waits for it keeps the request's place until the work has ended; it goes on without, too.
        """
        leaving = asyncio.create_task(self._leave(complete=complete))
        self._streams.left(leaving)
        await asyncio.shield(leaving)

    async def _read_all(self) -> None:
        last: Exception | None = None
        try:
            await self._call.write(self._request)
            self._asked.set()
            if not self._withdrawable:
                await self._call.done_writing()
            async for response in self._call:
                self._read.put_nowait(response)
        except grpc.aio.AioRpcError as error:
            last = error
        except asyncio.InvalidStateError:
            # grpc.aio raises this when the call is over before the request was written; its status says why.
            code, details = await self._call.code(), await self._call.details()
            last = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
        finally:
            self._asked.set()
            self._read.put_nowait(last)

    async def _leave(self, *, complete: bool) -> None:
        try:
            async with asyncio.timeout(_LEAVE_S):
                if self._withdrawable:
                    await self._end(complete=complete)
                if complete or self._withdrawable:
                    await asyncio.wait({self._reading})
        except TimeoutError:
            pass
        finally:
            self._call.cancel()
            # A call that is cancelled before it began does not wake who reads it (grpcio 1.85).
            self._reading.cancel()

    async def _end(self, *, complete: bool) -> None:
        with suppress(*_GONE):
            await self._asked.wait()  # gRPC takes one message at a time
            if not complete:
                await self._withdraw()
            await self._call.done_writing()

    async def _withdraw(self) -> None:
        name = self._request.parameters["withdrawable"].string_param
        # Triton wants every input again before it hands a request to the backend.
        self._request.parameters["withdraw"].string_param = name
        await self._call.write(self._request)
