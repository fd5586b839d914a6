"""CIDEr as coco-caption counts it, which is CIDEr-D, and as first published; references counted once, candidates scored by the thousand."""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from captioner.errors import ArgumentError
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.ngrams import Counts, Postings, References, Tokens, count_references, find_sorted, lengths
from captioner.tokenizer import tokenize

logger = logging.getLogger(__name__)


class Cider:
    """Consensus with the references in n-grams weighted by how few images' references hold them.

        idf_g       = log(images) - log(max(1, images whose references hold g))
        x_g         = idf_g count_g(x),    |x|_n^2 = sum_g x_g^2
        CIDEr-plain = mean_n mean_r sum_g c_g r_g / (|c|_n |r|_n)
        CIDEr-D     = 10 mean_n mean_r exp(-(|c| - |r|)^2 / (2 sigma^2)) sum_g min(c_g, r_g) r_g / (|c|_n |r|_n)

    over n-grams g of order n = 1 .. order. CIDEr-D, which coco-caption and so everybody calls CIDEr, goes from 0 to 10: papers and tables
    print it x 100, so "CIDEr 90" is 0.9 here. CIDEr-plain goes from 0 to 1: no clipping, no penalty of lengths, no 10. `sigma` is in words
    and of CIDEr-D alone; lengths are counted in bigrams as in coco-caption, so that captions of no word and of one are as long.
    `frequencies`: of another corpus; left out, of the references. With those of one image every idf is zero and so is every score.
    Source: Vedantam et al. 2015, sec. 3 (CIDEr), 6 (CIDEr-D); coco-caption's `Cider`. Departures: words are not stemmed, and an n-gram
    of no image counts as one of one image, both as in coco-caption.
    Raises: ValueError, sigma not positive, or frequencies counted up to another order.
    """

    def __init__(
        self,
        references: References | Sequence[Sequence[Tokens]],
        order: int = 4,
        sigma: float = 6.0,
        plain: bool = False,
        frequencies: DocumentFrequencies | None = None,
    ) -> None:
        if sigma <= 0:
            raise ArgumentError("sigma", f"is a length in words and must be positive, not {sigma}")
        self.references = references = count_references(references, order)
        self.sigma, self.plain = sigma, plain
        own = DocumentFrequencies.of(references) if frequencies is None else frequencies
        if len(own.counts) != order:
            raise ArgumentError("order", f"is {order} words, but the frequencies were counted up to {len(own.counts)}")
        if own.images == 1:
            logger.warning("CIDEr is 0 with one image: every n-gram of the references stands in all images, so none has weight")
        self.numbering, self.weights = own.numbering, own.weights()
        self.idf = self.weights
        if frequencies is not None:
            numbers = references.numbering.translated(own.numbering)
            self.idf = [weights[number] for weights, number in zip(self.weights, numbers, strict=True)]
        self.inverse_norms = [
            inverse_norms(counts, idf, len(references.captions)) for counts, idf in zip(references.counts, self.idf, strict=True)
        ]

    def scores(self, candidates: Sequence[Tokens], images: Sequence[int] | np.ndarray | None = None) -> Float[np.ndarray, " candidates"]:
        """Of each candidate; `images` says which image each describes, left out: one an image in the references' order."""
        references = self.references
        image = references.images_of(candidates, images)
        counts_of_orders = references.numbering.count(candidates)
        others = counts_of_orders if self.numbering is references.numbering else self.numbering.count(candidates)
        total = np.zeros(len(candidates))
        for n, counts in enumerate(counts_of_orders):
            norms = inverse_norms(others[n], self.weights[n], len(candidates))
            total += self._cosines(n, counts, norms, image, np.maximum(lengths(candidates) - 1, 0))
        return (1 if self.plain else 10) * total / len(counts_of_orders) / references.per_image[image]

    def _cosines(
        self,
        n: int,
        counts: Counts,
        norms: Float[np.ndarray, " candidates"],
        image: Int[np.ndarray, " candidates"],
        bigrams: Int[np.ndarray, " candidates"],
    ) -> Float[np.ndarray, " candidates"]:
        """Sum over references, for the n-grams of order n + 1."""
        postings = self.references.postings[n]
        entry, posting = shared_ngrams(counts, image, postings)
        caption, reference = counts.caption[entry], postings.reference[posting]
        said, wanted = counts.times[entry], postings.times[posting]
        both = said * wanted if self.plain else np.minimum(said, wanted) * wanted
        cosine = self.idf[n][counts.ngram[entry]] ** 2 * both * norms[caption] * self.inverse_norms[n][reference]
        if not self.plain:
            gap = bigrams[caption] - np.maximum(self.references.lengths[reference] - 1, 0)
            cosine *= np.exp(-(gap**2) / (2 * self.sigma**2))
        return np.bincount(caption, cosine, len(norms)).astype(float)  # numpy makes whole numbers of nothing


class CiderReward:
    """CIDEr-D of captions in the making, as a reward: the references are tokenised and counted once.

    `tokens` makes words of a reference; with `lambda text: vocabulary.encode(tokenize(text))[1:]` they are ids that end with `<end>`, and
    so must the captions be. `frequencies` are counted over such tokens; left out, the references' own.
    """

    def __init__(
        self,
        references: Mapping[int, Sequence[str]],
        tokens: Callable[[str], Tokens] = tokenize,
        frequencies: DocumentFrequencies | None = None,
    ) -> None:
        self.rows = {image: row for row, image in enumerate(references)}
        self.cider = Cider([[tokens(caption) for caption in captions] for captions in references.values()], frequencies=frequencies)

    def __call__(self, images: Sequence[int], captions: Sequence[Tokens]) -> Float[np.ndarray, " captions"]:
        """0 to 10 for each caption of the image whose id is given; an image may stand many times.

        Raises: ValueError, an image has no references.
        """
        unknown = next((image for image in images if image not in self.rows), None)
        if unknown is not None:
            raise ValueError(f"image {unknown} has no references to be rewarded against")
        return self.cider.scores(captions, [self.rows[image] for image in images])


def inverse_norms(counts: Counts, idf: Float[np.ndarray, " weights"], captions: int) -> Float[np.ndarray, " captions"]:
    """1 / |x|_n of each caption; zero where the norm is."""
    weighted = counts.times * idf[np.minimum(counts.ngram, len(idf) - 1)]
    norms = np.sqrt(np.bincount(counts.caption, weighted**2, captions))
    return np.divide(1.0, norms, out=np.zeros(captions), where=norms > 0)


def shared_ngrams(
    counts: Counts, image: Int[np.ndarray, " candidates"], postings: Postings
) -> tuple[Int[np.ndarray, " meetings"], Int[np.ndarray, " meetings"]]:
    """Every place where an n-gram of a candidate stands in a reference of its image: (entry of counts, entry of postings)."""
    entry = np.flatnonzero(counts.ngram < postings.size)
    pair = image[counts.caption[entry]] * postings.size + counts.ngram[entry]
    place, there = find_sorted(postings.pairs, pair)
    entry, place = entry[there], place[there]
    number = postings.number[place]
    before = np.cumsum(number) - number
    posting = np.arange(number.sum()) + np.repeat(postings.first[place] - before, number)
    return np.repeat(entry, number), posting
