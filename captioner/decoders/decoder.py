"""The one way into every decoder: `start`, `step`, and `rollout`, the same thing fast."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captioner.errors import ArgumentError
from captioner.records import Regions, Rollout, Step

LOGITS_AT_ONCE = 2**25
"""Logits made in one piece; beyond that a piece at a time, made again in the backward pass."""


class Decoder(nn.Module, ABC):
    @abstractmethod
    def start(self, regions: Regions) -> tuple[Any, Any]:
        """The memory of each image, and a state with one query per image.

        The state is a record whose leaves begin (images queries ...), with an AttentionHistory named `history`.
        """

    @abstractmethod
    def step(self, memory: Any, state: Any, words: Int[Tensor, "images queries"]) -> Step:
        """Say one word more after `words`."""

    @abstractmethod
    def rollout(
        self,
        regions: Regions,
        captions: Int[Tensor, "images captions words"],
        mode: Int[Tensor, "images captions"],
    ) -> Rollout:
        """`step` repeated over given captions, all at once where the decoder can. Padding must be id 0 and only at the end."""


def logits_of(output: nn.Module, outputs: Float[Tensor, "*lead hidden"]) -> Float[Tensor, "*lead vocab"]:
    """The last layer, in float32 where it runs in 16 bits: of those a log-probability would keep two or three digits."""
    logits = output(outputs)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def said(
    output: nn.Module, outputs: Float[Tensor, "spoken hidden"], words: Int[Tensor, " spoken"], vocabulary_size: int
) -> tuple[Float[Tensor, " spoken"], Float[Tensor, " spoken"]]:
    """log p of `words` and the mean of log p over the vocabulary, from the outputs before the last layer."""

    def piece(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits_of(output, rows)
        total = logits.logsumexp(-1)
        return logits.gather(-1, ids[:, None]).squeeze(-1) - total, logits.mean(-1) - total

    size = max(1, LOGITS_AT_ONCE // vocabulary_size)
    if outputs.shape[0] <= size:
        return piece(outputs, words)
    pairs = zip(outputs.split(size), words.split(size), strict=True)
    pieces = [checkpoint(piece, rows, ids, use_reentrant=False) for rows, ids in pairs]
    log_probs, means = zip(*pieces, strict=True)
    return torch.cat(log_probs), torch.cat(means)


DEEPEST = 1000
"""Layers: more would be built for hours before anything refused them."""


def check_choices(dropout: float, **sizes: int) -> None:
    """Raise ValueError, by name, unless each size is a number of units or layers and `dropout` a probability below one."""
    for name, size in sizes.items():
        if size < 1:
            raise ArgumentError(name, f"is a number of {'layers' if name == 'layers' else 'units'} and must be positive, not {size}")
    if sizes.get("layers", 1) > DEEPEST:
        raise ArgumentError("layers", f"is a number of layers and at most {DEEPEST}, not {sizes['layers']}")
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout", f"is a probability in [0, 1), not {dropout}")


def last_layers(hidden_size: int, embedding: nn.Embedding, tie: bool) -> tuple[nn.Module, nn.Linear]:
    """From a state to the logits: one layer, or where `tie` is true one to the embedding's size and the embedding itself."""
    words, size = embedding.weight.shape
    output = nn.Linear(size if tie else hidden_size, words)
    nn.init.zeros_(output.bias)
    if not tie:
        return nn.Identity(), output
    output.weight = embedding.weight
    return nn.Linear(hidden_size, size), output


def mean_region(regions: Regions) -> Float[Tensor, "images features"]:
    """The mean annotation vector over the regions that may be looked at."""
    if regions.mask is None:
        return regions.features.mean(1)
    weights = regions.mask.to(regions.features.dtype)
    return (regions.features * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
