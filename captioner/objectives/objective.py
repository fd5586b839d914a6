"""What training asks for: rollouts of a captioner, and named terms whose sum is minimised."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.records import DRAW, EXPECT, Batch, Rollout


@runtime_checkable
class Rolls(Protocol):
    """A captioner, as far as an objective knows it."""

    training: bool

    def rollout(self, batch: Batch, mode: Int[Tensor, "images captions"] | None = None) -> Rollout: ...


class Objective(nn.Module):
    """Terms over one rollout of the batch's captions.

    `terms` are modules rollout -> scalar, already weighted.
    `expect` is the share of captions that look by expectation: the coin of Xu et al. 2015, sec. 4.1, where it falls once for a batch and
    here, a departure, for each caption. It decides nothing where the readout is an expectation.
    Raises: ValueError, no terms, or a share outside [0, 1].
    """

    def __init__(self, terms: Mapping[str, nn.Module], expect: float = 0.0) -> None:
        super().__init__()
        if not terms:
            raise ValueError("an objective needs at least one term")
        if not 0 <= expect <= 1:
            raise ValueError(f"expect is a share of captions in [0, 1], not {expect}")
        self.terms = nn.ModuleDict(dict(terms))
        self.expect = expect

    def forward(self, captioner: Rolls, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Each term, by name. A batch without a single word is a ValueError."""
        coin = torch.rand(batch.captions.shape[:2], device=batch.captions.device) < self.expect
        rollout = captioner.rollout(batch, torch.where(coin, EXPECT, DRAW))
        if not bool(rollout.mask.any()):
            raise ValueError("the batch holds no word to learn from")
        return {name: term(rollout) for name, term in self.terms.items()}
