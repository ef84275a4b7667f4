"""FasterTransformer's tensors: a job to a request, a response to tokens.

A request starts as a copy of its model's blank one, and its values are packed into raw contents at once:
``InferInput`` objects would copy every tensor twice more.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from gateway.engine.base import GenerateRequest
from gateway.engine.model_metadata import ModelMetadata
from gateway.errors import bad_gateway

_CODES = {"UINT32": "I", "INT32": "i", "UINT64": "Q", "INT64": "q", "FP32": "f", "FP16": "e", "BOOL": "?"}
_DTYPES = {datatype: f"<{np.dtype(code).str[1:]}" for datatype, code in _CODES.items()}
_SEED_BITS = {"INT32": 31, "UINT32": 32, "INT64": 63, "UINT64": 64}
_NO_WORDS = (0, -1)
Array = NDArray[Any]


def word_list(sequences: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return FasterTransformer's word list of one row: ids one after the other, then each sequence's end.

    Ends are padded with -1 to the number of ids; no words at all is ``(0, -1)``.
    """
    ids = [token for sequence in sequences for token in sequence]
    if not ids:
        return _NO_WORDS
    ends = list(accumulate(len(sequence) for sequence in sequences if sequence))
    return [*ids, *ends, *[-1] * (len(ids) - len(ends))]


def _values(job: GenerateRequest, eos_id: int) -> dict[str, Sequence[float]]:
    """Return each input's values for one row. Greedy is top_k 1 at temperature 1, as FauxPilot sends it."""
    greedy = job.sampling.temperature == 0
    return {
        "input_ids": job.prompt_ids,
        "input_lengths": (len(job.prompt_ids),),
        "request_output_len": (job.max_tokens,),
        "runtime_top_k": (1 if greedy else job.sampling.top_k,),
        "runtime_top_p": (job.sampling.top_p,),
        "beam_search_diversity_rate": (0.0,),
        "temperature": (1.0 if greedy else job.sampling.temperature,),
        "len_penalty": (1.0,),
        "repetition_penalty": (job.sampling.repetition_penalty,),
        "is_return_log_probs": (job.logprobs,),
        "beam_width": (1,),
        "start_id": (eos_id,),
        "end_id": (eos_id,),
        "bad_words_list": _NO_WORDS,
        "stop_words_list": word_list(job.stop_ids),
    }


def build(job: GenerateRequest, interface: ModelMetadata, eos_id: int) -> service_pb2.ModelInferRequest:
    """Return the request for all rows of a job, with Triton's own ``timeout`` (microseconds) as a parameter.

    ``batchable`` tells our backend that the seed was not chosen by the caller, so it may sample these rows
    together with those of other requests.
    """
    request = service_pb2.ModelInferRequest()
    request.CopyFrom(interface.blank)
    request.id = job.request_id
    request.parameters["timeout"].int64_param = int(job.deadline_s * 1e6)
    if not job.seeded:
        request.parameters["batchable"].bool_param = True
    values = _values(job, eos_id)
    shape: tuple[int, ...]
    for tensor, (name, datatype) in zip(request.inputs, interface.inputs.items(), strict=True):
        if name == "random_seed":
            mask = (1 << _SEED_BITS.get(datatype, 31)) - 1
            shape, packed = (job.n, 1), _pack(datatype, [seed & mask for seed in job.seeds])
        else:
            row = values[name]
            shape = (job.n, 2, len(row) // 2) if name.endswith("_words_list") else (job.n, len(row))
            packed = _pack(datatype, row) * job.n
        if shape != (1, 1):
            tensor.shape[:] = shape
        request.raw_input_contents.append(packed)
    return request


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
    found: dict[str, Array] = {}
    for position, tensor in enumerate(response.outputs):
        try:
            dtype = np.dtype(_DTYPES[tensor.datatype])
            if position < len(response.raw_output_contents):
                flat = np.frombuffer(response.raw_output_contents[position], dtype)
            else:
                flat = np.array(_TYPED[tensor.datatype](tensor.contents), dtype)
            found[tensor.name] = flat.reshape(tuple(tensor.shape))
        except (KeyError, ValueError) as error:
            raise bad_gateway(f"The model server sent a broken tensor {tensor.name[:64]!r}.") from error
    return found


def log_probs(tensors: Mapping[str, Array], name: str = "output_log_probs") -> Array | None:
    """Return the log probabilities as [rows, tokens]; raises 502 for NaN and infinities."""
    array = tensors.get(name)
    if array is None:
        return None
    if not np.isfinite(array).all():
        raise bad_gateway("The model server sent log probabilities that are no numbers.")
    return array.reshape(array.shape[0], -1)
