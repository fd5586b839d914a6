"""How spread the maps are."""

from jaxtyping import Float
from torch import Tensor, nn

from captioner.records import DRAW, Rollout


class Entropy(nn.Module):
    """-weight * mean entropy, in nats a word, of the maps that captions drew from: a bonus that keeps hard attention exploring.

    Captions that looked by expectation or at the peak do not count. Source: Xu et al. 2015, sec. 4.1, eq. 12. Raises: ValueError, weight
    negative.
    """

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must not be negative, not {weight}")
        self.weight = weight

    def forward(self, rollout: Rollout) -> Float[Tensor, ""]:
        drew = rollout.mask & (rollout.mode == DRAW)[..., None]
        return -self.weight * (map_entropy(rollout.trace.alphas) * drew).sum() / drew.sum().clamp_min(1)


def map_entropy(alphas: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead"]:
    """-sum_i alpha_i log alpha_i, in nats; zero weights count nothing."""
    return -(alphas * alphas.clamp_min(1e-12).log()).sum(-1)
