"""The health of maps: an attention that never moves, or never chooses, explains nothing."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

FLAT, STILL = 0.98, 0.02
"""The entropy from which on a map counts as flat, and the change up to which it counts as the same as the next one."""


class Health(NamedTuple):
    """Numbers from 0 to 1, means over words except `coverage`; NaN where there is nothing to take the mean of."""

    entropy: float
    """Of a word's weights, as a share of a uniform map's: 1 looks everywhere, 0 at one cell."""
    change: float
    """Half the absolute difference between the weights of neighbouring words: 0 never moves, 1 never looks at the same cells."""
    peak: float
    """The share of a word's weight that its highest cell holds."""
    coverage: float
    """The share of cells whose weights over the whole caption sum to at least words / cells: 1 for uniform maps, little where all
    words look at one place."""
    dead: float
    """The share of words whose map is flat, or the same as those of the words before and after."""


def health(alphas: Float[np.ndarray, "words rows cols"], flat: float = FLAT, still: float = STILL) -> Health:
    """The health of one caption's maps, each divided by its sum first (a sentinel takes its share before); zeros count as uniform.

    flat: the entropy from which on a map is dead. still: the change up to which two maps are the same.
    """
    weights = alphas.reshape(len(alphas), alphas.shape[1] * alphas.shape[2]).astype(np.float64)
    words, regions = weights.shape
    if not words:
        return Health(*[float("nan")] * len(Health._fields))
    totals = weights.sum(1, keepdims=True)
    weights = np.where(totals > 0, weights / np.where(totals > 0, totals, 1), 1 / regions)
    surprise = -np.where(weights > 0, weights * np.log(np.where(weights > 0, weights, 1)), 0).sum(1)
    entropy = surprise / np.log(regions) if regions > 1 else np.full(words, np.nan)
    moves = np.abs(np.diff(weights, axis=0)).sum(1) / 2
    covered = weights.sum(0) >= words / regions - 1e-9
    dead = (entropy >= flat) | _like_neighbours(moves <= still)
    return Health(_mean(entropy), _mean(moves), _mean(weights.max(1)), _mean(covered), _mean(dead))


def mean_health(healths: Iterable[Health]) -> Health:
    """The mean of each number over the captions that have it."""
    table = np.array(list(healths), dtype=np.float64).reshape(-1, len(Health._fields))
    return Health(*(_mean(column[~np.isnan(column)]) for column in table.T))


def _like_neighbours(same: np.ndarray) -> np.ndarray:
    """For n words, from their n - 1 comparisons; a word alone is like no other."""
    if not same.size:
        return np.zeros(1, dtype=bool)
    return np.append(True, same) & np.append(same, True)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")
