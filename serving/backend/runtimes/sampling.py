"""Choose one row's next token from the model's logits."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..requests import SamplingParams

Logits = NDArray[np.float32]


def next_token(
    logits: Logits, settings: SamplingParams, context: Sequence[int], random: np.random.Generator
) -> tuple[int, float]:
    """Return the token that follows ``context`` and its log probability.

    ``logits [vocabulary]`` are the model's. The log probability is the model's own, before temperature and
    penalties, as FasterTransformer reports it.
    """
    scores = _adjusted(logits, settings, context) if settings.looks_back else logits
    token = int(scores.argmax()) if settings.greedy else _sampled(scores, settings, random)
    return token, log_probability(logits, token)


def log_probability(logits: Logits, token: int) -> float:
    """Return the log probability of one token of ``logits [vocabulary]``."""
    peak = logits.max()
    return float(logits[token] - peak - np.log(np.exp(logits - peak).sum()))


def _adjusted(logits: Logits, settings: SamplingParams, context: Sequence[int]) -> Logits:
    """Return the logits with repeated tokens made rarer (CTRL, section 4.1) and bad words forbidden."""
    scores = logits.copy()
    seen = np.unique(np.asarray(context))
    penalty = np.float32(settings.repetition_penalty)
    scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    for word in settings.bad_words:
        if tuple(context[len(context) - len(word) + 1 :]) == word[:-1]:
            scores[word[-1]] = -np.inf
    return scores


def _sampled(scores: Logits, settings: SamplingParams, random: np.random.Generator) -> int:
    weights = np.exp((scores - scores.max()).astype(np.float64) / settings.temperature)
    tokens = np.arange(len(weights))
    if 0 < settings.top_k < len(weights):
        tokens = np.argpartition(-scores, settings.top_k - 1)[: settings.top_k]
    if settings.top_p < 1:
        tokens = _nucleus(tokens, weights, settings.top_p)
    sums = np.cumsum(weights[tokens])
    return int(
        tokens[np.searchsorted(sums, random.random() * sums[-1], side="right").clip(max=len(sums) - 1)]
    )


def _nucleus(tokens: NDArray[np.int64], weights: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Return the fewest of ``tokens`` that together have the share ``top_p``, the most likely first."""
    total = weights[tokens].sum()
    # What is rarer than this can be no part of it, all together: it spares sorting the whole vocabulary.
    tokens = tokens[weights[tokens] >= total * (1 - top_p) / len(tokens)]
    tokens = tokens[np.lexsort((tokens, -weights[tokens]))]
    kept = int(np.searchsorted(np.cumsum(weights[tokens]), top_p * total)) + 1
    return tokens[:kept]
