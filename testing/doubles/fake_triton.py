"""A gRPC server with Triton's interface and a fixed latency, which can also misbehave.

It answers with FasterTransformer's tensors, without computing anything, so that what is measured in front of
it is the front. ``python -m testing.doubles.fake_triton --latency-ms 20`` runs one as a process for benchmarks.
"""

import argparse
import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gateway.engine.model_metadata import INPUTS
from testing.ports import free_ports

UNARY, STREAM = "fastertransformer", "fastertransformer_stream"
_TOKEN = 64


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # gRPC ships no types
    """Set ``latency_s``, ``model_ready`` or ``fault`` at any time.

    Faults: garbage, shape, nan, huge, ids, empty, error, hang, and held, which waits until it is taken away.
    """

    def __init__(self, latency_s: float = 0.0) -> None:
        self.latency_s = latency_s
        self.model_ready = True
        self.fault = ""
        self.running = 0
        self.peak = 0
        self.cancelled = 0
        self.served = 0

    async def ServerLive(self, *_: Any) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, *_: Any) -> Any:
        return service_pb2.ServerReadyResponse(ready=True)

    async def ModelReady(self, *_: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=self.model_ready)

    async def ModelMetadata(self, request: Any, _: Any) -> Any:
        answer = service_pb2.ModelMetadataResponse(name=request.name, versions=["1"], platform="fake")
        for name, kind in INPUTS.items():
            answer.inputs.add(name=name, datatype=kind, shape=[-1, -1])
        for name in (
            "output_ids",
            "sequence_length",
            *(("row_index", "row_final") if request.name == STREAM else ()),
        ):
            answer.outputs.add(name=name, datatype="INT32", shape=[-1, -1])
        return answer

    async def ModelConfig(self, request: Any, _: Any) -> Any:
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=1024)
        config.model_transaction_policy.decoupled = request.name == STREAM
        return service_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        await self._work(context)
        ids, asked = _asked(request)
        rows = np.concatenate([ids, np.full((len(ids), asked), _TOKEN, np.uint32)], axis=1)[:, None, :]
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        _add(answer, "output_ids", "UINT32", rows)
        _add(answer, "sequence_length", "UINT32", np.full((len(ids), 1), rows.shape[2], np.uint32))
        _add(answer, "output_log_probs", "FP32", np.full((len(ids), 1, asked), -0.5, np.float32))
        _spoil(answer, self.fault)
        return answer

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            await self._work(context)
            ids, asked = _asked(request)
            for row in range(len(ids)):
                for step in range(asked):
                    answer = service_pb2.ModelInferResponse(model_name=request.model_name)
                    _add(answer, "output_ids", "UINT32", np.full((1, 1, 1), _TOKEN, np.uint32))
                    _add(answer, "row_index", "INT32", np.full((1, 1), row, np.int32))
                    _add(answer, "output_log_probs", "FP32", np.full((1, 1, 1), -0.5, np.float32))
                    _add(answer, "row_final", "BOOL", np.full((1, 1), step == asked - 1, np.bool_))
                    _spoil(answer, self.fault)
                    yield service_pb2.ModelStreamInferResponse(infer_response=answer)

    async def _work(self, context: Any) -> None:
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            if self.fault == "hang":
                await asyncio.sleep(3600)
            while self.fault == "held":  # noqa: ASYNC110 -- another thread takes it away
                await asyncio.sleep(0.01)
            if self.fault == "error":
                await context.abort(grpc.StatusCode.INTERNAL, "CUDA error: canary from the engine")
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            self.served += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


def _asked(request: Any) -> tuple[NDArray[np.uint32], int]:
    raw = {
        tensor.name: (tensor, data)
        for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True)
    }
    tensor, data = raw["input_ids"]
    ids = np.frombuffer(data, np.uint32).reshape(tuple(tensor.shape))
    return ids, int(np.frombuffer(raw["request_output_len"][1], np.uint32)[0])


def _add(answer: Any, name: str, kind: str, array: NDArray[Any]) -> None:
    answer.outputs.add(name=name, datatype=kind, shape=array.shape)
    answer.raw_output_contents.append(array.tobytes())


def _spoil(answer: Any, fault: str) -> None:
    if fault == "garbage":
        answer.raw_output_contents[0] = b"\xff" * 7
    elif fault == "shape":
        answer.outputs[0].shape[:] = [1, 1, 2]
        answer.raw_output_contents[0] = b"\0\0\0\0"
    elif fault == "nan":
        size = len(answer.raw_output_contents[2]) // 4
        answer.raw_output_contents[2] = np.full(size, np.nan, np.float32).tobytes()
    elif fault == "huge":
        answer.raw_output_contents[1] = np.full(
            len(answer.raw_output_contents[1]) // 4, 2**31, np.uint32
        ).tobytes()
    elif fault == "ids":
        size = len(answer.raw_output_contents[0]) // 4
        answer.raw_output_contents[0] = np.full(size, 2**32 - 1, np.uint32).tobytes()
    elif fault == "empty":
        del answer.outputs[:]
        del answer.raw_output_contents[:]


async def serve(fake: FakeTriton, port: int = 0) -> tuple[Any, int]:
    """Start a server on loopback; return it and its port."""
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(fake, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, bound


class FakeTritonThread:
    """A fake in a thread of its own, for blocking tests; ``address`` is host:port.

    Once it is closed, no other test's server takes its port, and another fake may be started at it.
    """

    def __init__(self, address: str = "") -> None:
        self.fake = FakeTriton()
        self.address = address or f"127.0.0.1:{free_ports(1)[0]}"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        port = int(self.address.rpartition(":")[2])
        started = asyncio.run_coroutine_threadsafe(serve(self.fake, port), self._loop)
        self._server, _ = started.result(60)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(None), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()


async def _forever(latency_s: float, port: int) -> None:
    server, bound = await serve(FakeTriton(latency_s), port)
    print(f"listening {bound}", flush=True)  # noqa: T201 -- the benchmark reads it
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="time of every answer")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    options = parser.parse_args()
    asyncio.run(_forever(options.latency_ms / 1000, options.port))
