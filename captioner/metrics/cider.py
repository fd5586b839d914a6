"""CIDEr as coco-caption counts it, which is CIDEr-D; references counted once, candidates scored by the thousand."""

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from captioner.metrics.ngrams import Counts, Postings, References, Tokens, counted, lengths

logger = logging.getLogger(__name__)


class CiderD:
    """Consensus with the references in n-grams weighted by how few images' references hold them.

        idf_g     = log(images) - log(max(1, images whose references hold g))
        cos_n     = sum_g idf_g^2 min(count_g(c), count_g(r)) count_g(r) / (|c|_n |r|_n),    |x|_n^2 = sum_g idf_g^2 count_g(x)^2
        CIDEr-D   = 10 mean_n mean_r exp(-(|c| - |r|)^2 / (2 sigma^2)) cos_n

    over n-grams g of order n = 1 .. order. From 0 to 10: papers and tables print it x 100, so "CIDEr 90" is 0.9 here. `sigma` is in
    words. Lengths are counted in bigrams as in coco-caption, so that captions of no word and of one are as long. With the references
    of one image every idf is zero and so is every score.
    Source: Vedantam et al. 2015, sec. 4 and 6 (CIDEr-D); coco-caption's `Cider`.
    Raises: ValueError, sigma not positive.
    """

    def __init__(self, references: References | Sequence[Sequence[Tokens]], order: int = 4, sigma: float = 6.0) -> None:
        if sigma <= 0:
            raise ValueError(f"sigma is a length in words and must be positive, not {sigma}")
        self.references = references = counted(references, order)
        self.sigma = sigma
        if len(references) == 1:
            logger.warning("CIDEr is 0 with one image: every n-gram of the references stands in all images, so none has weight")
        self.most = float(np.log(len(references)))
        self.idf = [self._weigh(postings) for postings in references.postings]
        self.inverse_norms = [
            inverse_norms(counts, idf, len(references.captions)) for counts, idf in zip(references.numbering.counts, self.idf, strict=True)
        ]

    def scores(self, candidates: Sequence[Tokens], images: Sequence[int] | np.ndarray | None = None) -> Float[np.ndarray, " candidates"]:
        """Of each candidate, 0 to 10; `images` says which image each describes, left out: one an image in the references' order."""
        references = self.references
        image = references.images_of(candidates, images)
        bigrams = np.maximum(lengths(candidates) - 1, 0)
        total = np.zeros(len(candidates))
        all_counts = references.numbering.count(candidates)
        for counts, postings, idf, reference_norms in zip(all_counts, references.postings, self.idf, self.inverse_norms, strict=True):
            norms = inverse_norms(counts, idf, len(candidates))
            entry, posting = meet(counts, image, postings)
            caption, reference = counts.caption[entry], postings.reference[posting]
            gap = bigrams[caption] - np.maximum(references.lengths[reference] - 1, 0)
            both = np.minimum(counts.times[entry], postings.times[posting]) * postings.times[posting]
            cosine = idf[counts.ngram[entry]] ** 2 * both * norms[caption] * reference_norms[reference]
            total += np.bincount(caption, cosine * np.exp(-(gap**2) / (2 * self.sigma**2)), len(candidates))
        return 10 * total / len(all_counts) / references.per_image[image]

    def _weigh(self, postings: Postings) -> Float[np.ndarray, " weights"]:
        """idf of each n-gram, and last that of all others."""
        images = np.bincount(postings.pairs % max(postings.size, 1), minlength=postings.size)
        return np.append(self.most - np.log(np.maximum(images, 1)), self.most)


def inverse_norms(counts: Counts, idf: Float[np.ndarray, " weights"], captions: int) -> Float[np.ndarray, " captions"]:
    """1 / |x|_n of each caption; zero where the norm is."""
    weighted = counts.times * idf[np.minimum(counts.ngram, len(idf) - 1)]
    norms = np.sqrt(np.bincount(counts.caption, weighted**2, captions))
    return np.divide(1.0, norms, out=np.zeros(captions), where=norms > 0)


def meet(
    counts: Counts, image: Int[np.ndarray, " candidates"], postings: Postings
) -> tuple[Int[np.ndarray, " meetings"], Int[np.ndarray, " meetings"]]:
    """Every place where an n-gram of a candidate stands in a reference of its image: (entry of counts, entry of postings)."""
    entry = np.flatnonzero(counts.ngram < postings.size)
    pair = image[counts.caption[entry]] * postings.size + counts.ngram[entry]
    place = np.searchsorted(postings.pairs, pair)
    there = np.append(postings.pairs, -1)[place] == pair
    entry, place = entry[there], place[there]
    number = postings.number[place]
    before = np.cumsum(number) - number
    posting = np.arange(number.sum()) + np.repeat(postings.first[place] - before, number)
    return np.repeat(entry, number), posting
