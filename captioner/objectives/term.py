"""What every term of an objective is: a number made of rollouts."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from captioner.records import Aims, Rollout


class Given(NamedTuple):
    """What an objective asked for."""

    rollout: Rollout
    """`draws` rows of each caption, side by side: row caption * draws + k."""
    draws: int = 1
    peaks: Float[Tensor, "images captions words"] | None = None
    """log p of each word of each caption that drew, when every look goes to the peak; no gradient. None where no term needs it."""
    aims: Aims | None = None
    """Of the batch's captions, before any is repeated for its draws."""
    cells: Float[Tensor, "regions 2"] | None = None
    """(row, column) of each region, in grid cells from zero."""


class Term(nn.Module, ABC):
    needs_peaks = False
    needs_aims = False
    least_draws = 1
    """Of each caption."""
    mean_over = "words"
    """What it is a mean over, a field of `records.Shares`: where gradients are accumulated, a batch counts by its share of that."""

    @abstractmethod
    def forward(self, given: Given) -> Float[Tensor, ""]:
        """Already weighted; to be minimised."""

    def measure(self, given: Given) -> dict[str, Float[Tensor, ""]]:
        """Numbers to log, before `forward` has moved any average."""
        return {}
