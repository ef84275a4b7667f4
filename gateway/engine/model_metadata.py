"""What a Triton model declares: its input tensors, their types, and whether it streams.

FauxPilot's models declare ``random_seed`` INT32, NVIDIA's own FasterTransformer examples UINT64, its Python
backend INT32 everywhere; so the gateway reads what a model declares and assumes nothing of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from gateway.engine import rpc_errors
from gateway.errors import unavailable

# In FauxPilot's order; a model gets those that it declares.
INPUTS: dict[str, str] = {
    "input_ids": "UINT32",
    "input_lengths": "UINT32",
    "request_output_len": "UINT32",
    "runtime_top_k": "UINT32",
    "runtime_top_p": "FP32",
    "beam_search_diversity_rate": "FP32",
    "random_seed": "INT32",
    "temperature": "FP32",
    "len_penalty": "FP32",
    "repetition_penalty": "FP32",
    "is_return_log_probs": "BOOL",
    "beam_width": "UINT32",
    "start_id": "UINT32",
    "end_id": "UINT32",
    "bad_words_list": "INT32",
    "stop_words_list": "INT32",
}
PY_MODEL = "py-model"
_DEFAULT_MAX_BATCH = 1024
_NOT_OFFERED = (grpc.StatusCode.UNIMPLEMENTED,)


@dataclass(frozen=True)
class ModelMetadata:
    """A model's name, the type of each of its inputs (in sending order), and how it responds.

    ``decoupled`` models stream. With ``rows_streamed`` a response holds new tokens of one row
    (``row_index``); otherwise a decoupled model's responses are cumulative, as NVIDIA's are. ``scores``: the
    model takes the request parameter ``score_from``; ``withdraws``: it takes ``withdrawable`` and
    ``withdraw`` (``streams.py``); ``constrains``: it takes ``grammar``.
    """

    name: str
    inputs: Mapping[str, str] = field(default_factory=lambda: dict(INPUTS))
    decoupled: bool = False
    rows_streamed: bool = False
    max_batch_size: int = _DEFAULT_MAX_BATCH
    scores: bool = False
    withdraws: bool = False
    constrains: bool = False

    @cached_property
    def template(self) -> service_pb2.ModelInferRequest:
        """Return a message that names every input, of shape [1, 1] and without values."""
        message = service_pb2.ModelInferRequest(model_name=self.name)
        for name, datatype in self.inputs.items():
            message.inputs.add(name=name, datatype=datatype, shape=(1, 1))
        return message

    @classmethod
    def documented(cls, name: str) -> "ModelMetadata":
        """Return what FauxPilot documents for a model, for servers that offer no metadata."""
        if name != PY_MODEL:
            return cls(name)
        types = {key: "INT32" if kind == "UINT32" else kind for key, kind in INPUTS.items()}
        return cls(name, types)


async def describe(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, name: str, timeout_s: float
) -> ModelMetadata | None:
    """Query the server for a model's metadata; ``None`` when it has no such model.

    Raises ``ApiError`` 503 when the model needs an input that this gateway cannot fill, and ``AioRpcError``
    when the query fails.
    """
    try:
        metadata = await stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=name), timeout=timeout_s)
        config = await _config(stub, name, timeout_s)
    except grpc.aio.AioRpcError as error:
        if error.code() in _NOT_OFFERED:
            return ModelMetadata.documented(name)
        if rpc_errors.is_without_model(error):
            return None
        raise
    return _checked(name, metadata, config)


async def _config(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, name: str, timeout_s: float
) -> model_config_pb2.ModelConfig:
    """Return the model's configuration; a default one when the server does not offer it."""
    try:
        message = service_pb2.ModelConfigRequest(name=name)
        return (await stub.ModelConfig(message, timeout=timeout_s)).config
    except grpc.aio.AioRpcError as error:
        if error.code() in _NOT_OFFERED:
            return model_config_pb2.ModelConfig(max_batch_size=_DEFAULT_MAX_BATCH)
        raise


def _checked(
    name: str, metadata: service_pb2.ModelMetadataResponse, config: model_config_pb2.ModelConfig
) -> ModelMetadata:
    declared = {tensor.name: tensor.datatype for tensor in metadata.inputs}
    optional = {tensor.name for tensor in config.input if tensor.optional}
    unknown = [tensor for tensor in declared if tensor not in INPUTS and tensor not in optional]
    if unknown or "input_ids" not in declared:
        raise unavailable(
            f"The Triton model {name!r} does not have FasterTransformer's interface. "
            f"Inputs this gateway cannot fill: {', '.join(unknown) or 'input_ids is missing'}.",
            5.0,
            "upstream_incompatible",
        )
    return ModelMetadata(
        name,
        {tensor: declared[tensor] for tensor in INPUTS if tensor in declared},
        config.model_transaction_policy.decoupled,
        any(output.name == "row_index" for output in metadata.outputs),
        max(1, config.max_batch_size),
        config.parameters["scores"].string_value == "true",
        config.parameters["withdraws"].string_value == "true",
        config.parameters["constrains"].string_value == "true",
    )
