"""What travels between the rooms: named tuples of tensors, no behaviour beyond checks and views.

Axis words: images queries captions regions features keys hidden heads steps vocab beams rows cols height width.
`queries` are captions in training, beams in search, time steps in a parallel decoder.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.errors import ArgumentError


class AttentionMode(IntEnum):
    """How a query looks: SAMPLE as its readout does, EXPECTATION by expectation, ARGMAX at the region of the highest alpha."""

    SAMPLE = 0
    EXPECTATION = 1
    ARGMAX = 2


class Regions(NamedTuple):
    """An encoder's output: the paper's annotation vectors a_i and where they lie on the grid."""

    features: Float[Tensor, "images regions features"]
    cells: Float[Tensor, "regions 2"]
    """(row, column) of each region, in grid cells, counted from zero."""
    mask: Bool[Tensor, "images regions"] | None = None
    """True where a region may be looked at; None where all may."""

    def check(self) -> "Regions":
        """Raise ValueError unless the sizes agree; return self."""
        images, regions, _ = self.features.shape
        if tuple(self.cells.shape) != (regions, 2):
            raise ArgumentError("cells", f"{tuple(self.cells.shape)} do not describe {regions} regions as (row, column)")
        if self.mask is not None and tuple(self.mask.shape) != (images, regions):
            raise ArgumentError("mask", f"{tuple(self.mask.shape)} does not fit {images} images x {regions} regions")
        return self


class Memory(NamedTuple):
    """What belongs to an image: computed once per image, never repeated for its queries."""

    keys: Float[Tensor, "images regions keys"]
    values: Float[Tensor, "images regions features"]
    cells: Float[Tensor, "regions 2"]
    mask: Bool[Tensor, "images regions"] | None = None


class AttentionHistory(NamedTuple):
    """What belongs to a query: where it has looked so far."""

    alphas: Float[Tensor, "images queries regions"]
    """The weights of the last look; zeros before the first."""
    cumulative: Float[Tensor, "images queries regions"]
    """The sum of the weights of all looks so far."""
    step: Int[Tensor, "images queries"]
    """The number of looks so far."""
    mode: Int[Tensor, "images queries"]
    """An AttentionMode per query: the paper's coin and the self-critical baseline alike."""


class Glimpse(NamedTuple):
    """What one look gives; alphas are the distribution before any draw."""

    context: Float[Tensor, "images queries features"]
    alphas: Float[Tensor, "images queries regions"]
    head_alphas: Float[Tensor, "images queries heads regions"] | None
    sentinel: Float[Tensor, "images queries"] | None
    log_prob: Float[Tensor, "images queries"]
    """Of what was drawn; zero for an expectation, so that the REINFORCE term vanishes by itself."""


class StepRecord(NamedTuple):
    """What a step leaves for the reader; search backtracks it, sheets and arrays show it.

    From a step the leaves begin (images queries ...); from a rollout (images captions steps ...), zero at padding.
    """

    alphas: Float[Tensor, "*lead regions"]
    log_prob: Float[Tensor, "*lead"]
    gate: Float[Tensor, "*lead"] | None = None
    """The paper's beta, sec. 4.2.1 (its mean where the gate is a vector)."""
    sentinel: Float[Tensor, "*lead"] | None = None
    head_alphas: Float[Tensor, "*lead heads regions"] | None = None


class Step(NamedTuple):
    log_probs: Float[Tensor, "images queries vocab"]
    state: Any
    """A record whose leaves all begin (images queries ...)."""
    record: Any


class Rollout(NamedTuple):
    """The results of given captions in a decoder: entry t belongs to the prediction of `captions[..., t + 1]`."""

    log_probs: Float[Tensor, "images captions steps"]
    """log p of each given word (`<end>` included); zero at padding."""
    mean_log_probs: Float[Tensor, "images captions steps"]
    """The mean of log p over the vocabulary, for label smoothing; zero at padding."""
    mask: Bool[Tensor, "images captions steps"]
    """True where a word was predicted."""
    mode: Int[Tensor, "images captions"]
    record: Any


class BoxTargets(NamedTuple):
    """Where words that name objects should look, one row per box; a word with several boxes may look into any of them."""

    words: Int[Tensor, "boxes 3"]
    """(image, caption, step) of the word: step t is of `captions[..., t + 1]`, and of a rollout's entry t."""
    boxes: Float[Tensor, "boxes 4"]
    """(left, top, right, bottom) as shares of what the model sees; part of it may lie outside."""


class AccumulationShares(NamedTuple):
    """What part of a group of batches, whose gradients are accumulated, is in this batch: shares in [0, 1] of the group's counts."""

    words: float
    captions: float
    box_targets: float
    """Words with a box that the model sees."""
    last: bool
    """Whether this batch is the last of its group, which the optimizer's step follows."""


class Batch(NamedTuple):
    """`captions` hold `<start> w1 ... wn <end> <pad> ...`; a row of `<pad>` alone is no caption."""

    images: Float[Tensor, "images 3 height width"] | Regions
    """Prepared pixels, or regions computed beforehand (by frozen trunks)."""
    captions: Int[Tensor, "images captions words"]
    indices: Int[Tensor, " images"]
    """The positions of the images in their data set; their ids have any size, or are strings, and stay there."""
    box_targets: BoxTargets | None = None
    """None where no objective needs them."""
    accumulation_shares: AccumulationShares | None = None
    """None where a step of the optimizer follows every batch."""


Record = TypeVar("Record")


def map_tensors(function: Callable[[Tensor], Tensor], record: Record) -> Record:
    """Apply `function` to every tensor of a record, or of a list of records, nested as deep as it likes; None stays None."""
    return _walk(function, record, all_cells=True)


def select_images(record: Record, images: Int[Tensor, " chosen"] | slice) -> Record:
    """The same (nested) record of these images only; `cells` belong to all images and stay as they are."""
    return _walk(lambda leaf: leaf[images], record, all_cells=False)


def _walk(function: Callable[[Tensor], Tensor], record: Any, all_cells: bool) -> Any:
    if record is None:
        return None
    if isinstance(record, Tensor):
        return function(record)
    if not isinstance(record, tuple | list):
        raise TypeError(f"a record holds tensors, records and None, not {type(record).__name__}")
    kept = record.cells if isinstance(record, Memory | Regions) and not all_cells else None
    leaves: list[Any] = [leaf if leaf is kept else _walk(function, leaf, all_cells) for leaf in record]
    return type(record)(*leaves) if hasattr(record, "_fields") else type(record)(leaves)


def stack_records(records: list[Record], dim: int) -> Record:
    """Stack records of the same kind, leaf by leaf, along a new axis `dim`."""
    first = records[0]
    if first is None:
        return None  # type: ignore[return-value]
    if isinstance(first, Tensor):
        return torch.stack(records, dim)  # type: ignore[arg-type, return-value]
    leaves = [stack_records(list(leaf), dim) for leaf in zip(*records, strict=True)]  # type: ignore[call-overload]
    return type(first)(*leaves)  # type: ignore[return-value]


def grid_size(cells: Float[Tensor, "regions 2"]) -> tuple[int, int]:
    """(rows, cols) of the grid that `cells` lie on."""
    rows, cols = (cells.amax(0) + 1).round().int().tolist()
    return rows, cols
