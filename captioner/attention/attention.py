"""Score, locality, distribution and readout composed; the only file that imports all four."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.attention.distribution import Distribution
from captioner.attention.locality import Locality
from captioner.attention.readout import Readout
from captioner.attention.score import Score
from captioner.records import DRAW, Glimpse, Memory, Regions, Trail


class Attention(nn.Module):
    """Choose where to look.

        scores  = score(queries, keys) + locality(queries, cells, trail)
        alphas  = distribution(scores)            >= 0, sum to one over regions (with the sentinel, where there is one)
        glimpse = readout(alphas, values)         soft: expectation; hard: one draw

    `context_size` projects the values once an image, before they are weighed (None: the regions themselves, as in the paper).
    Source: Xu et al. 2015, sec. 3.1.2 and 4; there the score is additive, the locality nothing, and the query the LSTM's state
    one step back (which state is asked is the decoder's choice: Luong's and Lu's decoders ask with the current one).
    """

    def __init__(
        self, score: Score, locality: Locality, distribution: Distribution, readout: Readout, features: int, context_size: int | None = None
    ) -> None:
        super().__init__()
        self.score = score
        self.locality = locality
        self.distribution = distribution
        self.readout = readout
        self.value = nn.Linear(features, context_size) if context_size else nn.Identity()
        self.context_size = context_size or features

    def remember(self, regions: Regions) -> Memory:
        """What is computed once an image. Raises: ValueError, an image without a region that may be looked at."""
        if regions.mask is not None and not bool(regions.mask.any(-1).all()):
            raise ValueError("an image's mask allows no region: there is nothing to look at")
        return Memory(self.score.keys(regions.features), self.value(regions.features), regions.cells, regions.mask)

    def begin(self, memory: Memory, queries: int) -> Trail:
        """The trail of queries that have not looked yet."""
        images, regions, _ = memory.values.shape
        nothing = memory.values.new_zeros(images, queries, regions)
        step = torch.zeros(images, queries, dtype=torch.long, device=nothing.device)
        return Trail(nothing, nothing, step, torch.full_like(step, DRAW))

    def forward(
        self,
        queries: Float[Tensor, "images queries hidden"],
        memory: Memory,
        trail: Trail,
    ) -> Glimpse:
        scores = self.score(queries, memory.keys) + self.locality(queries, memory.cells, trail)
        if memory.mask is not None:
            scores = scores.masked_fill(~memory.mask[:, None], -torch.inf)
        alphas = self.distribution(scores)
        context, log_prob = self.readout(alphas, memory.values, trail.mode)
        return Glimpse(context, alphas, None, None, log_prob)

    def follow(self, trail: Trail, glimpse: Glimpse) -> Trail:
        """The trail after a look."""
        return Trail(glimpse.alphas, trail.seen + glimpse.alphas, trail.step + 1, trail.mode)
