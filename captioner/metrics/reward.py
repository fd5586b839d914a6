"""Scores of captions as a reward for training: CIDEr-D, BLEU-4 or both, of word ids, against references that are counted once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from captioner.errors import ArgumentError
from captioner.metrics.bleu import Bleu, bleu
from captioner.metrics.cider import Cider
from captioner.metrics.ngrams import References, count_references


class CaptionReward:
    """cider * CIDEr-D + bleu * BLEU-4 of each caption.

    CIDEr-D goes from 0 to 10, BLEU-4 (of one caption, with coco-caption's tiny numerators) from 0 to 1. Captions and references are
    word ids that end with `<end>`, which counts as a word: without it a caption that stops in the middle costs nothing (Rennie et al.
    2017, sec. 5). Document frequencies are those of all references given.
    Raises: ArgumentError, a weight negative, or both zero.
    """

    def __init__(self, cider: float = 1.0, bleu: float = 0.0) -> None:
        for name, weight in (("cider", cider), ("bleu", bleu)):
            if weight < 0:
                raise ArgumentError(name, f"is a weight and must not be negative, not {weight}")
        if not cider + bleu:
            raise ArgumentError("cider", "and bleu are both 0: nothing would be rewarded")
        self.cider, self.bleu = cider, bleu
        self._references: References | None = None

    def prepare(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """Count the references of each training image, once."""
        self._references = count_references([[tuple(caption) for caption in of_image] for of_image in references], 4)
        self._cider, self._bleu = Cider(self._references), Bleu(self._references)

    def __call__(self, images: Sequence[int], captions: Sequence[Sequence[int]]) -> Float[np.ndarray, " captions"]:
        """Of each caption of the image at that place in `prepare`'s list."""
        if self._references is None:
            raise ValueError("the references are not prepared")
        candidates = [tuple(caption) for caption in captions]
        total = np.zeros(len(candidates))
        if self.cider:
            total += self.cider * self._cider.scores(candidates, images)
        if self.bleu:
            total += self.bleu * bleu(self._bleu.statistics(candidates, images).rows())[:, 3]
        return total
