"""CTranslate2: int8 on any CPU, int8_float16 on a T4."""

import json
from collections.abc import Sequence
from typing import Any

import ctranslate2
import numpy as np

from ..requests import BadRequestError, OutputRow
from .base import Options
from .ct2_first_token import draw
from .seeds import SeedingUnavailableError, ThreadSeeder

# Scoring makes a number for every token of the vocabulary at every position; a batch has at most so many.
_SCORES_AT_ONCE = 2**27


class CTranslate2Runtime:
    """One ``ctranslate2.Generator``; parallel batches share its weights."""

    def __init__(self, options: Options) -> None:
        """Load the model and run one token through it, so that the first client does not pay for that."""
        document = json.loads((options.model_dir / "config.json").read_text("utf-8"))
        self._tokens: list[str] = json.loads((options.model_dir / "vocabulary.json").read_text("utf-8"))
        self.vocabulary_size = len(self._tokens)
        self.eos_id = self._tokens.index(document["eos_token"])
        self.parallel = options.parallel
        self.max_rows = options.max_rows
        self._generator = ctranslate2.Generator(
            str(options.model_dir),
            device=options.device,
            device_index=options.device_index,
            compute_type=options.precision,
            inter_threads=options.parallel,
            intra_threads=options.threads,
        )
        self._on_gpu = options.device == "cuda"
        self._seeder = self._find_seeder(options)
        start = [self._tokens[self.eos_id]]
        self._generator.generate_batch([start] * options.parallel, max_batch_size=1, max_length=1)

    def generate(self, rows: Sequence[OutputRow]) -> None:
        """Continue the rows as one batch; see ``Runtime``."""
        if rows[0].seed is None or rows[0].settings.greedy or self._on_gpu:
            self._generate(rows, [row.prompt for row in rows])
        elif self._seeder is None:
            raise BadRequestError(
                "this server cannot reproduce seeds: send the request parameter batchable=true"
            )
        else:
            self._generate_seeded(rows)

    def score(self, rows: Sequence[OutputRow]) -> None:
        """Score the rows in batches that bound the memory; see ``Runtime``."""
        results = self._generator.score_batch(
            [self._words(row.prompt) for row in rows],
            max_batch_size=max(_SCORES_AT_ONCE // self.vocabulary_size, len(max(rows, key=_length).prompt)),
            batch_type="tokens",
            max_input_length=0,
        )
        for row, result in zip(rows, results, strict=True):
            # There is one for every token but the first.
            row.scored(result.log_probs[row.score_from - 1 :])

    def close(self) -> None:
        """Free the model."""
        # 3.24, which K80s need, can't be told to; there it goes with the object.
        if hasattr(self._generator, "unload_model"):
            self._generator.unload_model()
        else:
            del self._generator

    def _find_seeder(self, options: Options) -> ThreadSeeder | None:
        if self._on_gpu:
            options.warn(
                "on a GPU, seeds do not make sampled text reproduce (greedy text does): cuRAND keeps its own"
            )
            return None
        try:
            return ThreadSeeder()
        except SeedingUnavailableError as error:
            options.warn(
                f"sampling with a seed will be refused: {error}; install ctranslate2==4.8.5 to have it"
            )
            return None

    def _generate_seeded(self, rows: Sequence[OutputRow]) -> None:
        """Continue the rows of one request so that equal seeds give equal text.

        A scout runs in front: one more row, whose prompt is the shortest one without its last token. While it
        samples its first token, all others still read theirs; its callback seeds this worker's engine and
        ends the scout, before anyone who matters has drawn. A prompt of one token leaves no room for a scout:
        its first token is drawn here.
        """
        seeds = [row.seed or 0 for row in rows]
        if min(len(row.prompt) for row in rows) == 1:
            self._draw_first(rows, seeds)
        rows = [row for row in rows if not row.finished]
        if rows:
            prompts = [[*row.prompt, *row.ids] for row in rows]
            self._generate(rows, prompts, seeds)

    def _draw_first(self, rows: Sequence[OutputRow], seeds: Sequence[int]) -> None:
        random = np.random.default_rng([seed & 0xFFFFFFFF for seed in seeds])
        for row in rows:
            view = self._generator.forward_batch([self._words(row.prompt)], return_log_probs=True)
            log_probs = np.array(view, np.float32)[0, -1]
            token = draw(log_probs, row.settings, row.prompt, random)
            row.push(token, float(log_probs[token]))

    def _generate(
        self, rows: Sequence[OutputRow], prompts: Sequence[Sequence[int]], seeds: Sequence[int] | None = None
    ) -> None:
        """Run one batch, with a scout in front if there are ``seeds``."""
        prompts = list(prompts) if seeds is None else [min(prompts, key=len)[:-1], *prompts]
        first = len(prompts) - len(rows)
        # Where the shortest prompt is one token, CTranslate2 reports the rest of the longer ones like new
        # tokens.
        unread = [len(prompt) - 1 if min(map(len, prompts)) == 1 else 0 for prompt in prompts]
        extra = max(unread)
        # A worker thread lets go of the callback after the results are here. Were that the last hold on the
        # generator, the thread would end the pool that it belongs to, wait for itself, and abort the process.
        seeder = self._seeder

        def on_step(step: Any) -> bool:  # noqa: ANN401 -- ctranslate2 ships no types
            if step.batch_id < first:
                if seeder is not None:
                    seeder.seed(seeds or ())
                return True
            if unread[step.batch_id]:
                unread[step.batch_id] -= 1
                return False
            enough: bool = rows[step.batch_id - first].push(step.token_id, step.log_prob or 0.0)
            return enough

        self._generator.generate_batch(
            [self._words(prompt) for prompt in prompts],
            max_length=max(row.limit - len(row.ids) for row in rows) + extra,
            callback=on_step,
            **self._options(rows[0]),
        )

    def _words(self, ids: Sequence[int]) -> list[str]:
        return [self._tokens[token] for token in ids]

    def _options(self, row: OutputRow) -> dict[str, Any]:
        settings = row.settings
        return {
            "include_prompt_in_result": False,
            "sampling_topk": settings.top_k,
            "sampling_topp": settings.top_p,
            "sampling_temperature": settings.temperature,
            "repetition_penalty": settings.repetition_penalty,
            "suppress_sequences": [self._words(word) for word in settings.bad_words] or None,
            "end_token": [settings.end_id],
            "return_end_token": True,
            "return_scores": True,
        }


def _length(row: OutputRow) -> int:
    return len(row.prompt)
