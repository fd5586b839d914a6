"""ROUGE-L as coco-caption counts it: the longest common subsequence with the references."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float

from captioner.errors import ArgumentError
from captioner.metrics.ngrams import Tokens, check_tokens


def rouge_l(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], beta: float = 1.2) -> Float[np.ndarray, " images"]:
    """ROUGE-L of each image, 0 to 1; the corpus score is their mean.

        P = max_r common(c, r) / |c|,    R = max_r common(c, r) / |r|,    F = (1 + beta^2) P R / (R + beta^2 P)

    The best precision and the best recall may come from different references, as in coco-caption; there an empty caption is one
    empty word, and so it is here.
    Source: Lin 2004, sec. 3.2, for several references by coco-caption.
    Raises: ValueError, beta not positive, or as many candidates as images are not given, or an image has no references.
    """
    if beta <= 0:
        raise ArgumentError("beta", f"weighs recall against precision and must be positive, not {beta}")
    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates do not go with the references of {len(references)} images")
    check_tokens(candidates)
    return np.array([f_measure(candidate, captions, beta) for candidate, captions in zip(candidates, references, strict=True)], float)


def f_measure(candidate: Tokens, references: Sequence[Tokens], beta: float) -> float:
    if len(references) == 0:
        raise ArgumentError("references", "of an image are empty: each image needs one or more")
    words = candidate or [""]
    places: dict[Hashable, int] = {}
    for place, word in enumerate(words):
        places[word] = places.get(word, 0) | (1 << place)
    precision = recall = 0.0
    for reference in references:
        common = common_length(places, len(words), reference or [""])
        precision = max(precision, common / len(words))
        recall = max(recall, common / (len(reference) or 1))
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def common_length(places: dict[Hashable, int], length: int, other: Tokens) -> int:
    """Length of the longest common subsequence of `other` and a caption given by its words' places, one bit a place.

    A row of the usual table never falls and rises by at most one a column, so it fits into bits: a zero where it rises, and a row
    follows from the one before in three operations on integers.
    Source: Hyyro 2004, "Bit-parallel LCS-length computation revisited".
    """
    row = everywhere = (1 << length) - 1
    for word in other:
        hits = row & places.get(word, 0)
        row = ((row + hits) | (row - hits)) & everywhere
    return length - row.bit_count()
