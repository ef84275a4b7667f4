"""Checks of the model server's responses, which become tokens only when they can be true.

A wrong shape, a length past the limit or an id out of range is a 502, never text in somebody's editor.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tritonclient.grpc import service_pb2

from gateway.engine.base import GenerateRequest, TokenChunk
from gateway.engine.tensors import Array, log_probs, outputs
from gateway.errors import ApiError, bad_gateway

_MAX_ID = 1 << 31


def _invalid(reason: str) -> ApiError:
    return bad_gateway(f"The model server returned an invalid completion: {reason}.")


def _checked_ids(array: Array) -> list[int]:
    ids: list[int] = array.tolist()
    if ids and (min(ids) < 0 or max(ids) >= _MAX_ID):
        raise _invalid("a token id is out of range")
    return ids


def _sequences(tensors: dict[str, Array], request: GenerateRequest) -> tuple[Array, list[int]]:
    """Return the ids as [rows, length] and each row's total length, after checking both."""
    ids, lengths = tensors.get("output_ids"), tensors.get("sequence_length")
    rows = request.n
    if ids is None or lengths is None:
        raise _invalid("output_ids or sequence_length is missing")
    if ids.ndim not in (2, 3) or ids.shape[0] != rows or lengths.size < rows or lengths.shape[0] != rows:
        raise _invalid(f"output_ids has shape {list(ids.shape)}, sequence_length {list(lengths.shape)}")
    best = ids[:, 0, :] if ids.ndim == 3 else ids
    totals: list[int] = lengths.reshape(rows, -1)[:, 0].tolist()
    start = len(request.prompt_ids)
    for total in totals:
        if not start <= total <= min(start + request.max_tokens, best.shape[1]):
            raise _invalid(f"sequence_length {total} is not between {start} and {start + request.max_tokens}")
    return best, totals


def rows(response: service_pb2.ModelInferResponse, request: GenerateRequest) -> list[TokenChunk]:
    """Return every row of a unary response; raises 502 for an invalid one."""
    tensors = outputs(response)
    ids, totals = _sequences(tensors, request)
    scores = log_probs(tensors) if request.logprobs else None
    if scores is not None and scores.shape[0] != request.n:
        raise _invalid(f"output_log_probs has {scores.shape[0]} rows instead of {request.n}")
    start = len(request.prompt_ids)
    chunks = []
    for row, total in enumerate(totals):
        values = () if scores is None else scores[row, : total - start].tolist()
        chunks.append(TokenChunk(row, _checked_ids(ids[row, start:total]), values, final=True))
    return chunks


@dataclass
class RowStream:
    """Reads this project's streaming model: each response holds the new tokens of one row."""

    request: GenerateRequest
    _counts: list[int] = field(init=False)
    _open: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._counts = [0] * self.request.n
        self._open = set(range(self.request.n))

    @property
    def complete(self) -> bool:
        """Return whether every row has been final: only the stream's end may follow."""
        return not self._open

    def feed(self, response: service_pb2.ModelInferResponse) -> Iterator[TokenChunk]:
        """Yield what one response adds; raises 502 for an invalid one."""
        tensors = outputs(response)
        try:
            row = int(tensors["row_index"].flat[0])
            ids = _checked_ids(tensors["output_ids"].reshape(-1))
            final = bool(tensors["row_final"].flat[0])
        except (KeyError, IndexError) as error:
            raise _invalid("row_index, output_ids or row_final is missing") from error
        if not 0 <= row < self.request.n:
            raise _invalid(f"row_index {row} of {self.request.n} rows")
        self._counts[row] += len(ids)
        if self._counts[row] > self.request.max_tokens:
            raise _invalid(f"more than {self.request.max_tokens} tokens")
        scores = log_probs(tensors) if self.request.logprobs else None
        values = () if scores is None else scores.reshape(-1)[: len(ids)].tolist()
        if final:
            self._open.discard(row)
        yield TokenChunk(row, ids, values, final)

    def end(self) -> Iterator[TokenChunk]:
        """Yield nothing; raise 502 when a row has not been final."""
        if self._open:
            raise _invalid("the stream ended before every row did")
        return iter(())


@dataclass
class CumulativeStream:
    """Reads NVIDIA's decoupled FasterTransformer: each response repeats every row from its start."""

    request: GenerateRequest
    _lengths: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._lengths = [len(self.request.prompt_ids)] * self.request.n

    complete = False  # only the stream's end shows it

    def feed(self, response: service_pb2.ModelInferResponse) -> Iterator[TokenChunk]:
        """Yield the part of each row that is new; raises 502 for an invalid response."""
        tensors = outputs(response)
        ids, totals = _sequences(tensors, self.request)
        scores = log_probs(tensors) if self.request.logprobs else None
        start = len(self.request.prompt_ids)
        for row, total in enumerate(totals):
            before = self._lengths[row]
            if total > before:
                values = () if scores is None else scores[row, before - start : total - start].tolist()
                self._lengths[row] = total
                yield TokenChunk(row, _checked_ids(ids[row, before:total]), values)

    def end(self) -> Iterator[TokenChunk]:
        """Finish every row: the stream's end is the only mark of it."""
        return (TokenChunk(row, final=True) for row in range(self.request.n))
