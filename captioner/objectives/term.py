"""What every term of an objective is: a number made of rollouts."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.records import BoxTargets, Rollout


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


class Term(nn.Module, ABC):
    """A loss times its `weight`. Raises: ArgumentError, weight negative."""

    needs_argmax = False
    needs_boxes = False
    minimum_samples = 1
    """Of each caption."""
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

    def statistics(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        """Numbers to log, before `forward` has moved any average."""
        return {}
