"""CTranslate2: int8 on any CPU, int8_float16 on a T4. Its own sampler is used, but for some first tokens."""

import json
from collections.abc import Sequence
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from ..requests import BadRequestError, OutputRow, SamplingParams
from .base import Options
from .seeds import SeedingUnavailableError, ThreadSeeder

# Scoring computes a number for every token of the vocabulary at every position; the limit of a batch.
_SCORES_AT_ONCE = 2**27


class CTranslate2Runtime:
    """One ``ctranslate2.Generator``; parallel batches share its weights."""

    def __init__(self, options: Options) -> None:
        """Load the model and run one token through it, so that the first request is as fast as others."""
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
        """Continue the rows as one batch; see ``Runtime``. Raises ``BadRequestError``."""
        if rows[0].seed is None or rows[0].params.greedy or self._on_gpu:
            self._generate(rows, [row.prompt for row in rows])
        elif self._seeder is None:
            raise BadRequestError(
                "this server cannot reproduce seeds: send the request parameter batchable=true"
            )
        else:
            self._generate_seeded(rows)

    def score(self, rows: Sequence[OutputRow]) -> None:
        """Score the rows in batches of bounded memory; see ``Runtime``."""
        results = self._generator.score_batch(
            [self._words(row.prompt) for row in rows],
            max_batch_size=max(_SCORES_AT_ONCE // self.vocabulary_size, len(max(rows, key=_length).prompt)),
            batch_type="tokens",
            max_input_length=0,
        )
        for row, result in zip(rows, results, strict=True):
            # The first token has no log probability.
            row.scored(result.log_probs[row.score_from - 1 :])

    def close(self) -> None:
        """Free the model."""
        # CTranslate2 3.24, which K80s need, has no unload_model; it frees the model with the object.
        if hasattr(self._generator, "unload_model"):
            self._generator.unload_model()
        else:
            del self._generator

    def _find_seeder(self, options: Options) -> ThreadSeeder | None:
        if self._on_gpu:
            options.warn("on a GPU, seeds do not reproduce sampled text (only greedy text is reproducible)")
            return None
        try:
            return ThreadSeeder()
        except SeedingUnavailableError as error:
            options.warn(f"requests with a seed will be refused: {error}; install ctranslate2==4.8.5")
            return None

    def _generate_seeded(self, rows: Sequence[OutputRow]) -> None:
        """Continue the rows of one request so that equal seeds give equal text.

        A scout row runs in front; its prompt is the shortest prompt without the last token. It samples its
        first token while all other rows still read their prompts; its callback seeds this worker's engine and
        ends the scout, before any other row draws. If the shortest prompt has one token only, no scout is
        possible: the first tokens are then drawn here.
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
            token = _draw(log_probs, row.params, row.prompt, random)
            row.push(token, float(log_probs[token]))

    def _generate(
        self, rows: Sequence[OutputRow], prompts: Sequence[Sequence[int]], seeds: Sequence[int] | None = None
    ) -> None:
        """Run one batch, with a scout in front if ``seeds`` are given."""
        prompts = list(prompts) if seeds is None else [min(prompts, key=len)[:-1], *prompts]
        first = len(prompts) - len(rows)
        # If the shortest prompt has one token, CTranslate2 reports unread prompt tokens as new.
        unread = [len(prompt) - 1 if min(map(len, prompts)) == 1 else 0 for prompt in prompts]
        extra = max(unread)
        # A worker thread releases the callback after the results are returned. If the callback held the last
        # reference to the generator, the thread would end its pool, wait for itself, and abort the process.
        seeder = self._seeder

        def on_step(step: Any) -> bool:  # noqa: ANN401 -- ctranslate2 ships no types
            if step.batch_id < first:
                if seeder is not None:
                    seeder.seed(seeds or ())
                return True
            if unread[step.batch_id]:
                unread[step.batch_id] -= 1
                return False
            finished: bool = rows[step.batch_id - first].push(step.token_id, step.log_prob or 0.0)
            return finished

        self._generator.generate_batch(
            [self._words(prompt) for prompt in prompts],
            max_length=max(row.limit - len(row.ids) for row in rows) + extra,
            callback=on_step,
            **self._options(rows[0]),
        )

    def _words(self, ids: Sequence[int]) -> list[str]:
        return [self._tokens[token] for token in ids]

    def _options(self, row: OutputRow) -> dict[str, Any]:
        params = row.params
        return {
            "include_prompt_in_result": False,
            "sampling_topk": params.top_k,
            "sampling_topp": params.top_p,
            "sampling_temperature": params.temperature,
            "repetition_penalty": params.repetition_penalty,
            "suppress_sequences": [self._words(word) for word in params.bad_words] or None,
            "end_token": [params.end_id],
            "return_end_token": True,
            "return_scores": True,
        }


def _length(row: OutputRow) -> int:
    return len(row.prompt)


def _draw(
    log_probs: NDArray[np.float32],
    params: SamplingParams,
    context: Sequence[int],
    random: np.random.Generator,
) -> int:
    """Return a token id drawn from ``log_probs [vocabulary]`` after ``context``, as CTranslate2 samples."""
    scores = log_probs.astype(np.float64)
    seen = np.unique(np.asarray(context))
    # Log probabilities are negative: a larger factor makes the tokens less likely.
    scores[seen] *= params.repetition_penalty
    for word in params.bad_words:
        if tuple(context[len(context) - len(word) + 1 :]) == word[:-1]:
            scores[word[-1]] = -np.inf
    order = np.argsort(-scores, kind="stable")[: params.top_k or len(scores)]
    weights = np.exp((scores[order] - scores[order[0]]) / params.temperature)
    weights /= weights.sum()
    kept = int(np.searchsorted(np.cumsum(weights), params.top_p)) + 1
    weights = weights[:kept] / weights[:kept].sum()
    return int(random.choice(order[:kept], p=weights))
