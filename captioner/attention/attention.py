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

    The values v_i are the regions a_i themselves, as in the paper, or where `context_size` is a
    number their projections to that size, computed once per image.
    Source: Xu et al. 2015, sec. 3.1.2 and 4. There the score is additive, there is no locality, and
    the query is the LSTM's state one step back. The decoder chooses the query: the decoders of Luong
    and of Lu use the current state.

    Where the score has several heads, the values are split as the keys are, each head weighs its
    part, and the contexts are joined and projected (Vaswani et al. 2017, sec. 3.2.2). All heads have
    the same locality, and the history holds the mean of their alphas.

    With `sentinel_size` the decoder gives a vector of that size, the sentinel, at every step. It is
    projected to the size of a region and treated as one more region; masks and localities do not
    act on it. Source: Lu et al. 2017, eqs. 11 and 12; departures: there its value is the vector
    itself, and its score has its own matrix in the place of the regions' matrix.
    Raises: ArgumentError, a size not positive, `context_size` (or `features`) that the heads do not divide.
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

    def build_memory(self, regions: Regions) -> Memory:
        """Keys and values, computed once per image. Raises: ValueError, an image whose mask allows no region."""
        if regions.mask is not None and not bool(regions.mask.any(-1).all()):
            raise ValueError("an image's mask allows no region: there is nothing to look at")
        return Memory(self.score.keys(regions.features), self.value(regions.features), regions.cells, regions.mask)

    def initial_history(self, memory: Memory, queries: int) -> AttentionHistory:
        """The history of queries that have not looked yet."""
        images, regions, _ = memory.values.shape
        alphas = memory.values.new_zeros(images, queries, regions)
        step = torch.zeros(images, queries, dtype=torch.long, device=alphas.device)
        return AttentionHistory(alphas, alphas, step, torch.full_like(step, AttentionMode.SAMPLE))

    def update_history(self, history: AttentionHistory, glimpse: Glimpse) -> AttentionHistory:
        """The history after one look more."""
        return AttentionHistory(glimpse.alphas, history.cumulative + glimpse.alphas, history.step + 1, history.mode)

    def forward(
        self,
        queries: Float[Tensor, "images queries hidden"],
        memory: Memory,
        history: AttentionHistory,
        sentinel: Float[Tensor, "images queries state"] | None = None,
    ) -> Glimpse:
        if (sentinel is None) != (self.sentinel is None):
            raise ArgumentError("sentinel_size", f"is {self.sentinel_size}, and a sentinel was {'not ' if sentinel is None else ''}given")
        # (images queries heads regions)
        scores = self.score(queries, memory.keys) + self.locality(queries, memory.cells, history)[:, :, None]
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask[:, None, None], -torch.inf)
        if self.sentinel is not None:
            sentinel = self.sentinel(sentinel)  # (images queries features)
            scores = torch.cat([scores, self.sentinel_scores(queries, sentinel)], -1)  # (images queries heads regions+1)
        alphas = self.distribution(scores)
        weights, log_prob = self.readout(alphas, history.mode)
        regions = len(memory.cells)
        context = weighted_sums(weights[..., :regions], memory.values)
        if sentinel is not None:
            value = self.value(sentinel).unflatten(-1, (self.score.heads, -1))  # (images queries heads units)
            context = context + (weights[..., regions:] * value).flatten(2)
        head_alphas, sentinel_alpha = alphas[..., :regions], alphas[..., regions:]
        return Glimpse(
            self.output(context),
            head_alphas.mean(2),
            head_alphas if self.score.heads > 1 else None,
            sentinel_alpha.mean(2).squeeze(-1) if sentinel is not None else None,
            log_prob,
        )

    def sentinel_scores(
        self, queries: Float[Tensor, "images queries hidden"], sentinel: Float[Tensor, "images queries features"]
    ) -> Float[Tensor, "images queries heads 1"]:
        """The score of each query with its sentinel, as of an image that has this one region."""
        keys = self.score.keys(sentinel.flatten(0, 1)[:, None])  # (images*queries 1 keys)
        return self.score(queries.flatten(0, 1)[:, None], keys).view(*queries.shape[:2], self.score.heads, 1)


def weighted_sums(
    weights: Float[Tensor, "images queries heads regions"], values: Float[Tensor, "images regions features"]
) -> Float[Tensor, "images queries features"]:
    """The sum of weighted values, each head on its part of them; with one head nothing is copied."""
    parts = values.unflatten(-1, (weights.shape[2], -1)).transpose(1, 2)  # (images heads regions units)
    return (weights.to(values.dtype).transpose(1, 2) @ parts).transpose(1, 2).flatten(2)
