"""NVIDIA Triton over gRPC, with FasterTransformer's tensors.

Whole answers come from the unary model, where Triton batches them; streams from its decoupled twin. A
server without a twin, or whose only model is decoupled (NVIDIA's own streaming configuration), is served as
well.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import TypeVar

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.engine import responses, rpc_errors, scores, tensors
from gateway.engine.availability import Availability
from gateway.engine.base import GenerateRequest, ScoreRequest, TokenChunk
from gateway.engine.batches import split, starts
from gateway.engine.calls import metadata, remaining
from gateway.engine.channel import Servers
from gateway.engine.model_metadata import PY_MODEL, ModelMetadata, describe
from gateway.engine.streams import Streams
from gateway.errors import ApiError, unavailable
from gateway.merge import merge

_RECONNECT_S = 0.3
_READY_S = 1.0
_INTERFACE_S = 60.0
T = TypeVar("T")


class TritonEngine:
    """One channel to Triton. The channel connects when first used, and again by itself after a restart.

    ``hold_s``: seconds of an absence for which requests wait for the server instead of failing.
    """

    def __init__(
        self, servers: Servers | str, eos_id: int, model: str = "fastertransformer",
        stream_model: str = "fastertransformer_stream", connect_s: float = 2.0, hold_s: float = 0.0,
    ) -> None:  # fmt: skip
        self._servers = Servers(servers) if isinstance(servers, str) else servers
        self._eos_id = eos_id
        self._model = model
        self._stream_model = stream_model
        self._connect_s = connect_s
        self._interfaces: dict[str, tuple[float, ModelMetadata | None]] = {}
        self._reach = Availability(self, hold_s)
        self._streams = Streams()

    @property
    def _stub(self) -> service_pb2_grpc.GRPCInferenceServiceStub:
        return self._servers.stub

    @property
    def offered(self) -> bool:
        """Say whether a server is there to ask; not when every one is being taken away."""
        return self._servers.any

    async def complete(self, job: GenerateRequest) -> list[TokenChunk]:
        """Return one ``TokenChunk`` per row; rows beyond the model's batch size go in several requests."""
        end = time.monotonic() + job.deadline_s
        interface = await self._interface(job.model, end)
        if interface.decoupled:
            return await self._collect(job, interface, end)
        parts = split(job, interface.max_batch_size)
        if len(parts) == 1:
            return await self._infer(job, interface, end)
        found = await asyncio.gather(*(self._infer(part, interface, end) for part in parts))
        return [
            replace(tokens, row=first + tokens.row)
            for first, rows in zip(starts(parts), found, strict=True)
            for tokens in rows
        ]

    async def stream(self, job: GenerateRequest) -> AsyncGenerator[TokenChunk, None]:
        """Yield tokens as they are made.

        Without a decoupled model the whole answer comes as one piece per row.
        """
        end = time.monotonic() + job.deadline_s
        interface = await self._interface(job.model, end)
        if not interface.decoupled:
            twin = await self._known(self._stream_model, end) if interface.name == self._model else None
            if twin is None or not twin.decoupled:
                for tokens in await self.complete(job):
                    yield tokens
                return
            interface = twin
        parts = split(job, interface.max_batch_size)
        places = zip(parts, starts(parts), strict=True)
        sources = [self._infer_stream(part, interface, first, end) for part, first in places]
        async with aclosing(merge(sources)) as merged:
            async for tokens in merged:
                yield tokens

    async def score(self, job: ScoreRequest) -> list[float]:
        """Return the text's log probabilities; raises 400 where the model tells none."""
        end = time.monotonic() + job.deadline_s
        request = scores.build(job, await self._interface(None, end), self._eos_id)
        return scores.read(await self._unary(request, job, end), job)

    async def ready(self) -> bool:
        """Say whether the server and the model answer; bounded to one second, never raises."""
        if not self.offered:
            return False
        try:
            async with asyncio.timeout(_READY_S):
                ready = (await self._stub.ServerReady(service_pb2.ServerReadyRequest())).ready
                request = service_pb2.ModelReadyRequest(name=self._model)
                ready = ready and (await self._stub.ModelReady(request)).ready
        except (TimeoutError, grpc.aio.AioRpcError):
            return False
        if ready:
            self._reach.present()
        return bool(ready)

    async def close(self) -> None:
        """Close the channels; calls under way are cancelled."""
        await self._reach.close()
        await self._streams.close()
        await self._servers.close()

    async def _interface(self, asked: str | None, end: float) -> ModelMetadata:
        """Return the interface of the model to use.

        The one asked for where the server has it, else our own.
        """
        if asked == PY_MODEL != self._model and (found := await self._known(PY_MODEL, end)) is not None:
            return found
        while (interface := await self._known(self._model, end)) is None:
            self._interfaces.pop(self._model, None)
            if not await self._reach.back(end):
                raise unavailable("The model is not loaded on the model server yet. Try again shortly.", 5.0)
        return interface

    async def _known(self, name: str, end: float) -> ModelMetadata | None:
        """Return what is known of a model; it's asked again after a minute and after every failure."""
        asked_at, interface = self._interfaces.get(name, (-_INTERFACE_S, None))
        if time.monotonic() - asked_at < _INTERFACE_S:
            return interface
        interface = await self._reaching(lambda: describe(self._stub, name, self._connect_s), end)
        self._interfaces[name] = (time.monotonic(), interface)
        return interface

    def _failed(self, error: grpc.aio.AioRpcError) -> ApiError:
        """Return the caller's error; after a failure to reach the server, forget what was known of it."""
        if self._reach.failed(error) or error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            self._interfaces.clear()
        return rpc_errors.from_rpc(error)

    async def _reaching(self, call: Callable[[], Awaitable[T]], end: float) -> T:
        """Make a call, and make it again as ``Availability`` allows when the server could not be reached."""
        attempt = 0
        while True:
            attempt += 1
            await self._reach.admitted(end)
            try:
                answer = await call()
            except grpc.aio.AioRpcError as error:
                failure = self._failed(error)
                if not await self._reach.again(error, attempt, end):
                    raise failure from error
            else:
                self._reach.present()
                return answer

    async def connected(self) -> None:
        """Wait a moment for the channel to connect."""
        live = service_pb2.ServerLiveRequest()
        with suppress(grpc.aio.AioRpcError):
            await self._stub.ServerLive(live, timeout=_RECONNECT_S, wait_for_ready=True)

    async def _infer(self, job: GenerateRequest, interface: ModelMetadata, end: float) -> list[TokenChunk]:
        return responses.rows(await self._unary(tensors.build(job, interface, self._eos_id), job, end), job)

    async def _unary(
        self, request: service_pb2.ModelInferRequest, job: GenerateRequest | ScoreRequest, end: float
    ) -> service_pb2.ModelInferResponse:
        """Make one unary call."""
        told = metadata(job.traceparent)
        response = await self._reaching(
            lambda: self._stub.ModelInfer(request, timeout=remaining(end), metadata=told), end
        )
        self._reach.served()
        return response

    async def _infer_stream(
        self, job: GenerateRequest, interface: ModelMetadata, first: int, end: float
    ) -> AsyncGenerator[TokenChunk, None]:
        """Make one streaming call, and make it again like any other while nothing has come back yet."""
        attempt = 0
        while True:
            attempt += 1
            await self._reach.admitted(end)
            started = False
            try:
                async with aclosing(self._responses(job, interface, end)) as pieces:
                    async for tokens in pieces:
                        started = True
                        yield replace(tokens, row=first + tokens.row) if first else tokens
            except grpc.aio.AioRpcError as error:
                failure = self._failed(error)
                if started or not await self._reach.again(error, attempt, end):
                    raise failure from error
            else:
                return

    async def _responses(
        self, job: GenerateRequest, interface: ModelMetadata, end: float
    ) -> AsyncGenerator[TokenChunk, None]:
        """Yield what one stream brings; leaving early stops the work on the server."""
        kind = responses.RowStream if interface.rows_streamed else responses.CumulativeStream
        reader = kind(job)
        request = tensors.build(job, interface, self._eos_id)
        stream = self._streams.open(self._stub, request, interface, remaining(end), metadata(job.traceparent))
        try:
            async for response in stream.responses():
                self._reach.served()
                if response.error_message:
                    raise rpc_errors.in_stream(response.error_message)
                if not response.infer_response.outputs:
                    continue  # the empty final response that Triton adds on request
                for tokens in reader.feed(response.infer_response):
                    yield tokens
                if reader.complete:
                    break
            for tokens in reader.end():
                yield tokens
        finally:
            await stream.leave(complete=reader.complete)

    async def _collect(self, job: GenerateRequest, interface: ModelMetadata, end: float) -> list[TokenChunk]:
        """Return whole rows from a model that only streams."""
        ids: list[list[int]] = [[] for _ in range(job.n)]
        scores: list[list[float]] = [[] for _ in range(job.n)]
        parts = split(job, interface.max_batch_size)
        places = zip(parts, starts(parts), strict=True)
        sources = [self._infer_stream(part, interface, first, end) for part, first in places]
        async with aclosing(merge(sources)) as merged:
            async for tokens in merged:
                ids[tokens.row].extend(tokens.ids)
                scores[tokens.row].extend(tokens.logprobs)
        return [TokenChunk(row, ids[row], scores[row], final=True) for row in range(job.n)]
