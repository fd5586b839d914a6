"""What a search finds, and what it searches over."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.records import Step, map_tensors

StepFunction = Callable[[Any, Tensor], Step]
"""step(state, words): a decoder's step with its memory bound. Its log_probs are the search's to overwrite. `step.only(images)`, where there
is one, is the step of those images alone (indices into the images that it has)."""

NORMALISATIONS = ("mean", "wu", "none")
BLOCK = 64
"""Columns that `top_values` reads as one."""


class SearchResult(NamedTuple):
    """Hypotheses of each image; those that keep to every constraint come first, and then the highest score.

    `words` hold neither `<start>` nor `<end>` and are zero after `lengths`. All log-probabilities are the model's own: before any
    temperature, truncation, penalty or constraint.
    """

    words: Int[Tensor, "images beams steps"]
    lengths: Int[Tensor, "images beams"]
    log_probs: Float[Tensor, "images beams steps"]
    end_log_prob: Float[Tensor, "images beams"]
    log_prob: Float[Tensor, "images beams"]
    """Sum of the log-probabilities with `<end>`; -inf where a beam found nothing."""
    score: Float[Tensor, "images beams"]
    """log_prob after length normalisation."""
    record: Any
    """Leaves (images beams steps ...)."""
    satisfied: Bool[Tensor, "images beams"]
    """Whether the caption may end where it does: it is long enough, ends well, and holds every required word."""


def normalised(
    log_prob: Float[Tensor, "*lead"], tokens: Int[Tensor, "*lead"] | int, normalisation: str, alpha: float
) -> Float[Tensor, "*lead"]:
    """log_prob divided by a length; `tokens` counts the words and `<end>`.

    mean: tokens^alpha; wu: ((5 + tokens) / 6)^alpha (Wu et al. 2016, eq. 14); none: 1.
    """
    tokens = torch.as_tensor(tokens, dtype=log_prob.dtype, device=log_prob.device)
    if normalisation == "mean":
        return log_prob / tokens**alpha
    if normalisation == "wu":
        return log_prob / ((5 + tokens) / 6) ** alpha
    return log_prob


def gather_queries(record: Any, index: Int[Tensor, "images beams"]) -> Any:
    """Of each leaf (images queries ...), the queries that `index` names, image by image."""
    images = torch.arange(index.shape[0], device=index.device)[:, None]
    return map_tensors(lambda leaf: leaf[images, index], record)


def ranking(score: Float[Tensor, "images beams"], satisfied: Bool[Tensor, "images beams"]) -> Int[Tensor, "images beams"]:
    """Indices: the satisfied first, then the highest score."""
    order = score.argsort(dim=-1, descending=True, stable=True)
    return order.gather(1, satisfied.gather(1, order).int().argsort(dim=-1, descending=True, stable=True))


def clamp_to_finite(totals: Tensor) -> Tensor:
    """-inf as the least finite number: a caption that has to end is one, even where the model gives `<end>` no chance."""
    return totals.clamp_min(torch.finfo(totals.dtype).min)


def top_values(values: Float[Tensor, "*lead cols"], count: int) -> tuple[Float[Tensor, "*lead count"], Int[Tensor, "*lead count"]]:
    """`values.topk(count)`, quicker where there are many columns: the best lie in the `count` blocks of the highest maxima."""
    cols = values.shape[-1]
    count = min(count, cols)
    blocks = cols // BLOCK
    if count * 4 > blocks:
        return tuple(values.topk(count, -1))  # type: ignore[return-value]
    body = values[..., : blocks * BLOCK].unflatten(-1, (BLOCK, blocks))  # a block is a column: every blocks-th value
    best_blocks = body.amax(-2).topk(count, -1).indices
    inside = body.gather(-1, best_blocks[..., None, :].expand(*best_blocks.shape[:-1], BLOCK, count)).flatten(-2)
    finalists = torch.cat([inside, values[..., blocks * BLOCK :]], -1)
    top, place = finalists.topk(count, -1)
    block_ids = torch.arange(BLOCK, device=values.device)[:, None] * blocks + best_blocks[..., None, :]
    remaining_ids = torch.arange(blocks * BLOCK, cols, device=values.device).expand(*best_blocks.shape[:-1], -1)
    return top, torch.cat([block_ids.flatten(-2), remaining_ids], -1).gather(-1, place)


def device_of(state: Any) -> torch.device:
    """The device of the first tensor of a nested record."""
    while not isinstance(state, Tensor):
        state = next(leaf for leaf in state if leaf is not None)
    return state.device
