"""BLEU-1 to BLEU-4 of a corpus, as coco-caption counts it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from captioner.metrics.ngrams import References, Tokens, count_references, find_sorted, lengths
from captioner.metrics.statistics import ImageStatistics


class BleuStatistics(NamedTuple):
    """What BLEU adds up over images before it divides."""

    matches: Int[np.ndarray, "images orders"]
    """N-grams of the candidate that a reference holds, each at most as often as the reference that has most of it."""
    guesses: Int[np.ndarray, "images orders"]
    """N-grams of the candidate."""
    candidate_length: Int[np.ndarray, " images"]
    reference_length: Int[np.ndarray, " images"]
    """Of the reference closest in length, the shorter of two as close."""

    def rows(self) -> Float[np.ndarray, "images columns"]:
        """All of it side by side, in this order."""
        return np.column_stack(self).astype(float)

    def additive(self) -> ImageStatistics:
        return ImageStatistics(tuple(f"BLEU-{n}" for n in range(1, self.matches.shape[1] + 1)), self.rows(), bleu)


class Bleu:
    """Modified n-gram precision with a brevity penalty, over a corpus.

        precision_n = sum matches_n / sum guesses_n
        BLEU-n      = (precision_1 ... precision_n)^(1/n) * min(1, exp(1 - reference_length / candidate_length))

    Fractions from 0 to 1. Numerators get 1e-15 and denominators 1e-9 as in coco-caption, so that nothing divides by zero.
    Source: Papineni et al. 2002, sec. 2; coco-caption's `Bleu(4)` with its closest reference length.
    """

    def __init__(self, references: References | Sequence[Sequence[Tokens]], order: int = 4) -> None:
        self.references = count_references(references, order)

    def statistics(self, candidates: Sequence[Tokens], images: Sequence[int] | np.ndarray | None = None) -> BleuStatistics:
        """Of each candidate; `images` says which image each describes, left out: one an image in the references' order."""
        references = self.references
        image = references.images_of(candidates, images)
        size = lengths(candidates)
        matches = []
        for counts, postings in zip(references.numbering.count(candidates), references.postings, strict=True):
            known = counts.ngram < postings.size
            pair = image[counts.caption[known]] * postings.size + counts.ngram[known]
            place, there = find_sorted(postings.pairs, pair)
            limit = largest_counts(postings.times, postings.first)[place[there]]
            match = np.minimum(counts.times[known][there], limit)
            matches.append(np.bincount(counts.caption[known][there], match, len(candidates)).astype(np.int64))
        guesses = np.maximum(size[:, None] - np.arange(len(matches)), 0)
        return BleuStatistics(np.stack(matches, 1), guesses, size, self._closest(image, size))

    def scores(self, candidates: Sequence[Tokens]) -> list[float]:
        """BLEU-1 .. BLEU-n of one candidate an image."""
        return bleu(self.statistics(candidates).rows().sum(0)).tolist()

    def _closest(self, image: Int[np.ndarray, " candidates"], size: Int[np.ndarray, " candidates"]) -> Int[np.ndarray, " candidates"]:
        references = self.references
        number = references.per_image[image]
        first = np.cumsum(number) - number
        entry = np.arange(number.sum()) + np.repeat(references.first[image] - first, number)
        length = references.lengths[entry]
        ranked = (np.abs(length - np.repeat(size, number)) << 32) | length
        return np.minimum.reduceat(ranked, first) & 0xFFFFFFFF if len(image) else size


def largest_counts(count: Int[np.ndarray, " postings"], first: Int[np.ndarray, " entries"]) -> Int[np.ndarray, " entries"]:
    return np.maximum.reduceat(count, first) if len(first) else first


def bleu(sums: Float[np.ndarray, "*lead columns"]) -> Float[np.ndarray, "*lead orders"]:
    """BLEU-1 .. BLEU-n of sums of `BleuStatistics.rows`: sums first, then one division, no mean over images."""
    small, tiny = 1e-9, 1e-15
    order = sums.shape[-1] // 2 - 1
    matches, guesses, (length, closest) = sums[..., :order], sums[..., order:-2], np.moveaxis(sums[..., -2:], -1, 0)
    precision = (matches + tiny) / (guesses + small)
    ratio = (length + tiny) / (closest + small)
    brevity = np.exp(np.minimum(0, 1 - 1 / ratio))
    return np.cumprod(precision, -1) ** (1 / np.arange(1, order + 1)) * brevity[..., None]
