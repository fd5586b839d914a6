"""Numbers that say whether maps are alive: an attention that never moves, or never chooses, explains nothing."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Health(NamedTuple):
    """Means over words, each from 0 to 1; NaN where there is nothing to take the mean of."""

    entropy: float
    """Of a word's weights, as a share of an even look's: 1 looks everywhere, 0 at one cell."""
    change: float
    """Half the absolute difference between the weights of neighbouring words: 0 never moves, 1 never looks at the same cells."""
    peak: float
    """The share of a word's weight that its highest cell holds."""


def health(alphas: Float[np.ndarray, "words rows cols"]) -> Health:
    """Of one caption's maps, each brought to a sum of one first (a sentinel takes its share before); maps of zeros count as even."""
    weights = alphas.reshape(len(alphas), alphas.shape[1] * alphas.shape[2]).astype(np.float64)
    regions = weights.shape[1]
    totals = weights.sum(1, keepdims=True)
    weights = np.where(totals > 0, weights / np.where(totals > 0, totals, 1), 1 / regions)
    surprise = -np.where(weights > 0, weights * np.log(np.where(weights > 0, weights, 1)), 0).sum(1)
    moves = np.abs(np.diff(weights, axis=0)).sum(1) / 2
    return Health(_mean(surprise / np.log(regions)) if regions > 1 else float("nan"), _mean(moves), _mean(weights.max(1)))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
