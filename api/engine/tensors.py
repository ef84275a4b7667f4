"""FasterTransformer's tensors: a job to a request, a response to tokens.

The request is built as protobuf with raw contents at once; ``InferInput`` objects would copy every tensor
twice more.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from api.engine.base import Job
from api.engine.interface import ModelInterface
from api.errors import bad_gateway

_DTYPES = {
    "UINT32": "<u4", "INT32": "<i4", "UINT64": "<u8", "INT64": "<i8",
    "FP32": "<f4", "FP16": "<f2", "BOOL": "?",
}  # fmt: skip
_SEED_BITS = {"INT32": 31, "UINT32": 32, "INT64": 63, "UINT64": 64}
Array = NDArray[Any]


def word_list(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return FasterTransformer's word list of one row: ids one after the other, and where each sequence ends.

    Ends are padded with -1 to the length of the ids; no words at all is ``[[0], [-1]]``.
    """
    ids = [token for sequence in sequences for token in sequence]
    if not ids:
        return [[0], [-1]]
    ends = np.cumsum([len(sequence) for sequence in sequences if sequence]).tolist()
    return [ids, ends + [-1] * (len(ids) - len(ends))]


def _values(job: Job, eos_id: int) -> dict[str, Any]:
    """Return each input's value for one row. Greedy is top_k 1 at temperature 1, as FauxPilot sends it."""
    greedy = job.sampling.temperature == 0
    return {
        "input_ids": list(job.prompt_ids),
        "input_lengths": [len(job.prompt_ids)],
        "request_output_len": [job.max_tokens],
        "runtime_top_k": [1 if greedy else job.sampling.top_k],
        "runtime_top_p": [job.sampling.top_p],
        "beam_search_diversity_rate": [0.0],
        "temperature": [1.0 if greedy else job.sampling.temperature],
        "len_penalty": [1.0],
        "repetition_penalty": [job.sampling.repetition_penalty],
        "is_return_log_probs": [job.logprobs],
        "beam_width": [1],
        "start_id": [eos_id],
        "end_id": [eos_id],
        "bad_words_list": [[0], [-1]],
        "stop_words_list": word_list(job.stop_ids),
    }


def _seeds(job: Job, datatype: str) -> Array:
    mask = (1 << _SEED_BITS.get(datatype, 31)) - 1
    seeds = [[seed & mask] for seed in job.seeds]
    return np.array(seeds, dtype=_DTYPES[datatype])


def build(job: Job, interface: ModelInterface, eos_id: int) -> service_pb2.ModelInferRequest:
    """Return the request for all rows of a job, with Triton's own ``timeout`` (microseconds) as a parameter.

    ``batchable`` tells our backend that the seed was not chosen by the caller, so it may sample these rows
    together with those of other requests.
    """
    request = service_pb2.ModelInferRequest(model_name=interface.name, id=job.request_id)
    request.parameters["timeout"].int64_param = int(job.deadline_s * 1e6)
    if not job.seeded:
        request.parameters["batchable"].bool_param = True
    values = _values(job, eos_id)
    for name, datatype in interface.inputs.items():
        if name == "random_seed":
            array = _seeds(job, datatype)
        else:
            row = np.array([values[name]], dtype=_DTYPES[datatype])
            array = row if job.n == 1 else np.repeat(row, job.n, axis=0)
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


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
