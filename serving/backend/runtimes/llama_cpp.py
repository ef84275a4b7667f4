"""llama.cpp: GGUF models on a CPU or GPU, with its own continuous batching."""

import json
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xllamacpp

from .. import gguf_header
from ..requests import BadRequestError, OutputRow
from .base import Options
from .llama_slots import Slots
from .llama_token_ids import TokenIdReader

# Fewer candidates first: temperature keeps their order, so top_k chooses the same ones before it.
_SAMPLERS = ["penalties", "top_k", "temperature", "top_p"]
_BAD_REQUEST = 400
_CERTAIN = 1e9
# Prompt tokens that a CPU reads in one step. A cancelled request ends, and other rows get their next token,
# between two steps; llama.cpp's own 2048 would keep both waiting for seconds. Steps of 32 cost 12 % more
# processor time than those of 512, steps of 64 none (docs/adr/0018).
_CPU_STEP = 64
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
        self.slots = Slots(options.parallel)

    def generate(self, rows: Sequence[OutputRow]) -> None:
        """Continue the row; see ``Runtime``. Raises ``BadRequestError`` and ``RuntimeError``."""
        (row,) = rows
        errors: list[dict[str, Any]] = []

        def on_chunk(chunk: dict[str, Any]) -> bool:
            if "error" in chunk:
                errors.append(chunk["error"])
                return True
            slot.read = chunk.get("prompt_progress", {}).get("processed", slot.read)
            for token, log_prob in self._token_ids.tokens(chunk):
                row.push(token, log_prob)
            return row.finished or row.request.stopped

        with self.slots.hold(row) as slot:
            response = self._server.handle_completions(self._body(row, slot.index), on_chunk)
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
        with self.slots.hold(row) as slot:
            for position in range(row.score_from, len(row.prompt)):
                if row.request.stopped:
                    return
                before, token = row.prompt[:position], row.prompt[position]
                log_probs.append(self._score_one(slot.index, before, token))
                slot.read = position
        row.scored(log_probs)

    def _score_one(self, slot: int, before: Sequence[int], token: int) -> float:
        body = {
            "prompt": list(before),
            "id_slot": slot,
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

    def counters(self) -> dict[str, float]:
        """Return llama.cpp's counters and gauges by name, such as the generated tokens."""
        return {name: float(value) for name, value in _COUNTERS.findall(str(self._server.handle_metrics()))}

    def close(self) -> None:
        """Stop the server and free the model."""
        del self._server

    def _body(self, row: OutputRow, slot: int) -> dict[str, Any]:
        params = row.params
        if any(len(word) > 1 for word in params.bad_words):
            raise BadRequestError(
                "llama.cpp can exclude single tokens only: send bad words of one token each"
            )
        body: dict[str, Any] = {
            "prompt": list(row.prompt),
            "id_slot": slot,
            "n_predict": row.limit,
            "stream": True,
            "cache_prompt": True,
            # A chunk after each step through the prompt: the only moments when a request can be stopped.
            "return_progress": True,
            # The only way to obtain a streamed token's id. The model's own probability of it takes a
            # millisecond, of a vocabulary of 152 000 tokens; the sampler's is there already.
            "n_probs": 1,
            "post_sampling_probs": not row.wants_log_probs,
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


def find_file(directory: Path) -> Path:
    """Return the one GGUF file of a model directory. Raises ``ValueError``."""
    files = sorted(directory.glob("*.gguf"))
    if len(files) != 1:
        raise ValueError(f"{directory} has {len(files)} GGUF files: exactly one is required")
    return files[0]


def _vocabulary(path: Path) -> tuple[int, int]:
    """Return the size of the vocabulary and the end-of-text id. Raises ``ValueError`` if either is missing.

    A converted model has both in ``config.json``; otherwise they are read from the GGUF file's header.
    """
    config_file = path.with_name("config.json")
    config = json.loads(config_file.read_text("utf-8")) if config_file.is_file() else {}
    size, end = config.get("vocab_size"), config.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if isinstance(size, int) and isinstance(end, int):
        return size, end
    metadata = gguf_header.read(path).metadata
    texts, last = (metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "eos_token_id"))
    if not isinstance(texts, list) or not isinstance(last, int):
        raise ValueError(f"{path} has no vocabulary or no end-of-text token: choose another GGUF file")
    return len(texts), last


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
