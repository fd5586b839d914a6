"""What every term of an objective is: a number made of rollouts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.records import BoxTargets, Rollout


class DrawnCaptions(NamedTuple):
    """Captions that the model itself has drawn of each image, and their rollout, which carries the gradient."""

    captions: Int[Tensor, "images drawn words"]
    rollout: Rollout
    indices: Int[Tensor, " images"]
    """The positions of the images in the training set."""
    greedy: Int[Tensor, "images 1 words"] | None
    """What greedy search finds; None where no term needs it."""


class CollectedRollouts(NamedTuple):
    """What the terms of an objective read of one batch."""

    rollout: Rollout
    """`samples` rows of each caption, side by side: row caption * samples + k."""
    samples: int = 1
    argmax_log_probs: Float[Tensor, "images captions words"] | None = None
    """log p of each word of each sampled caption when every look goes to the highest alpha, without
    gradient. None where no term needs it."""
    box_targets: BoxTargets | None = None
    """Of the batch's captions, before they are repeated for samples."""
    cells: Float[Tensor, "regions 2"] | None = None
    """(row, column) of each region, in grid cells from zero."""
    drawn: DrawnCaptions | None = None
    """None where no term draws captions."""


class Term(nn.Module, ABC):
    """A loss times its `weight`. Raises: ArgumentError, weight negative."""

    needs_argmax = False
    needs_boxes = False
    minimum_samples = 1
    """Of each caption."""
    drawn_captions = 0
    """Captions of each image that the model has to draw for this term."""
    needs_greedy = False
    max_length = 0
    """Words that a drawn caption has at most."""
    mean_over = "words"
    """What the loss is a mean over, a field of `AccumulationShares`: where gradients are accumulated, a batch counts by that share."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        if weight < 0:
            raise ArgumentError("weight", f"must not be negative, not {weight}")
        self.weight = weight

    @abstractmethod
    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        """Already weighted; to be minimised."""

    def prepare(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """What is counted once on the captions of all training images, word ids with `<end>`; nothing by default."""

    def statistics(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        """Numbers to log, before `forward` has moved any average."""
        return {}
