"""The interface of every decoder: `start`, `step`, and `rollout`, which is `step` repeated, but fast."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from captioner.errors import ArgumentError
from captioner.records import Record, Regions, Rollout, Step, map_tensors

LOGITS_AT_ONCE = 2**25
"""Logits computed in one piece; more are computed piece by piece, and again in the backward pass."""
MAX_LAYERS = 1000
"""More would be built for hours before anything refused them."""


class Decoder(nn.Module, ABC):
    @abstractmethod
    def start(self, regions: Regions) -> tuple[Any, Any]:
        """The memory of each image, and a state with one query per image.

        The state is a record whose leaves begin (images queries ...), with an AttentionHistory named `history`.
        """

    @abstractmethod
    def step(self, memory: Any, state: Any, words: Int[Tensor, "images queries"]) -> Step:
        """Predict the word after each of `words`."""

    @abstractmethod
    def rollout(self, regions: Regions, captions: Int[Tensor, "images captions words"], mode: Int[Tensor, "images captions"]) -> Rollout:
        """`step` repeated over given captions, all at once where the decoder can. Padding must be id 0 and only at the end."""

    def start_captions(self, regions: Regions, mode: Int[Tensor, "images captions"]) -> tuple[Any, Any]:
        """`start` with one query per caption, each of its mode."""
        memory, state = self.start(regions)
        state = map_tensors(lambda leaf: leaf.expand(-1, mode.shape[1], *leaf.shape[2:]), state)
        return memory, state._replace(history=state.history._replace(mode=mode))


def compute_logits(output: nn.Module, features: Float[Tensor, "*lead hidden"]) -> Float[Tensor, "*lead vocab"]:
    """The last layer, in float32 where it runs in 16 bits: of those a log-probability would keep two or three digits."""
    logits = output(features)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def word_log_probs(
    output: nn.Linear, features: Float[Tensor, "words hidden"], captions: Int[Tensor, "*lead"], mask: Bool[Tensor, "*lead"]
) -> tuple[Float[Tensor, "*lead"], Float[Tensor, "*lead"]]:
    """log p of the words that `mask` marks, and the mean of log p over the vocabulary; zero elsewhere.

    `features` are the inputs of the last layer, one row per marked word.
    """

    def score(features: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        logits = compute_logits(output, features)
        total = logits.logsumexp(-1)
        return logits.gather(-1, words[:, None]).squeeze(-1) - total, logits.mean(-1) - total

    words, size = captions[mask], max(1, LOGITS_AT_ONCE // output.out_features)
    if len(words) <= size:
        log_probs, means = score(features, words)
    else:
        pairs = zip(features.split(size), words.split(size), strict=True)
        pieces = [checkpoint(score, *pair, use_reentrant=False) for pair in pairs]
        log_probs, means = (torch.cat(leaves) for leaves in zip(*pieces, strict=True))
    return scatter(log_probs, mask), scatter(means, mask)


def scatter(values: Float[Tensor, " words"], mask: Bool[Tensor, "*lead"]) -> Float[Tensor, "*lead"]:
    """The values in the places that `mask` marks, and zeros elsewhere."""
    return values.new_zeros(mask.shape).masked_scatter(mask, values)


def mask_record(record: Record, mask: Bool[Tensor, "*lead"]) -> Record:
    """The record with zeros where `mask` is false; its leaves begin with the axes of `mask`."""
    return map_tensors(lambda leaf: leaf * mask.view(*mask.shape, *[1] * (leaf.dim() - mask.dim())), record)


def check_sizes(dropout: float, **sizes: int) -> None:
    """Raise ArgumentError unless each size is a number of units or layers and `dropout` a probability below one."""
    for name, size in sizes.items():
        if size < 1:
            raise ArgumentError(name, f"is a number of {'layers' if name == 'layers' else 'units'} and must be positive, not {size}")
    if sizes.get("layers", 1) > MAX_LAYERS:
        raise ArgumentError("layers", f"is a number of layers and at most {MAX_LAYERS}, not {sizes['layers']}")
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout", f"is a probability in [0, 1), not {dropout}")


def output_layers(hidden_size: int, embedding: nn.Embedding, tie: bool) -> tuple[nn.Module, nn.Linear]:
    """From a state to the logits: one layer, or where `tie` is true a layer to the embedding's size and the embedding itself."""
    words, size = embedding.weight.shape
    output = nn.Linear(size if tie else hidden_size, words)
    nn.init.zeros_(output.bias)
    if not tie:
        return nn.Identity(), output
    output.weight = embedding.weight
    return nn.Linear(hidden_size, size), output


def mean_features(regions: Regions) -> Float[Tensor, "images features"]:
    """The mean annotation vector over the regions that may be looked at."""
    if regions.mask is None:
        return regions.features.mean(1)
    weights = regions.mask.to(regions.features.dtype)
    return (regions.features * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)
