"""Draw one token from a distribution, as the runtimes do it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..requests import SamplingParams


def draw(
    log_probs: NDArray[np.float32],
    settings: SamplingParams,
    context: Sequence[int],
    random: np.random.Generator,
) -> int:
    """Return a token id drawn from ``log_probs [vocabulary]``, after the tokens ``context``."""
    scores = log_probs.astype(np.float64)
    seen = np.unique(np.asarray(context))
    scores[seen] *= (
        settings.repetition_penalty
    )  # log probabilities are negative: a larger factor makes them rarer
    for word in settings.bad_words:
        if tuple(context[len(context) - len(word) + 1 :]) == word[:-1]:
            scores[word[-1]] = -np.inf
    order = np.argsort(-scores, kind="stable")[: settings.top_k or len(scores)]
    weights = np.exp((scores[order] - scores[order[0]]) / settings.temperature)
    weights /= weights.sum()
    kept = int(np.searchsorted(np.cumsum(weights), settings.top_p)) + 1
    weights = weights[:kept] / weights[:kept].sum()
    return int(random.choice(order[:kept], p=weights))
