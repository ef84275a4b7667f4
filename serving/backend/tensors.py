"""FasterTransformer's tensors, as FauxPilot sends and reads them.

The inputs and outputs are those of NVIDIA's FasterTransformer backend for GPT-J models (``config.pbtxt`` in
all_models/gptj/fastertransformer of https://github.com/triton-inference-server/fastertransformer_backend).
FauxPilot's proxy fills and reads them (copilot_proxy/utils/codegen.py of
https://github.com/fauxpilot/fauxpilot). A client that was written for these two works with this backend.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .requests import BadRequestError, OutputRow, Request, SamplingParams, Words

Tensors = Mapping[str, NDArray[Any]]

OUTPUTS = ("output_ids", "sequence_length", "cum_log_probs", "output_log_probs")
STREAM_OUTPUTS = (*OUTPUTS, "row_index", "row_final")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the loaded model: ids are below ``vocabulary_size``, lengths are in tokens."""

    vocabulary_size: int
    eos_id: int
    context_length: int


def add_rows(
    request: Request,
    tensors: Tensors,
    limits: Limits,
    *,
    mergeable: bool,
    score_from: int | None = None,
    grammar: str = "",
) -> None:
    """Add one row for each row of ``input_ids`` ``[n, length]`` to the request.

    With ``mergeable`` the seeds are ignored, because the caller did not choose them. With ``score_from`` no
    token is generated; the prompt's tokens from that position on are scored. Each row's text
    has to match ``grammar``. Raises ``BadRequestError``.
    """
    ids = tensors["input_ids"]
    for index in range(ids.shape[0]):
        read = _RowReader(tensors, index, limits)
        prompt, limit = read.prompt(), read.integer("request_output_len", 0)
        if limit < 0:
            raise BadRequestError(f"request_output_len is {limit}: the value must not be negative")
        if len(prompt) + limit > limits.context_length:
            raise BadRequestError(
                f"{len(prompt)} prompt tokens and {limit} requested tokens exceed the model's context length "
                f"of {limits.context_length}: shorten the prompt or lower request_output_len"
            )
        seed = None if mergeable else read.integer("random_seed", 0)
        stop = read.words("stop_words_list")
        if score_from is not None:
            _check_score(score_from, len(prompt), limit)
            row = OutputRow(request, index, prompt, 0, SamplingParams(score=True), score_from=score_from)
        else:
            # A model needs at least one token: an empty prompt is replaced by the end-of-text token.
            row = OutputRow(
                request, index, prompt or [limits.eos_id], limit, read.params(grammar), seed, stop,
                wants_log_probs=bool(read.integer("is_return_log_probs", 1)),
            )  # fmt: skip
        request.rows.append(row)


def _check_score(score_from: int, length: int, limit: int) -> None:
    if limit:
        raise BadRequestError(f"request_output_len is {limit}: with score_from the value must be 0")
    if not 1 <= score_from <= length:
        raise BadRequestError(
            f"score_from is {score_from}: the value must be from 1 (token 0 has no context) to the prompt's "
            f"{length} tokens"
        )


class _RowReader:
    """Reads the values of one row; an absent tensor has its default."""

    def __init__(self, tensors: Tensors, index: int, limits: Limits) -> None:
        self._tensors = tensors
        self._index = index
        self._limits = limits

    def prompt(self) -> list[int]:
        ids = self._tensors["input_ids"][self._index].reshape(-1)
        length = self.integer("input_lengths", len(ids))
        if not 0 <= length <= len(ids):
            raise BadRequestError(f"input_lengths is {length} but input_ids has {len(ids)} tokens")
        prompt = [int(token) for token in ids[:length]]
        size = self._limits.vocabulary_size
        if prompt and not 0 <= min(prompt) <= max(prompt) < size:
            raise BadRequestError(f"input_ids has a token outside the model's vocabulary of {size}")
        return prompt

    def params(self, grammar: str) -> SamplingParams:
        if self.integer("beam_width", 1) > 1:
            raise BadRequestError(
                "beam search is not supported: send beam_width 1 (and more rows for more choices)"
            )
        top_k = self.integer("runtime_top_k", 0)
        top_p = self.real("runtime_top_p", 1.0)
        temperature = self.real("temperature", 1.0)
        if temperature < 0:
            raise BadRequestError(f"temperature is {temperature}: the value must not be negative")
        end_id = self.integer("end_id", self._limits.eos_id)
        greedy = top_k == 1 or temperature == 0 or (top_k == 0 and top_p <= 0)
        return SamplingParams(
            # All spellings of greedy become one, so that all greedy rows can share a batch.
            top_k=1 if greedy else min(max(top_k, 0), self._limits.vocabulary_size),
            top_p=top_p if 0 < top_p < 1 and not greedy else 1.0,
            temperature=1.0 if greedy else temperature,
            # FauxPilot passes OpenAI's frequency_penalty here, whose default, 0, means no penalty.
            repetition_penalty=self.real("repetition_penalty", 1.0) or 1.0,
            # FauxPilot's clients send 50256 to any model; outside the vocabulary it means the default.
            end_id=end_id if 0 <= end_id < self._limits.vocabulary_size else self._limits.eos_id,
            bad_words=self.words("bad_words_list"),
            grammar=grammar,
        )

    def integer(self, name: str, default: int) -> int:
        value = self._scalar(name)
        return default if value is None else int(value)

    def real(self, name: str, default: float) -> float:
        value = self._scalar(name)
        if value is None:
            return default
        if not math.isfinite(value):
            raise BadRequestError(f"{name} is {value}: the value must be a finite number")
        return round(float(value), 6)  # 0.2 as float32 and as float64 become one parameter

    def words(self, name: str) -> Words:
        """Read a word list ``[n, 2, width]``: all words' ids, and the end of each word (-1: padding)."""
        tensor = self._tensors.get(name)
        if tensor is None:
            return ()
        ids, ends = tensor[self._index]
        words, start = [], 0
        for end in (int(end) for end in ends if end > 0):
            if not start <= end <= len(ids):
                raise BadRequestError(
                    f"{name} has the offset {end}: offsets must increase and stay within its ids"
                )
            words.append(tuple(int(token) for token in ids[start:end]))
            start = end
        size = self._limits.vocabulary_size
        return tuple(word for word in words if word and all(0 <= token < size for token in word))

    def _scalar(self, name: str) -> Any:  # noqa: ANN401 -- a numpy scalar of the tensor's own type
        tensor = self._tensors.get(name)
        return None if tensor is None else tensor[self._index].reshape(-1)[0]


def whole_outputs(rows: Sequence[OutputRow], width: int, lengths: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return the outputs of one request: ``output_ids [n, 1, width + limit]`` and the other tensors.

    ``lengths`` are the lengths of the prompts as the client sent them. The rest after a row's end is filled
    with its end_id. ``output_log_probs`` of scored rows are those of their prompts, padded with zeros.
    """
    room = max((row.limit for row in rows), default=0)
    ids = np.empty((len(rows), 1, width + room), np.uint32)
    log_probs = np.zeros((len(rows), 1, max(room, *(len(row.log_probs) for row in rows), 0)), np.float32)
    for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        ids[index, 0] = row.params.end_id
        ids[index, 0, :length] = row.prompt[:length]
        ids[index, 0, length : length + len(row.ids)] = row.ids
        log_probs[index, 0, : len(row.log_probs)] = row.log_probs
    totals = [length + len(row.ids) for row, length in zip(rows, lengths, strict=True)]
    return {
        "output_ids": ids,
        "sequence_length": np.array(totals, np.uint32).reshape(-1, 1),
        "cum_log_probs": log_probs.sum(axis=2),
        "output_log_probs": log_probs,
    }


def stream_outputs(
    row: OutputRow, start: int, stop: int, length: int, *, final: bool
) -> dict[str, NDArray[Any]]:
    """Return the outputs of a streamed response: a row's new tokens, ``output_ids [1, 1, stop - start]``."""
    return {
        "output_ids": np.array(row.ids[start:stop], np.uint32).reshape(1, 1, -1),
        "sequence_length": np.array([[length + stop]], np.uint32),
        "cum_log_probs": np.array([[sum(row.log_probs[:stop])]], np.float32),
        "output_log_probs": np.array(row.log_probs[start:stop], np.float32).reshape(1, 1, -1),
        "row_index": np.array([[row.index]], np.int32),
        "row_final": np.array([[final]], np.bool_),
    }
