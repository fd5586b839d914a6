"""What every term of an objective is: a number made of rollouts."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from captioner.records import BoxTargets, Rollout


class CollectedRollouts(NamedTuple):
    """What an objective asked for."""

    rollout: Rollout
    """`samples` rows of each caption, side by side: row caption * samples + k."""
    samples: int = 1
    argmax_log_probs: Float[Tensor, "images captions words"] | None = None
    """log p of each word of each caption that sampled, when every look goes to the peak; no gradient. None where no term needs it."""
    box_targets: BoxTargets | None = None
    """Of the batch's captions, before any is repeated for its samples."""
    cells: Float[Tensor, "regions 2"] | None = None
    """(row, column) of each region, in grid cells from zero."""


class Term(nn.Module, ABC):
    needs_argmax = False
    needs_boxes = False
    minimum_samples = 1
    """Of each caption."""
    mean_over = "words"
    """What it is a mean over, a field of `records.Shares`: where gradients are accumulated, a batch counts by its share of that."""

    @abstractmethod
    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        """Already weighted; to be minimised."""

    def statistics(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        """Numbers to log, before `forward` has moved any average."""
        return {}
