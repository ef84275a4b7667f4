"""Triton's streams: opening, reading, and closing them in a way that Triton survives.

A stream that is cancelled in the moment of a response may crash Triton's gRPC front end
(triton-inference-server/server issues 7368 and 7472), and editors leave streams at every other keystroke. So
a stream is closed by its server: a second message on the same stream makes this project's backend stop the
work and end the stream.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.engine.model_metadata import ModelMetadata

# The backend looks for withdrawn requests ten times a second.
_CLOSE_TIMEOUT_S = 3.0
# The backend also ends requests whose time is up, which must come before gRPC's own limit: that one cancels.
_GRACE_S = 1.0
_SHUTDOWN_S = 1.0
_CALL_OVER = (grpc.aio.AioRpcError, asyncio.InvalidStateError)


class Streams:
    """The streams of one engine, including those that are being closed."""

    def __init__(self) -> None:
        self._closing: set[asyncio.Task[None]] = set()

    def open(
        self,
        stub: service_pb2_grpc.GRPCInferenceServiceStub,
        message: service_pb2.ModelInferRequest,
        model: ModelMetadata,
        timeout_s: float,
        metadata: list[tuple[str, str]],
    ) -> "Stream":
        """Open a stream that ends within ``timeout_s``; ``metadata`` goes with the gRPC call."""
        if model.withdraws:
            message.parameters["timeout"].int64_param = int(timeout_s * 1e6)
            message.parameters["withdrawable"].string_param = uuid4().hex
            timeout_s += _GRACE_S
        return Stream(stub.ModelStreamInfer(timeout=timeout_s, metadata=metadata), message, self)

    def track(self, closing: asyncio.Task[None]) -> None:
        """Keep the task that closes a stream until it is done."""
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Give streams that are being closed a moment to end."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=_SHUTDOWN_S)


class Stream:
    """One request to a decoupled model, and its responses.

    A task of its own reads them: grpc.aio cancels a call when a task that waits for it is cancelled.
    """

    def __init__(self, call: Any, message: service_pb2.ModelInferRequest, streams: Streams) -> None:  # noqa: ANN401 -- grpc's own type is private
        self._call, self._message, self._streams = call, message, streams
        self._withdrawable = "withdrawable" in message.parameters
        # Holds the responses of one request at most, and those are bounded by its tokens.
        self._queue: asyncio.Queue[service_pb2.ModelStreamInferResponse | Exception | None] = asyncio.Queue()
        self._sent = asyncio.Event()
        self._reading = asyncio.create_task(self._read_all())

    async def responses(self) -> AsyncGenerator[service_pb2.ModelStreamInferResponse, None]:
        """Yield the responses. Raises ``AioRpcError`` when the call fails."""
        while (item := await self._queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    async def close(self, *, complete: bool) -> None:
        """Let the server end the stream; where the responses are not ``complete``, withdraw the request.

        A caller that awaits this keeps its slot until the work has ended; a cancelled caller leaves the
        closing to a task.
        """
        closing = asyncio.create_task(self._close(complete=complete))
        self._streams.track(closing)
        await asyncio.shield(closing)

    async def _read_all(self) -> None:
        last: Exception | None = None
        try:
            await self._call.write(self._message)
            self._sent.set()
            if not self._withdrawable:
                await self._call.done_writing()
            async for response in self._call:
                self._queue.put_nowait(response)
        except grpc.aio.AioRpcError as error:
            last = error
        except asyncio.InvalidStateError:
            # grpc.aio raises this when the call ends before the message is written; the status has the cause.
            code, details = await self._call.code(), await self._call.details()
            last = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
        finally:
            self._sent.set()
            self._queue.put_nowait(last)

    async def _close(self, *, complete: bool) -> None:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if self._withdrawable:
                    await self._finish_writing(withdraw=not complete)
                if complete or self._withdrawable:
                    await asyncio.wait({self._reading})
        except TimeoutError:
            pass
        finally:
            self._call.cancel()
            # A call that is cancelled before it began does not wake its reader (grpcio 1.85).
            self._reading.cancel()

    async def _finish_writing(self, *, withdraw: bool) -> None:
        with suppress(*_CALL_OVER):
            await self._sent.wait()  # gRPC takes one message at a time
            if withdraw:
                await self._withdraw()
            await self._call.done_writing()

    async def _withdraw(self) -> None:
        name = self._message.parameters["withdrawable"].string_param
        # Triton requires every input again before it hands a message to the backend.
        self._message.parameters["withdraw"].string_param = name
        await self._call.write(self._message)
