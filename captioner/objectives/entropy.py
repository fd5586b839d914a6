"""How spread the maps are."""

from jaxtyping import Float
from torch import Tensor

from captioner.objectives.term import CollectedRollouts, Term
from captioner.records import AttentionMode


class Entropy(Term):
    """-weight * the entropy, in nats, of the maps of sampled captions, divided by all words: a bonus that keeps sampling wide.

    Captions that looked by expectation add nothing. Source: Xu et al. 2015, sec. 4.1, the last
    formula; a departure: per word, not per caption. Raises: ArgumentError, weight negative.
    """

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__(weight)

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        rollout = collected.rollout
        sampled = rollout.mask & (rollout.mode == AttentionMode.SAMPLE)[..., None]
        return -self.weight * (map_entropy(rollout.record.alphas) * sampled).sum() / rollout.mask.sum()


def map_entropy(alphas: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead"]:
    """-sum_i alpha_i log alpha_i, in nats; zero weights count nothing."""
    return -(alphas * alphas.clamp_min(1e-12).log()).sum(-1)
