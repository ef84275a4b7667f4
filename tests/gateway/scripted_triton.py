"""A gRPC server that records requests and answers as the recorded cases' ``fake_triton_rule`` says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gateway.engine.model_metadata import INPUTS
from gateway.text.tokenizer import Tokenizer

_DTYPES = {"UINT32": "<u4", "INT32": "<i4", "UINT64": "<u8", "FP32": "<f4", "BOOL": "?"}
Infer = service_pb2.ModelInferRequest
Answer = service_pb2.ModelInferResponse


@dataclass
class Script:
    """What the server does: the text it "generates", and how it fails. ``change`` edits each answer."""

    text: str = "() {\n    return 1\n\n"
    mode: str = "text"
    delay_s: float = 0.0
    types: dict[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ("fastertransformer",)
    decoupled: tuple[str, ...] = ()
    max_batch_size: int = 1024
    row_streams: bool = False
    change: Callable[[dict[str, np.ndarray]], None] | None = None
    requests: list[Infer] = field(default_factory=list)
    cancelled: int = 0
    withdraws: bool = False
    withdrawn: list[str] = field(default_factory=list)
    fail_first: int = 0
    break_after: int | None = None
    held_after: int | None = None


def tensors(request: Infer) -> list[dict]:
    """Return a request's tensors in order, as the recordings write them."""
    found = []
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        data = np.frombuffer(raw, _DTYPES[tensor.datatype]).reshape(tuple(tensor.shape))
        found.append(
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "data": data.tolist(),
            }
        )
    return found


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The servicer; everything it does is in its script."""

    def __init__(self, script: Script, tokenizer: Tokenizer) -> None:
        self.script, self._tokenizer = script, tokenizer

    async def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=self.script.mode == "text")

    async def ModelReady(self, request, context):
        return service_pb2.ModelReadyResponse(ready=request.name in self.script.models)

    async def ModelMetadata(self, request, context):
        await self._check(request.name, context)
        answer = service_pb2.ModelMetadataResponse(name=request.name)
        for name, kind in INPUTS.items():
            if request.name == "py-model" and kind == "UINT32":
                kind = "INT32"
            answer.inputs.add(name=name, datatype=self.script.types.get(name, kind), shape=[-1, 1])
        if self.script.row_streams and request.name in self.script.decoupled:
            answer.outputs.add(name="row_index", datatype="INT32", shape=[-1, 1])
        return answer

    async def ModelConfig(self, request, context):
        await self._check(request.name, context)
        answer = service_pb2.ModelConfigResponse()
        answer.config.max_batch_size = self.script.max_batch_size
        answer.config.model_transaction_policy.decoupled = request.name in self.script.decoupled
        answer.config.parameters["withdraws"].string_value = str(self.script.withdraws).lower()
        return answer

    async def ModelInfer(self, request, context):
        self.script.requests.append(request)
        await self._check(request.model_name, context)
        if request.model_name in self.script.decoupled:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED, "ModelInfer RPC doesn't support decoupled models"
            )
        try:
            await asyncio.sleep(self.script.delay_s)
        except asyncio.CancelledError:
            self.script.cancelled += 1
            raise
        return self._pack(self._whole(request))

    async def ModelStreamInfer(self, requests, context):
        async for request in requests:
            if "withdraw" in request.parameters:
                self.script.withdrawn.append(request.parameters["withdraw"].string_param)
                continue
            self.script.requests.append(request)
            await self._check(request.model_name, context)
            try:
                async for part in self._parts(request, context):
                    yield service_pb2.ModelStreamInferResponse(infer_response=self._pack(part))
            except (asyncio.CancelledError, GeneratorExit):
                self.script.cancelled += 1
                raise

    async def _check(self, model, context):
        script = self.script
        if script.mode == "unavailable" or script.fail_first > 0:
            script.fail_first -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
        if model not in script.models:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"Request for unknown model: '{model}' is not found"
            )
        for tensor in script.requests[-1].inputs if script.requests else ():
            if tensor.datatype == "INT64":
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, f"unexpected datatype for {tensor.name}"
                )

    def _whole(self, request: Infer) -> dict[str, np.ndarray]:
        given = {tensor["name"]: tensor["data"] for tensor in tensors(request)}
        prompt, limit = given["input_ids"], given["request_output_len"][0][0]
        rows, length = len(prompt), len(prompt[0])
        made = self._tokenizer.encode_control(self.script.text)[:limit]
        padding = [50256] * (limit - len(made))
        scores = [-0.125 * (k + 1) for k in range(limit)]
        answer = {
            "output_ids": np.array([[row + made + padding] for row in prompt], "<u4"),
            "sequence_length": np.full((rows, 1), length + len(made), "<u4"),
            "cum_log_probs": np.full((rows, 1), sum(scores[: len(made)]), "<f4"),
            "output_log_probs": np.array([[scores]] * rows, "<f4").reshape(rows, 1, limit),
        }
        if self.script.change:
            self.script.change(answer)
        return answer

    async def _parts(self, request: Infer, context):
        whole = self._whole(request)
        ids, totals = whole["output_ids"], whole["sequence_length"]
        rows, length = len(ids), ids.shape[2] - whole["output_log_probs"].shape[2]
        made = int(totals[0, 0]) - length
        for step in range(1, made + 1):
            await asyncio.sleep(self.script.delay_s)
            if self.script.held_after is not None and step > self.script.held_after:
                await asyncio.Event().wait()
            if self.script.break_after is not None and step > self.script.break_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
            if not self.script.row_streams:
                yield {**whole, "sequence_length": np.full((rows, 1), length + step, "<u4")}
                continue
            for row in range(rows):
                yield {
                    "output_ids": ids[row : row + 1, :, length + step - 1 : length + step],
                    "sequence_length": np.array([[length + step]], "<u4"),
                    "output_log_probs": whole["output_log_probs"][row : row + 1, :, step - 1 : step],
                    "row_index": np.array([[row]], "<i4"),
                    "row_final": np.array([[step == made]], "?"),
                }

    def _pack(self, arrays: dict[str, np.ndarray]) -> Answer:
        answer = Answer()
        names = {np.dtype(code): name for name, code in _DTYPES.items()}
        for name, array in arrays.items():
            answer.outputs.add(name=name, datatype=names[array.dtype], shape=array.shape)
            answer.raw_output_contents.append(array.tobytes())
        return answer
