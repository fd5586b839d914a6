"""How far scores would move with other images: bootstrap intervals, and a test of whether one system is better than another."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from captioner.errors import ArgumentError
from captioner.metrics.statistics import ImageStatistics
from captioner.progress import progress

Rows = Float[np.ndarray, "images columns"]
AT_ONCE = 4_000_000
"""Counts held in memory at a time."""


class Interval(NamedTuple):
    low: float
    high: float


class Difference(NamedTuple):
    """One system's score less another's, on the same images."""

    value: float
    low: float
    high: float
    p: float
    """How often equal systems differ by as much or more, in either direction, in (0, 1]; 1 where both have the same score."""


def intervals(parts: Sequence[ImageStatistics], resamples: int = 1000, seed: int = 0, level: float = 0.95) -> dict[str, Interval]:
    """The percentile bootstrap interval of every score, by name: images are drawn with replacement, as many as there are.

    A resample's score is that of its sums (BLEU is no mean of images). What a score took from all images beforehand stays as it is:
    CIDEr keeps its document frequencies, so its interval says nothing about those. One image has no spread to tell: width zero.
    Source: Efron and Tibshirani 1993, sec. 13.3. Raises: ValueError, resamples below 1, level not inside 0 .. 1, or no images.
    """
    drawn = zip(parts, resampled(parts, resamples, seed), strict=True)
    return {name: Interval(*percentile_interval(column, level)) for part, scores in drawn for name, column in by_name(part, scores)}


def differences(
    parts: Sequence[ImageStatistics], others: Sequence[ImageStatistics], resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Difference]:
    """`parts` less `others`, by name: both systems are scored on the same resamples of the images they share, and tested by `p_values`.

    The interval is the paired bootstrap's, and p comes from another resampling: where they disagree at the border, p is the one that is
    calibrated. Raises: ValueError as `intervals`; or the two do not hold the same scores of the same number of images.
    """
    if [part.names for part in parts] != [other.names for other in others]:
        raise ValueError(f"systems with different scores: {[part.names for part in parts]} and {[other.names for other in others]}")
    if [len(part.rows) for part in parts] != [len(other.rows) for other in others]:
        raise ValueError("systems are compared on the same images, but one has more of them")
    both = resampled([*parts, *others], resamples, seed)
    found: dict[str, Difference] = {}
    for part, other, ours, theirs in zip(parts, others, both[: len(parts)], both[len(parts) :], strict=True):
        values = part.scores(part.rows.sum(0)) - other.scores(other.rows.sum(0))
        tested = zip(values.tolist(), p_values(part, other, resamples, seed).tolist(), by_name(part, ours - theirs), strict=True)
        for value, p, (name, column) in tested:
            low, high = percentile_interval(column, level)
            found[name] = Difference(value, low, high, p)
    return found


def p_values(part: ImageStatistics, other: ImageStatistics, resamples: int = 1000, seed: int = 0) -> Float[np.ndarray, " names"]:
    """Of each score, two-sided: the share of trials in which the systems differ by as much as they do or more.

    A trial lets a coin decide for every image which system its two captions belong to, and scores both systems anew: if the systems are
    equally good, this changes nothing but chance, whatever the score is and however alike the systems are. The captions as they are count
    as one trial more, so that equal systems fall below 0.05 in 5 % of cases at most; each score is tested by itself.
    Source: approximate randomization, Noreen 1989; Riezler and Maxwell 2005, sec. 3, who find that the bootstrap test of Koehn 2004
    (sec. 4) claims too many differences. Raises: ValueError, resamples below 1.
    """
    if resamples < 1:
        raise ArgumentError("resamples", f"must be 1 or more, not {resamples}")
    middle, apart = (part.rows + other.rows).sum(0) / 2, (part.rows - other.rows) / 2
    rng = np.random.default_rng((seed, 1))
    real = apart_by(part, middle, apart.sum(0))
    as_far = np.ones(len(part.names))
    at_once = max(1, AT_ONCE // len(apart))
    for first in progress(range(0, resamples, at_once), "resampling", unit="round"):
        coins = 2.0 * rng.integers(2, size=(min(at_once, resamples - first), len(apart))) - 1
        as_far += (apart_by(part, middle, coins @ apart) >= real * (1 - 1e-9) - 1e-12).sum(0)
    return as_far / (resamples + 1)


def apart_by(
    part: ImageStatistics, middle: Float[np.ndarray, " columns"], offset: Float[np.ndarray, "*lead columns"]
) -> Float[np.ndarray, "*lead names"]:
    """How far apart two systems score whose sums lie `offset` above and below `middle`."""
    return np.abs(part.scores(middle + offset) - part.scores(middle - offset))


def resampled(parts: Sequence[ImageStatistics], resamples: int, seed: int) -> list[Float[np.ndarray, "resamples _"]]:
    """The scores of each part on `resamples` resamples of the images, the same resamples for every part."""
    if resamples < 1:
        raise ArgumentError("resamples", f"must be 1 or more, not {resamples}")
    images = len(parts[0].rows) if parts else 0
    if images == 0 or any(len(part.rows) != images for part in parts):
        raise ArgumentError("parts", f"must hold rows of the same images, one or more, not {[len(part.rows) for part in parts]}")
    rng = np.random.default_rng(seed)
    sums: list[list[np.ndarray]] = [[] for _ in parts]
    at_once = max(1, AT_ONCE // images)
    for first in progress(range(0, resamples, at_once), "resampling", unit="round"):
        number = min(at_once, resamples - first)
        drawn = rng.integers(images, size=(number, images)) + images * np.arange(number)[:, None]
        times = np.bincount(drawn.ravel(), minlength=number * images).reshape(number, images).astype(float)
        for part, of_part in zip(parts, sums, strict=True):
            of_part.append(times @ part.rows)
    return [part.scores(np.concatenate(of_part)) for part, of_part in zip(parts, sums, strict=True)]


def by_name(part: ImageStatistics, scores: Float[np.ndarray, "resamples names"]) -> list[tuple[str, Float[np.ndarray, " resamples"]]]:
    return list(zip(part.names, scores.T, strict=True))


def percentile_interval(drawn: Float[np.ndarray, " resamples"], level: float) -> list[float]:
    if not 0 < level < 1:
        raise ArgumentError("level", f"is the share of resamples inside the interval, between 0 and 1, not {level}")
    return np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).tolist()
