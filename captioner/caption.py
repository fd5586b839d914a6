"""One caption of one image, and where the model looked for each of its words. NumPy and Pillow only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float
from PIL import Image

from captioner.box import Box, scaled_box
from captioner.errors import ArgumentError

Numbers: TypeAlias = Sequence[float] | Float[np.ndarray, " words"]
"""One number per word."""


@dataclass(frozen=True, eq=False)
class WordMaps:
    """One map per word over an image: what every drawing takes.

    alphas: one map per word. box: the pixels of `image` that the grid covers. probabilities, gate
    (the paper's beta) and sentinel: one number in [0, 1] per word. heads: the maps of each head.
    Raises: ArgumentError, a field that does not hold one entry per word.
    """

    image: Image.Image
    words: Sequence[str]
    alphas: Float[np.ndarray, "words rows cols"]
    box: Box
    probabilities: Numbers | None = None
    gate: Numbers | None = None
    sentinel: Numbers | None = None
    heads: Float[np.ndarray, "words heads rows cols"] | None = None

    def __post_init__(self) -> None:
        for name in ("alphas", "probabilities", "gate", "sentinel", "heads"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.words):
                raise ArgumentError(name, f"hold {len(values)} entries for {len(self.words)} words")

    def with_alphas(self, alphas: Float[np.ndarray, "words rows cols"]) -> "WordMaps":
        """The same words with the maps of another explanation; gate, sentinel and heads are attention's alone."""
        return replace(self, alphas=alphas, gate=None, sentinel=None, heads=None)


@dataclass
class Caption:
    """What a model says of an image, and where it looked for each word.

    log_prob: the sum of log_probs (one per word) and end_log_prob (of `<end>`), natural logarithms
    of the model's own distribution; score: log_prob after normalisation by length. alphas: float32,
    which with `sentinel`, where there is one, sum to one for each word. gate: the paper's beta in
    [0, 1]. box: the pixels of the original image, of `width` x `height` pixels, that the grid
    covers; a large photo is kept in `image` at a smaller scale. satisfied: false where the search
    found no caption that meets its constraints. alternatives: its other captions, the best first.
    familiar: false where the words are less probable than those of nearly all validation images, so
    that the image is probably unlike those that the model learned from; None where it does not know.
    Without `image` (captions of prepared tensors), box, width and height are zero.
    """

    text: str
    words: Sequence[str]
    log_prob: float
    log_probs: Sequence[float]
    end_log_prob: float
    score: float
    alphas: Float[np.ndarray, "words rows cols"]
    box: Box = (0.0, 0.0, 0.0, 0.0)
    width: int = 0
    height: int = 0
    gate: Float[np.ndarray, " words"] | None = None
    sentinel: Float[np.ndarray, " words"] | None = None
    head_alphas: Float[np.ndarray, "words heads rows cols"] | None = None
    alternatives: Sequence["Caption"] = ()
    image: Image.Image | None = None
    satisfied: bool = True
    familiar: bool | None = None

    @property
    def mean_log_prob(self) -> float:
        """The mean of log p over the words and `<end>`."""
        return self.log_prob / (len(self.words) + 1)

    @property
    def probabilities(self) -> list[float]:
        return [math.exp(log_prob) for log_prob in self.log_probs]

    @property
    def maps(self) -> WordMaps:
        """What drawings take. Raises: ValueError, the caption has no image."""
        if self.image is None:
            raise ValueError("this caption was made without its image; pass images, not prepared tensors")
        box = scaled_box(self.box, (self.width, self.height), self.image.size)
        return WordMaps(self.image, self.words, self.alphas, box, self.probabilities, self.gate, self.sentinel, self.head_alphas)
