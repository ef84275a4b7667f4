"""Checked answers: what a server says becomes tokens only when it can be true.

A wrong shape, a length past the limit or an id that is no token is a 502, never text in somebody's editor.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tritonclient.grpc import service_pb2

from gateway.engine.base import GenerateRequest, TokenChunk
from gateway.engine.tensors import Array, log_probs, outputs
from gateway.errors import ApiError, bad_gateway

_MAX_ID = 1 << 31


def _wrong(what: str) -> ApiError:
    return bad_gateway(f"The model server's answer is no completion: {what}.")


def _checked(ids: Array) -> list[int]:
    found: list[int] = ids.tolist()
    if found and (min(found) < 0 or max(found) >= _MAX_ID):
        raise _wrong("a token id is out of range")
    return found


def _sequences(tensors: dict[str, Array], job: GenerateRequest) -> tuple[Array, list[int]]:
    """Return the ids as [rows, length] and each row's total length, after checking both."""
    ids, lengths = tensors.get("output_ids"), tensors.get("sequence_length")
    if ids is None or lengths is None:
        raise _wrong("output_ids or sequence_length is missing")
    if ids.ndim not in (2, 3) or ids.shape[0] != job.n or lengths.size < job.n or lengths.shape[0] != job.n:
        raise _wrong(f"output_ids has shape {list(ids.shape)}, sequence_length {list(lengths.shape)}")
    best = ids[:, 0, :] if ids.ndim == 3 else ids
    totals: list[int] = lengths.reshape(job.n, -1)[:, 0].tolist()
    start = len(job.prompt_ids)
    for total in totals:
        if not start <= total <= min(start + job.max_tokens, best.shape[1]):
            raise _wrong(f"sequence_length {total} is not between {start} and {start + job.max_tokens}")
    return best, totals


def rows(response: service_pb2.ModelInferResponse, job: GenerateRequest) -> list[TokenChunk]:
    """Return every row of a whole answer."""
    tensors = outputs(response)
    ids, totals = _sequences(tensors, job)
    scores = log_probs(tensors) if job.logprobs else None
    if scores is not None and scores.shape[0] != job.n:
        raise _wrong(f"output_log_probs has {scores.shape[0]} rows instead of {job.n}")
    start = len(job.prompt_ids)
    answer = []
    for row, total in enumerate(totals):
        values = () if scores is None else scores[row, : total - start].tolist()
        answer.append(TokenChunk(row, _checked(ids[row, start:total]), values, final=True))
    return answer


@dataclass
class RowStream:
    """Our streaming twin: each response holds the new tokens of one row."""

    job: GenerateRequest
    _seen: list[int] = field(init=False)
    _open: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._seen = [0] * self.job.n
        self._open = set(range(self.job.n))

    @property
    def complete(self) -> bool:
        """Say whether every row has said that it is final: what may follow is the stream's end alone."""
        return not self._open

    def feed(self, response: service_pb2.ModelInferResponse) -> Iterator[TokenChunk]:
        """Yield what one response added."""
        tensors = outputs(response)
        try:
            row = int(tensors["row_index"].flat[0])
            ids = _checked(tensors["output_ids"].reshape(-1))
            final = bool(tensors["row_final"].flat[0])
        except (KeyError, IndexError) as error:
            raise _wrong("row_index, output_ids or row_final is missing") from error
        if not 0 <= row < self.job.n:
            raise _wrong(f"row_index {row} of {self.job.n} rows")
        self._seen[row] += len(ids)
        if self._seen[row] > self.job.max_tokens:
            raise _wrong(f"more than {self.job.max_tokens} tokens")
        scores = log_probs(tensors) if self.job.logprobs else None
        values = () if scores is None else scores.reshape(-1)[: len(ids)].tolist()
        if final:
            self._open.discard(row)
        yield TokenChunk(row, ids, values, final)

    def end(self) -> Iterator[TokenChunk]:
        """Yield nothing; raise 502 when a row never said that it is final."""
        if self._open:
            raise _wrong("the stream ended before every row did")
        return iter(())


@dataclass
class CumulativeStream:
    """NVIDIA's decoupled FasterTransformer: each response repeats every row from its start."""

    job: GenerateRequest
    _seen: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self._seen = [len(self.job.prompt_ids)] * self.job.n

    complete = False  # only the stream's end tells

    def feed(self, response: service_pb2.ModelInferResponse) -> Iterator[TokenChunk]:
        """Yield the part of each row that was not there before."""
        tensors = outputs(response)
        ids, totals = _sequences(tensors, self.job)
        scores = log_probs(tensors) if self.job.logprobs else None
        start = len(self.job.prompt_ids)
        for row, total in enumerate(totals):
            seen = self._seen[row]
            if total > seen:
                values = () if scores is None else scores[row, seen - start : total - start].tolist()
                self._seen[row] = total
                yield TokenChunk(row, _checked(ids[row, seen:total]), values)

    def end(self) -> Iterator[TokenChunk]:
        """Finish every row: the stream's end is the only sign."""
        return (TokenChunk(row, final=True) for row in range(self.job.n))
