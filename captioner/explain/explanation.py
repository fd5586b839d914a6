"""Which part of the image speaks for a word? One map a word of a given caption, teacher-forced: the record that attention maps have."""

from abc import ABC, abstractmethod
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.model import Captioner
from captioner.records import AttentionMode, Regions, Rollout, grid_size

CELLS = 56
"""Most cells a side of a map that is made of pixels."""


class Explanation(ABC):
    """Maps of how much each place of a prepared image speaks for each word, given the words before it."""

    @abstractmethod
    def relevance(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words rows cols"]:
        """Of a prepared image and `ids` = `<start> w1 ... wn <end>`, n >= 1: higher where more speaks for the word, below zero against."""

    @final
    def maps(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float32[np.ndarray, "words rows cols"]:
        """What speaks for each word: the positive part, over all that the model sees, its sum one (a map of zeros stays so).

        The captioner is set to evaluation; its parameters keep their gradients.
        Raises: ArgumentError, no word between `<start>` and `<end>`.
        """
        if len(ids) < 3:
            raise ArgumentError("ids", f"hold <start>, one word or more, and <end>, not {len(ids)} words")
        captioner.eval()
        found = self.relevance(captioner, image.to(captioner.device), ids.to(captioner.device))
        return shares(found.detach()).float().cpu().numpy()


def shares(relevance: Float[Tensor, "words rows cols"]) -> Float[Tensor, "words rows cols"]:
    """The positive part of each map, divided by its sum."""
    positive = relevance.clamp_min(0).double().nan_to_num(0, 0, 0)
    return positive / positive.sum((1, 2), keepdim=True).clamp_min(torch.finfo(torch.double).tiny)


@final
class Attention(Explanation):
    """Where the model looks: its alphas (the mean over heads and layers), here without a sentinel's share."""

    def relevance(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words rows cols"]:
        with torch.no_grad():
            regions = captioner.encode(image[None])
            return on_grid(teacher_forced_rollout(captioner, regions, ids[None]).record.alphas[0, 0, :-1], regions)


def teacher_forced_rollout(
    captioner: Captioner,
    images: Float[Tensor, "images 3 height width"] | Regions,
    captions: Int[Tensor, "captions ids"],
) -> Rollout:
    """One caption an image, or the same caption on all; regions are those of the whole encoder, as `captioner.encode` gives them."""
    regions = images if isinstance(images, Regions) else captioner.encode(images)
    captions = captions[:, None].expand(len(regions.features), -1, -1)
    return captioner.decoder.rollout(regions, captions, torch.full_like(captions[..., 0], AttentionMode.SAMPLE))


def prefixes(ids: Int[Tensor, " ids"]) -> Int[Tensor, "words read"]:
    """For each word the caption up to it, without `<end>`: row t is `<start> w1 ... wt <pad> ...`, so that its last log p is w_t's."""
    return ids[None, :-1].repeat(len(ids) - 2, 1).tril(1)


def on_grid(values: Float[Tensor, "words regions"], regions: Regions) -> Float[Tensor, "words rows cols"]:
    return values.unflatten(1, grid_size(regions.cells))


def pooled(maps: Float[Tensor, "words height width"], most: int | None = CELLS) -> Float[Tensor, "words rows cols"]:
    """Means over squares of as few pixels as leave no more than `most` cells a side; None keeps every pixel."""
    if most is None:
        return maps
    height, width = maps.shape[1:]
    side = -(-max(height, width) // most)
    return torch.nn.functional.adaptive_avg_pool2d(maps, (-(-height // side), -(-width // side)))
