"""Score, locality, distribution and readout composed; the only file that imports all four."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.attention.distribution import Distribution
from captioner.attention.locality import Locality
from captioner.attention.readout import Readout
from captioner.attention.score import Score
from captioner.errors import ArgumentError
from captioner.records import AttentionHistory, AttentionMode, Glimpse, Memory, Regions


class Attention(nn.Module):
    """Choose where to look.

        scores  = score(queries, keys) + locality(queries, cells, history)
        alphas  = distribution(scores)            >= 0, sum to one over regions (with the sentinel, where there is one)
        context = sum_i w_i v_i,  w = readout(alphas)      soft: w = alphas; hard: w is one draw

    `context_size` projects the values once an image, before they are weighed (None: the regions themselves, as in the paper).
    Source: Xu et al. 2015, sec. 3.1.2 and 4; there the score is additive, the locality nothing, and the query the LSTM's state
    one step back (which state is asked is the decoder's choice: Luong's and Lu's decoders ask with the current one).

    Where the score has several heads the values are split as the keys are, each head reads its part, and the contexts are put side by
    side and projected (Vaswani et al. 2017, sec. 3.2.2). All heads share one locality, and the history follows their mean.

    With `sentinel_size` there is one thing more to look at: a vector that the decoder hands over at every step, projected to the size of a
    region and from there on treated as one. Source: Lu et al. 2017, eqs. 11 and 12; departures: there its value is the vector
    itself, and its score has a matrix of its own in the place of the regions'. Masks and localities do not act on it.
    Raises: ValueError, a size not positive, `context_size` (or `features`) that the heads do not divide.
    """

    def __init__(
        self,
        score: Score,
        locality: Locality,
        distribution: Distribution,
        readout: Readout,
        features: int,
        context_size: int | None = None,
        sentinel_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, size in {"features": features, "context_size": context_size, "sentinel_size": sentinel_size}.items():
            if size is not None and size < 1:
                raise ArgumentError(name, f"is a number of units and must be positive, not {size}")
        self.context_size, self.sentinel_size = context_size or features, sentinel_size
        if self.context_size % score.heads:
            name = "context_size" if context_size else "features"
            raise ArgumentError(name, f"is split between {score.heads} heads, which must divide it; {self.context_size} they do not")
        self.score = score
        self.locality = locality
        self.distribution = distribution
        self.readout = readout
        self.value = nn.Linear(features, context_size) if context_size else nn.Identity()
        self.output = nn.Linear(self.context_size, self.context_size) if score.heads > 1 else nn.Identity()
        self.sentinel = nn.Linear(sentinel_size, features) if sentinel_size else None

    def remember(self, regions: Regions) -> Memory:
        """What is computed once an image. Raises: ValueError, an image without a region that may be looked at."""
        if regions.mask is not None and not bool(regions.mask.any(-1).all()):
            raise ValueError("an image's mask allows no region: there is nothing to look at")
        return Memory(self.score.keys(regions.features), self.value(regions.features), regions.cells, regions.mask)

    def begin(self, memory: Memory, queries: int) -> AttentionHistory:
        """The history of queries that have not looked yet."""
        images, regions, _ = memory.values.shape
        nothing = memory.values.new_zeros(images, queries, regions)
        step = torch.zeros(images, queries, dtype=torch.long, device=nothing.device)
        return AttentionHistory(nothing, nothing, step, torch.full_like(step, AttentionMode.SAMPLE))

    def forward(
        self,
        queries: Float[Tensor, "images queries hidden"],
        memory: Memory,
        history: AttentionHistory,
        sentinel: Float[Tensor, "images queries state"] | None = None,
    ) -> Glimpse:
        if (sentinel is None) != (self.sentinel is None):
            raise ValueError(f"sentinel_size is {self.sentinel_size}, and a sentinel was {'not ' if sentinel is None else ''}handed over")
        scores = self.score(queries, memory.keys) + self.locality(queries, memory.cells, history)[:, :, None]
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask[:, None, None], -torch.inf)
        besides = None if self.sentinel is None else self.sentinel(sentinel)
        if besides is not None:
            scores = torch.cat([scores, self.answer(queries, besides)], -1)
        alphas = self.distribution(scores)
        weights, log_prob = self.readout(alphas, history.mode)
        seen, unseen = alphas.tensor_split([memory.cells.shape[0]], -1)
        weights, shares = weights.tensor_split([memory.cells.shape[0]], -1)
        context = blend(weights, memory.values)
        if besides is not None:
            context = context + (shares * self.value(besides).unflatten(-1, (self.score.heads, -1))).flatten(2)
        return Glimpse(
            self.output(context),
            seen.mean(2),
            seen if self.score.heads > 1 else None,
            unseen.mean(2).squeeze(-1) if besides is not None else None,
            log_prob,
        )

    def answer(
        self, queries: Float[Tensor, "images queries hidden"], besides: Float[Tensor, "images queries features"]
    ) -> Float[Tensor, "images queries heads 1"]:
        """The score of each query with something of its own, which is of a region's size."""
        keys = self.score.keys(besides.flatten(0, 1)[:, None])
        return self.score(queries.flatten(0, 1)[:, None], keys).view(*queries.shape[:2], self.score.heads, 1)

    def follow(self, history: AttentionHistory, glimpse: Glimpse) -> AttentionHistory:
        """The history after a look."""
        return AttentionHistory(glimpse.alphas, history.cumulative + glimpse.alphas, history.step + 1, history.mode)


def blend(
    weights: Float[Tensor, "images queries heads regions"], values: Float[Tensor, "images regions features"]
) -> Float[Tensor, "images queries features"]:
    """The weighted sum of values, each head its part of them, side by side; with one head nothing is copied."""
    parts = values.unflatten(-1, (weights.shape[2], -1)).transpose(1, 2)
    return (weights.to(values.dtype).transpose(1, 2) @ parts).transpose(1, 2).flatten(2)
