"""llama.cpp: GGUF models on any CPU or GPU, with continuous batching of its own."""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import xllamacpp

from ..requests import BadRequestError, OutputRow
from .base import Options
from .llama_token_ids import Pieces

_SAMPLERS = ["penalties", "temperature", "top_k", "top_p"]
_BAD_REQUEST = 400
_CERTAIN = 1e9


class LlamaCppRuntime:
    """One ``xllamacpp.Server``: each row takes a slot, and the rows in all slots advance together."""

    max_rows = 1

    def __init__(self, options: Options) -> None:
        """Load the model. Raises ``ValueError`` if the directory does not hold exactly one GGUF file."""
        path = find_file(options.model_dir)
        self.vocabulary_size, self.eos_id = _vocabulary(path)
        self.parallel = options.parallel
        self._context_length = options.context_length
        self._pieces = Pieces(path)
        self._server = xllamacpp.Server(_parameters(path, options))

    def generate(self, rows: Sequence[OutputRow]) -> None:
        """Continue the one row; see ``Runtime``."""
        (row,) = rows
        failure: list[dict[str, Any]] = []

        def on_chunk(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                failure.append(chunk["error"])
                return True
            for token, log_prob in self._pieces.tokens(chunk):
                row.push(token, log_prob)
            return row.finished or row.job.stopped

        answer = self._server.handle_completions(self._body(row), on_chunk)
        if isinstance(answer, dict) and "error" in answer:
            failure.append(answer["error"])
        if failure:
            kind = BadRequestError if failure[0].get("code") == _BAD_REQUEST else RuntimeError
            raise kind(f"llama.cpp: {failure[0].get('message')}")

    def score(self, rows: Sequence[OutputRow]) -> None:
        """Score the one row; see ``Runtime``.

        llama.cpp's server tells log probabilities of generated tokens only, so each token is generated with
        a bias that leaves no other; the probability it reports is the one before the bias. The prompt is in
        the cache by then, so a token costs what generating it would.
        """
        (row,) = rows
        found: list[float] = []
        for position in range(row.score_from, len(row.prompt)):
            if row.job.stopped:
                return
            found.append(self._score_one(row.prompt[:position], row.prompt[position]))
        row.scored(found)

    def _score_one(self, before: Sequence[int], token: int) -> float:
        body = {
            "prompt": list(before),
            "n_predict": 1,
            "n_probs": 1,
            "cache_prompt": True,
            "samplers": [],
            "temperature": 0.0,
            "logit_bias": [[token, _CERTAIN]],
        }
        answers: list[dict[str, Any]] = []
        self._server.handle_completions(body, answers.append)
        if not answers or "error" in answers[0]:
            raise RuntimeError(f"llama.cpp scored nothing: {answers[:1]}")
        told = answers[0]["choices"][0]["logprobs"]["content"][0]
        if told["id"] != token:
            raise RuntimeError(f"llama.cpp chose token {told['id']} where {token} was to be scored")
        return float(told["logprob"])

    def close(self) -> None:
        """Stop the server and free the model."""
        del self._server

    def _body(self, row: OutputRow) -> dict[str, Any]:
        settings = row.settings
        if any(len(word) > 1 for word in settings.bad_words):
            raise BadRequestError("llama.cpp can forbid single tokens only: send bad words of one token each")
        body: dict[str, Any] = {
            "prompt": list(row.prompt),
            "n_predict": row.limit,
            "stream": True,
            "cache_prompt": True,
            # The one way to learn a streamed token's id and log probability.
            "n_probs": 1,
            "samplers": _SAMPLERS,
            "temperature": 0.0 if settings.greedy else settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
            "min_p": 0.0,
            "repeat_penalty": settings.repetition_penalty,
            "repeat_last_n": self._context_length,
            "logit_bias": [[word[0], False] for word in settings.bad_words],
        }
        if row.seed is not None:
            body["seed"] = row.seed & 0xFFFFFFFF
        return body


def find_file(directory: Path) -> Path:
    """Return the one GGUF file of a model directory. Raises ``ValueError``."""
    files = sorted(directory.glob("*.gguf"))
    if len(files) != 1:
        raise ValueError(f"{directory} has {len(files)} GGUF files: it must have exactly one")
    return files[0]


def _vocabulary(path: Path) -> tuple[int, int]:
    """Return the vocabulary's size and the end-of-text id.

    They are in ``config.json`` for a converted model; a GGUF file alone is asked itself, which takes seconds.
    """
    beside = path.with_name("config.json")
    config = json.loads(beside.read_text("utf-8")) if beside.is_file() else {}
    size, end = config.get("vocab_size"), config.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if isinstance(size, int) and isinstance(end, int):
        return size, end
    reader = gguf.GGUFReader(path)
    texts, last = (reader.get_field(f"tokenizer.ggml.{name}") for name in ("tokens", "eos_token_id"))
    if texts is None or last is None:
        raise ValueError(f"{path} names no vocabulary or no end-of-text token: choose another GGUF file")
    return len(texts.data), int(last.contents())


def _parameters(path: Path, options: Options) -> Any:  # noqa: ANN401 -- xllamacpp ships no types
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_parallel = options.parallel
    parameters.n_ctx = options.context_length * options.parallel
    threads = options.threads or len(os.sched_getaffinity(0))
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.n_gpu_layers = -1 if options.device == "cuda" else 0
    parameters.main_gpu = options.device_index
    parameters.split_mode = xllamacpp.llama_split_mode.LLAMA_SPLIT_MODE_NONE
    parameters.verbosity = 1
    # It listens, whether one wants it or not: on a free loopback port, and with a key that nobody has.
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [secrets.token_urlsafe(32)]
    parameters.endpoint_slots = False
    parameters.endpoint_metrics = False
    return parameters
