"""What training asks for: rollouts of a captioner, and named terms whose sum is minimised."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.objectives.term import Given, Term
from captioner.records import DRAW, EXPECT, PEAK, Batch, Regions, Rollout, Shares


@runtime_checkable
class Rolls(Protocol):
    """A captioner, as far as an objective knows it: what sees, and what says."""

    @property
    def decoder(self) -> "Says": ...

    def encode(self, images: Float[Tensor, "images 3 height width"] | Regions) -> Regions: ...


@runtime_checkable
class Says(Protocol):
    def rollout(
        self, regions: Regions, captions: Int[Tensor, "images captions words"], mode: Int[Tensor, "images captions"]
    ) -> Rollout: ...


class Objective(nn.Module):
    """Terms over one rollout of the batch's captions, each caption `draws` times over; the encoder runs once.

    `expect` is the share of captions that look by expectation: the coin of Xu et al. 2015, sec. 4.1, where it falls once for a batch and
    here, a departure, for each caption (all its draws alike). It decides nothing where the readout is an expectation. In the first
    `expect_first` training batches (or groups of batches, where gradients are accumulated) every caption looks by expectation, a
    departure too: while the model knows neither regions nor words, a draw shows it ground more often than objects, and its reward tells
    of words and not of looks.
    Cost: the decoder runs `draws` rows a caption (one in the first batches), those by expectation among them; one more without gradient
    for each caption that drew where a term needs peaks. Raises: ValueError, no terms, a share outside [0, 1], fewer draws than a term
    needs, or expect_first negative.
    """

    batches: Tensor

    def __init__(self, terms: Mapping[str, Term], expect: float = 0.0, draws: int = 1, expect_first: int = 0) -> None:
        super().__init__()
        if not terms:
            raise ValueError("an objective needs at least one term")
        if not 0 <= expect <= 1:
            raise ValueError(f"expect is a share of captions in [0, 1], not {expect}")
        least = max(term.least_draws for term in terms.values())
        if draws < least:
            raise ValueError(f"draws is a number of rows a caption and at least {least} for these terms, not {draws}")
        if expect_first < 0:
            raise ValueError(f"expect_first is a number of batches and not negative, not {expect_first}")
        self.terms = nn.ModuleDict(dict(terms))
        self.expect, self.draws, self.expect_first = expect, draws, expect_first
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.needs_peaks = any(term.needs_peaks for term in terms.values())
        self.needs_aims = any(term.needs_aims for term in terms.values())

    def forward(self, captioner: Rolls, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Each term, by name. A batch without a single word is a ValueError."""
        return self.judge(self.ask(captioner, batch))

    def ask(self, captioner: Rolls, batch: Batch) -> Given:
        """The rollouts that the terms need."""
        regions = captioner.encode(batch.images)
        first = self.training and self.first
        self.batches += self.training and (batch.shares is None or batch.shares.last)
        draws, share = (1, 1.0) if first else (self.draws, self.expect)
        coin = torch.rand(batch.captions.shape[:2], device=batch.captions.device) < share
        mode = torch.where(coin, EXPECT, DRAW).repeat_interleave(draws, 1)
        rollout = captioner.decoder.rollout(regions, batch.captions.repeat_interleave(draws, 1), mode)
        if not bool(rollout.mask.any()):
            raise ValueError("the batch holds no word to learn from")
        peaks = self.peaks(captioner.decoder, regions, batch.captions * ~coin[..., None])
        return Given(rollout, draws, peaks, batch.aims, regions.cells)

    @property
    def first(self) -> bool:
        """Whether the next training batch is one of those that all look by expectation."""
        return int(self.batches) < self.expect_first

    @torch.no_grad()
    def peaks(
        self, decoder: Says, regions: Regions, captions: Int[Tensor, "images captions words"]
    ) -> Float[Tensor, "images captions steps"] | None:
        """After the rollout with gradient: under autocast, weights that are first cast without one would keep none."""
        if not self.needs_peaks or not bool(captions.any()):
            return None
        return decoder.rollout(regions, captions, torch.full_like(captions[..., 0], PEAK)).log_probs

    def judge(self, given: Given) -> dict[str, Float[Tensor, ""]]:
        return {name: term(given) for name, term in self.terms.items()}

    def shared(self, terms: Mapping[str, Float[Tensor, ""]], shares: Shares) -> Float[Tensor, ""]:
        """What a batch adds to the objective of the group that its gradients are accumulated with."""
        weights = {name: getattr(shares, str(term.mean_over)) for name, term in self.terms.items()}
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    def measure(self, given: Given) -> dict[str, Float[Tensor, ""]]:
        """What the terms have to tell beside their values; to be called before `judge`, which may move averages."""
        found: dict[str, Float[Tensor, ""]] = {}
        for term in self.terms.values():
            assert isinstance(term, Term)
            found |= term.measure(given)
        return found
