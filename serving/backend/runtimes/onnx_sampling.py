"""The sampler of the onnxruntime backend: chooses one row's next token from the model's logits.

CTranslate2 and llama.cpp have samplers of their own.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..requests import SamplingParams

Logits = NDArray[np.float32]


def next_token(
    logits: Logits, params: SamplingParams, context: Sequence[int], random: np.random.Generator
) -> tuple[int, float]:
    """Return the token that follows ``context``, and its log probability.

    ``logits [vocabulary]`` are those of the model. The log probability is the one before temperature and
    penalties, as FasterTransformer reports it.
    """
    scores = _adjusted(logits, params, context) if params.depends_on_context else logits
    token = int(scores.argmax()) if params.greedy else _sampled(scores, params, random)
    return token, log_probability(logits, token)


def log_probability(logits: Logits, token: int) -> float:
    """Return the log probability of one token of ``logits [vocabulary]``."""
    peak = logits.max()
    return float(logits[token] - peak - np.log(np.exp(logits - peak).sum()))


def _adjusted(logits: Logits, params: SamplingParams, context: Sequence[int]) -> Logits:
    """Return the logits with repeated tokens penalised (CTRL, section 4.1) and bad words excluded."""
    scores = logits.copy()
    seen = np.unique(np.asarray(context))
    penalty = np.float32(params.repetition_penalty)
    scores[seen] = np.where(scores[seen] < 0, scores[seen] * penalty, scores[seen] / penalty)
    for word in params.bad_words:
        if tuple(context[len(context) - len(word) + 1 :]) == word[:-1]:
            scores[word[-1]] = -np.inf
    return scores


def _sampled(scores: Logits, params: SamplingParams, random: np.random.Generator) -> int:
    weights = np.exp((scores - scores.max()).astype(np.float64) / params.temperature)
    tokens = np.arange(len(weights))
    if 0 < params.top_k < len(weights):
        tokens = np.argpartition(-scores, params.top_k - 1)[: params.top_k]
    if params.top_p < 1:
        tokens = _nucleus(tokens, weights, params.top_p)
    sums = np.cumsum(weights[tokens])
    return int(
        tokens[np.searchsorted(sums, random.random() * sums[-1], side="right").clip(max=len(sums) - 1)]
    )


def _nucleus(tokens: NDArray[np.int64], weights: NDArray[np.float64], top_p: float) -> NDArray[np.int64]:
    """Return the fewest of ``tokens`` whose probabilities sum to ``top_p``, the most likely first."""
    total = weights[tokens].sum()
    # Tokens below this weight cannot be among them; dropping them avoids sorting the whole vocabulary.
    tokens = tokens[weights[tokens] >= total * (1 - top_p) / len(tokens)]
    tokens = tokens[np.lexsort((tokens, -weights[tokens]))]
    kept = int(np.searchsorted(np.cumsum(weights[tokens]), top_p * total)) + 1
    return tokens[:kept]
