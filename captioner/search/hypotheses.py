"""What a search finds, and what it searches over."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.records import Step, map_tensors

Say = Callable[[Any, Tensor], Step]
"""step(state, words): a decoder's step with its memory held."""

NORMALISATIONS = ("mean", "wu", "none")


class Found(NamedTuple):
    """Hypotheses of each image, best first; `words` hold neither `<start>` nor `<end>` and are zero after `lengths`."""

    words: Int[Tensor, "images beams steps"]
    lengths: Int[Tensor, "images beams"]
    log_probs: Float[Tensor, "images beams steps"]
    end_log_prob: Float[Tensor, "images beams"]
    log_prob: Float[Tensor, "images beams"]
    """Sum of the log-probabilities with `<end>`; -inf where a beam found nothing."""
    score: Float[Tensor, "images beams"]
    """log_prob after length normalisation."""
    trace: Any
    """Leaves (images beams steps ...)."""


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


def pick(record: Any, index: Int[Tensor, "images beams"]) -> Any:
    """Of each leaf (images queries ...), the queries that `index` names, image by image."""
    images = torch.arange(index.shape[0], device=index.device)[:, None]
    return map_tensors(lambda leaf: leaf[images, index], record)
