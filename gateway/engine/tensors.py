"""FasterTransformer's tensors: from an engine request to a gRPC message, and from a response to arrays.

A message starts as a copy of its model's template, and its values are packed into raw contents at once:
``InferInput`` objects would copy every tensor twice more.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from gateway.engine.base import GenerateRequest, Sampling, ScoreRequest
from gateway.engine.model_metadata import ModelMetadata
from gateway.errors import bad_gateway, invalid

_CODES = {"UINT32": "I", "INT32": "i", "UINT64": "Q", "INT64": "q", "FP32": "f", "FP16": "e", "BOOL": "?"}
_DTYPES = {datatype: f"<{np.dtype(code).str[1:]}" for datatype, code in _CODES.items()}
_SEED_BITS = {"INT32": 31, "UINT32": 32, "INT64": 63, "UINT64": 64}
_NO_WORDS = (0, -1)
# What is read of a streamed response: every tensor costs the server time for each token.
_STREAMED, _LOG_PROBS = ("output_ids", "row_index", "row_final"), ("output_log_probs",)
_UNCONSTRAINED = (
    "This model's runtime cannot constrain its text, so it takes neither tools nor response_format. Leave"
    " them out, or ask the administrator to serve the model as a GGUF file with llama.cpp (runtime llama_cpp)"
    " or behind OpenAI's API (engine: openai)."
)
Array = NDArray[Any]


def word_list(sequences: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return FasterTransformer's word list of one row: ids one after the other, then each sequence's end.

    Ends are padded with -1 to the number of ids; the empty list is ``(0, -1)``.
    """
    ids = [token for sequence in sequences for token in sequence]
    if not ids:
        return _NO_WORDS
    ends = list(accumulate(len(sequence) for sequence in sequences if sequence))
    return [*ids, *ends, *[-1] * (len(ids) - len(ends))]


def _values(request: GenerateRequest, eos_id: int) -> dict[str, Sequence[float]]:
    """Return each input's values for one row. Greedy is top_k 1 at temperature 1, as FauxPilot sends it."""
    greedy = request.sampling.temperature == 0
    return {
        "input_ids": request.prompt_ids,
        "input_lengths": (len(request.prompt_ids),),
        "request_output_len": (request.max_tokens,),
        "runtime_top_k": (1 if greedy else request.sampling.top_k,),
        "runtime_top_p": (request.sampling.top_p,),
        "beam_search_diversity_rate": (0.0,),
        "temperature": (1.0 if greedy else request.sampling.temperature,),
        "len_penalty": (1.0,),
        "repetition_penalty": (request.sampling.repetition_penalty,),
        "is_return_log_probs": (request.logprobs,),
        "beam_width": (1,),
        "start_id": (eos_id,),
        "end_id": (eos_id,),
        "bad_words_list": _NO_WORDS,
        "stop_words_list": word_list(request.stop_ids),
    }


def generate_message(
    request: GenerateRequest, model: ModelMetadata, eos_id: int
) -> service_pb2.ModelInferRequest:
    """Return the message for all rows of a request, with Triton's ``timeout`` (microseconds) as a parameter.

    ``batchable`` tells this project's backend that the caller did not choose the seed, so that these rows may
    be sampled together with those of other requests; ``grammar`` is what their text has to match. Raises
    ``ApiError`` 400 for a constraint where the model takes none.
    """
    message = service_pb2.ModelInferRequest()
    message.CopyFrom(model.template)
    message.id = request.request_id
    message.parameters["timeout"].int64_param = int(request.deadline_s * 1e6)
    if not request.seeded:
        message.parameters["batchable"].bool_param = True
    if request.constraint is not None:
        if not model.constrains:
            raise invalid(_UNCONSTRAINED, code="unsupported_parameter")
        message.parameters["grammar"].string_param = request.constraint.grammar
    if model.rows_streamed:
        for name in (*_STREAMED, *(_LOG_PROBS if request.logprobs else ())):
            message.outputs.add(name=name)
    values = _values(request, eos_id)
    shape: tuple[int, ...]
    for tensor, (name, datatype) in zip(message.inputs, model.inputs.items(), strict=True):
        if name == "random_seed":
            mask = (1 << _SEED_BITS.get(datatype, 31)) - 1
            shape, packed = (request.n, 1), _pack(datatype, [seed & mask for seed in request.seeds])
        else:
            row = values[name]
            words = name.endswith("_words_list")
            shape = (request.n, 2, len(row) // 2) if words else (request.n, len(row))
            packed = _pack(datatype, row) * request.n
        if shape != (1, 1):
            tensor.shape[:] = shape
        message.raw_input_contents.append(packed)
    return message


def score_message(request: ScoreRequest, model: ModelMetadata, eos_id: int) -> service_pb2.ModelInferRequest:
    """Return the message that scores a text: the unary model with the request parameter ``score_from``.

    FasterTransformer returns log probabilities of generated tokens only, so scoring is this project's
    backend's own; a model that can do it declares the parameter ``scores``. Raises ``ApiError`` 400 for
    others.
    """
    if not model.scores:
        raise invalid(
            "This model server cannot score prompt tokens. Leave out echo or logprobs, or serve the model "
            "with a runtime that can (ctranslate2).",
            "logprobs",
            "unsupported_parameter",
        )
    nothing_new = GenerateRequest(
        request.ids, 0, Sampling(0.0), (0,), logprobs=True, deadline_s=request.deadline_s,
        request_id=request.request_id,
    )  # fmt: skip
    message = generate_message(nothing_new, model, eos_id)
    message.parameters["score_from"].int64_param = request.start
    return message


def _pack(datatype: str, values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}{_CODES[datatype]}", *values)


_TYPED: Mapping[str, Callable[[Any], Any]] = {
    "UINT32": lambda contents: contents.uint_contents,
    "INT32": lambda contents: contents.int_contents,
    "UINT64": lambda contents: contents.uint64_contents,
    "INT64": lambda contents: contents.int64_contents,
    "FP32": lambda contents: contents.fp32_contents,
    "BOOL": lambda contents: contents.bool_contents,
}


def outputs(response: service_pb2.ModelInferResponse) -> dict[str, Array]:
    """Return a response's tensors by name; raises 502 where shape, type and bytes disagree."""
    arrays: dict[str, Array] = {}
    for position, tensor in enumerate(response.outputs):
        try:
            dtype = np.dtype(_DTYPES[tensor.datatype])
            if position < len(response.raw_output_contents):
                flat = np.frombuffer(response.raw_output_contents[position], dtype)
            else:
                flat = np.array(_TYPED[tensor.datatype](tensor.contents), dtype)
            arrays[tensor.name] = flat.reshape(tuple(tensor.shape))
        except (KeyError, ValueError) as error:
            raise bad_gateway(f"The model server sent a broken tensor {tensor.name[:64]!r}.") from error
    return arrays


def log_probs(tensors: Mapping[str, Array], name: str = "output_log_probs") -> Array | None:
    """Return the log probabilities as [rows, tokens]; raises 502 for NaN and infinities."""
    array = tensors.get(name)
    if array is None:
        return None
    if not np.isfinite(array).all():
        raise bad_gateway("The model server sent non-finite log probabilities (NaN or infinity).")
    return array.reshape(array.shape[0], -1)


def scores(response: service_pb2.ModelInferResponse, request: ScoreRequest) -> list[float]:
    """Return one log probability for each token from ``request.start`` on; raises 502 for anything else."""
    array = log_probs(outputs(response))
    count = len(request.ids) - request.start
    if array is None or array.shape != (1, count):
        raise bad_gateway(f"The model server did not return the log probabilities of {count} tokens.")
    values: list[float] = array[0].tolist()
    return values
