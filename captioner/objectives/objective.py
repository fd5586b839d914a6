"""What training minimises: the sum of named terms over rollouts of a captioner."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.objectives.drawing import draw_captions
from captioner.objectives.term import CollectedRollouts, DrawnCaptions, Term
from captioner.records import AccumulationShares, AttentionMode, Batch, Regions, Rollout


@runtime_checkable
class CaptionerProtocol(Protocol):
    """The part of a captioner that an objective uses."""

    @property
    def decoder(self) -> "DecoderProtocol": ...

    def encode(self, images: Float[Tensor, "images 3 height width"] | Regions) -> Regions: ...


@runtime_checkable
class DecoderProtocol(Protocol):
    def rollout(
        self, regions: Regions, captions: Int[Tensor, "images captions words"], mode: Int[Tensor, "images captions"]
    ) -> Rollout: ...


class Objective(nn.Module):
    """The sum of terms over one rollout of the batch's captions, `samples` rows per caption; the encoder runs once.

    `expectation_probability` is the share of captions that look by expectation: the coin of Xu et al.
    2015, sec. 4.1, which is tossed once per batch there and, a departure, once per caption here (for
    all its samples). It changes nothing where the readout is an expectation. In the first
    `expectation_batches` training batches (or groups of batches, where gradients are accumulated)
    every caption looks by expectation, a departure too: while the model knows neither regions nor
    words, a sample shows it ground more often than objects, and its reward tells of words and not of looks.
    Cost: the decoder runs `samples` rows per caption (one in the first batches), also for those by
    expectation; and one row more without gradient for each sampled caption where a term needs argmax_log_probs.
    Raises: ArgumentError, no terms, a share outside [0, 1], fewer samples than a term needs, or expectation_batches negative.
    """

    batches: Tensor

    def __init__(
        self, terms: Mapping[str, Term], expectation_probability: float = 0.0, samples: int = 1, expectation_batches: int = 0
    ) -> None:
        super().__init__()
        if not terms:
            raise ArgumentError("terms", "must hold at least one term")
        if not 0 <= expectation_probability <= 1:
            raise ArgumentError("expectation_probability", f"is a share of captions in [0, 1], not {expectation_probability}")
        least = max(term.minimum_samples for term in terms.values())
        if samples < least:
            raise ArgumentError("samples", f"is a number of rows per caption and at least {least} for these terms, not {samples}")
        if expectation_batches < 0:
            raise ArgumentError("expectation_batches", f"is a number of batches and not negative, not {expectation_batches}")
        self.terms = nn.ModuleDict(dict(terms))
        self.expectation_probability, self.samples, self.expectation_batches = expectation_probability, samples, expectation_batches
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.needs_argmax = any(term.needs_argmax for term in terms.values())
        self.needs_boxes = any(term.needs_boxes for term in terms.values())
        self.needs_references = any(term.drawn_captions for term in terms.values())

    def forward(self, captioner: CaptionerProtocol, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Each term, by name. A batch without a single word is a ValueError."""
        return self.losses(self.collect(captioner, batch))

    def collect(self, captioner: CaptionerProtocol, batch: Batch) -> CollectedRollouts:
        """The rollouts that the terms need."""
        regions = captioner.encode(batch.images)
        first = self.training and self.in_first_batches
        self.batches += self.training and (batch.accumulation_shares is None or batch.accumulation_shares.last)
        samples, probability = (1, 1.0) if first else (self.samples, self.expectation_probability)
        coin = torch.rand(batch.captions.shape[:2], device=batch.captions.device) < probability
        mode = torch.where(coin, AttentionMode.EXPECTATION, AttentionMode.SAMPLE).repeat_interleave(samples, 1)
        rollout = captioner.decoder.rollout(regions, batch.captions.repeat_interleave(samples, 1), mode)
        if not bool(rollout.mask.any()):
            raise ValueError("the batch holds no word to learn from")
        argmax_log_probs = self.argmax_log_probs(captioner.decoder, regions, batch.captions * ~coin[..., None])
        drawn = self.draw(captioner.decoder, regions, batch)
        return CollectedRollouts(rollout, samples, argmax_log_probs, batch.box_targets, regions.cells, drawn)

    def draw(self, decoder: Any, regions: Regions, batch: Batch) -> DrawnCaptions | None:
        """Captions that the model draws now, for the terms that need some; the most that one of them needs."""
        drawing = [term for term in self.terms.values() if term.drawn_captions]
        if not drawing:
            return None
        number, longest = (max(int(getattr(term, name)) for term in drawing) for name in ("drawn_captions", "max_length"))
        captions = draw_captions(decoder, regions, number, longest)
        greedy = any(term.needs_greedy for term in drawing)
        mode = torch.full_like(captions[..., 0], AttentionMode.EXPECTATION)
        rollout = decoder.rollout(regions, captions, mode)
        found = draw_captions(decoder, regions, 1, longest, greedy=True) if greedy else None
        return DrawnCaptions(captions, rollout, batch.indices, found)

    def prepare(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """Let every term count the captions of all training images, once, before the first step."""
        for term in self.terms.values():
            term.prepare(references)  # type: ignore[operator]

    @property
    def in_first_batches(self) -> bool:
        """Whether every caption of the next training batch looks by expectation."""
        return int(self.batches) < self.expectation_batches

    @torch.no_grad()
    def argmax_log_probs(
        self, decoder: DecoderProtocol, regions: Regions, captions: Int[Tensor, "images captions words"]
    ) -> Float[Tensor, "images captions steps"] | None:
        """To be called after the rollout with gradient: under autocast, weights that are first cast without one would keep none."""
        if not self.needs_argmax or not bool(captions.any()):
            return None
        return decoder.rollout(regions, captions, torch.full_like(captions[..., 0], AttentionMode.ARGMAX)).log_probs

    def losses(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        return {name: term(collected) for name, term in self.terms.items()}

    def accumulated_loss(self, terms: Mapping[str, Float[Tensor, ""]], shares: AccumulationShares) -> Float[Tensor, ""]:
        """What a batch adds to the loss of the group of batches whose gradients are accumulated."""
        weights = {name: getattr(shares, str(term.mean_over)) for name, term in self.terms.items()}
        return torch.stack([weights[name] * value for name, value in terms.items()]).sum()

    def statistics(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        """The statistics of all terms; to be called before `losses`, which may move averages."""
        statistics: dict[str, Float[Tensor, ""]] = {}
        for term in self.terms.values():
            statistics |= term.statistics(collected)  # type: ignore[operator]
        return statistics
