"""Scores of a corpus as functions of what its images add up to: whole corpora, resamples and single images come from the same rows."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class ImageStatistics(NamedTuple):
    """What each image adds, and the scores of a sum: `scores(rows.sum(0))` are the corpus's, `scores(rows)` each image's own."""

    names: tuple[str, ...]
    rows: Float[np.ndarray, "images columns"]
    scores: Callable[[Any], Any]
    """(... columns) -> (... names)"""

    def corpus(self) -> dict[str, float]:
        """Each score of all images together, by name."""
        return dict(zip(self.names, self.scores(self.rows.sum(0)).tolist(), strict=True))


def mean_statistics(name: str, scores: Float[np.ndarray, " images"]) -> ImageStatistics:
    """A score whose corpus score is the mean of its images'."""
    return ImageStatistics((name,), np.stack([scores, np.ones(len(scores))], 1), mean)


def mean(sums: Float[np.ndarray, "*lead 2"]) -> Float[np.ndarray, "*lead 1"]:
    return sums[..., :1] / sums[..., 1:]


def corpus_scores(parts: Sequence[ImageStatistics]) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.corpus().items()}
