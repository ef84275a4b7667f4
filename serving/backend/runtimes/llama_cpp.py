"""llama.cpp: GGUF models on a CPU or GPU, with its own continuous batching."""

import json
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import xllamacpp

from ..requests import BadRequestError, OutputRow
from .base import Options
from .llama_token_ids import TokenIdReader

_SAMPLERS = ["penalties", "temperature", "top_k", "top_p"]
_BAD_REQUEST = 400
_CERTAIN = 1e9
# Prompt tokens that a CPU reads in one step. A cancelled request ends, and other rows get their next token,
# between two steps; llama.cpp's own 2048 would keep both waiting for seconds. Steps of 32 cost 12 % more
# processor time than those of 512, steps of 64 none (docs/adr/0018).
_CPU_STEP = 64
# Longer than a step takes; after that, another slot is better than none.
_SLOT_S = 1.0
_COUNTERS = re.compile(r"^(llamacpp:(?:\w+_total|requests_\w+)) (\S+)$", re.MULTILINE)


class LlamaCppRuntime:
    """One ``xllamacpp.Server``: each row occupies a slot, and the rows of all slots advance together."""

    max_rows = 1

    def __init__(self, options: Options) -> None:
        """Load the model. Raises ``ValueError`` if the directory does not hold exactly one GGUF file."""
        path = find_file(options.model_dir)
        self.vocabulary_size, self.eos_id = _vocabulary(path)
        self.parallel = options.parallel
        self._context_length = options.context_length
        self._token_ids = TokenIdReader(path)
        self._server = xllamacpp.Server(_parameters(path, options))
        self._running: set[OutputRow] = set()
        self._ended = threading.Condition()
        self.waiting = 0

    def generate(self, rows: Sequence[OutputRow]) -> None:
        """Continue the row; see ``Runtime``. Raises ``BadRequestError`` and ``RuntimeError``."""
        (row,) = rows
        errors: list[dict[str, Any]] = []

        def on_chunk(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                errors.append(chunk["error"])
                return True
            for token, log_prob in self._token_ids.tokens(chunk):
                row.push(token, log_prob)
            return row.finished or row.request.stopped

        with self._slot(row):
            response = self._server.handle_completions(self._body(row), on_chunk)
        if isinstance(response, dict) and "error" in response:
            errors.append(response["error"])
        if errors:
            kind = BadRequestError if errors[0].get("code") == _BAD_REQUEST else RuntimeError
            raise kind(f"llama.cpp: {errors[0].get('message')}")

    def score(self, rows: Sequence[OutputRow]) -> None:
        """Score the row; see ``Runtime``. Raises ``RuntimeError``.

        llama.cpp's server reports log probabilities of generated tokens only, so each token is generated with
        a bias that excludes all others; the reported probability is the one before the bias. The prompt is
        cached by then, so that scoring a token costs as much as generating it.
        """
        (row,) = rows
        log_probs: list[float] = []
        for position in range(row.score_from, len(row.prompt)):
            if row.request.stopped:
                return
            log_probs.append(self._score_one(row.prompt[:position], row.prompt[position]))
        row.scored(log_probs)

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
        responses: list[dict[str, Any]] = []
        self._server.handle_completions(body, responses.append)
        if not responses or "error" in responses[0]:
            raise RuntimeError(f"llama.cpp returned no score: {responses[:1]}")
        entry = responses[0]["choices"][0]["logprobs"]["content"][0]
        if entry["id"] != token:
            raise RuntimeError(f"llama.cpp chose token {entry['id']}, expected {token}")
        return float(entry["logprob"])

    @contextmanager
    def _slot(self, row: OutputRow) -> Iterator[None]:
        """Wait for a stopped row that still holds the slot with the cache of this row's prompt.

        llama.cpp chooses the free slot with the most similar prompt. A cancelled row holds its slot until the
        end of the current step; its successor, which comes first as a rule, would begin on another slot from
        nothing, and take the cache that somebody else needs.
        """
        with self._ended:
            self.waiting += 1
            self._ended.wait_for(lambda: not any(_succeeds(row, other) for other in self._running), _SLOT_S)
            self.waiting -= 1
            self._running.add(row)
        try:
            yield
        finally:
            with self._ended:
                self._running.discard(row)
                self._ended.notify_all()

    def counters(self) -> dict[str, float]:
        """Return llama.cpp's counters and gauges by name, such as the generated tokens."""
        return {name: float(value) for name, value in _COUNTERS.findall(str(self._server.handle_metrics()))}

    def close(self) -> None:
        """Stop the server and free the model."""
        del self._server

    def _body(self, row: OutputRow) -> dict[str, Any]:
        params = row.params
        if any(len(word) > 1 for word in params.bad_words):
            raise BadRequestError(
                "llama.cpp can exclude single tokens only: send bad words of one token each"
            )
        body: dict[str, Any] = {
            "prompt": list(row.prompt),
            "n_predict": row.limit,
            "stream": True,
            "cache_prompt": True,
            # A chunk after each step through the prompt: the only moments when a request can be stopped.
            "return_progress": True,
            # The only way to obtain a streamed token's id and log probability.
            "n_probs": 1,
            "samplers": _SAMPLERS,
            "temperature": 0.0 if params.greedy else params.temperature,
            "top_k": params.top_k,
            "top_p": params.top_p,
            "min_p": 0.0,
            "repeat_penalty": params.repetition_penalty,
            "repeat_last_n": self._context_length,
            "logit_bias": [[word[0], False] for word in params.bad_words],
        }
        if row.seed is not None:
            body["seed"] = row.seed & 0xFFFFFFFF
        if params.grammar:
            body["grammar"] = params.grammar
        return body


def _succeeds(row: OutputRow, other: OutputRow) -> bool:
    """Return whether ``other`` is stopped and has cached at least half of ``row``'s prompt."""
    half = len(row.prompt) // 2
    return other.request.stopped and list(other.prompt[:half]) == list(row.prompt[:half])


def find_file(directory: Path) -> Path:
    """Return the one GGUF file of a model directory. Raises ``ValueError``."""
    files = sorted(directory.glob("*.gguf"))
    if len(files) != 1:
        raise ValueError(f"{directory} has {len(files)} GGUF files: exactly one is required")
    return files[0]


def _vocabulary(path: Path) -> tuple[int, int]:
    """Return the size of the vocabulary and the end-of-text id. Raises ``ValueError`` if either is missing.

    A converted model has both in ``config.json``; otherwise the GGUF file is read, which takes seconds.
    """
    config_file = path.with_name("config.json")
    config = json.loads(config_file.read_text("utf-8")) if config_file.is_file() else {}
    size, end = config.get("vocab_size"), config.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if isinstance(size, int) and isinstance(end, int):
        return size, end
    reader = gguf.GGUFReader(path)
    texts, last = (reader.get_field(f"tokenizer.ggml.{name}") for name in ("tokens", "eos_token_id"))
    if texts is None or last is None:
        raise ValueError(f"{path} has no vocabulary or no end-of-text token: choose another GGUF file")
    return len(texts.data), int(last.contents())


def bound_memory(parameters: Any, prompt_cache_mib: int = 0) -> None:  # noqa: ANN401 -- xllamacpp ships no types
    """Let llama.cpp hold its weights and its slots' caches, each once: what ``stackfile.memory`` counts.

    By default it copies the prompts that leave a slot to a cache of up to 8 GiB, and the states of a model
    with a sliding window up to 32 times for each slot. ``prompt_cache_mib``: the limit of that cache.
    """
    # Weights that are arranged anew for the processor would stand a second time as pages of the file.
    parameters.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    parameters.cache_ram_mib = prompt_cache_mib
    parameters.n_ctx_checkpoints = 0
    # Without it a sliding window's slot could not go back to an earlier place of its prompt.
    parameters.swa_full = True


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
    # The server cannot be kept from listening: a free loopback port and a random key make it unreachable.
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [secrets.token_urlsafe(32)]
    parameters.endpoint_slots = False
    parameters.endpoint_metrics = True
    bound_memory(parameters)
    if options.device == "cpu":
        parameters.n_batch = parameters.n_ubatch = max(_CPU_STEP, 2 * options.parallel)
    return parameters
