"""How spread the maps are."""

from jaxtyping import Float
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.objectives.term import CollectedRollouts, Term
from captioner.records import AttentionMode


class Entropy(Term):
    """-weight * the entropy, in nats, of the maps that captions sampled from, divided by all words: a bonus that keeps it exploring.

    Captions that looked by expectation add nothing. Source: Xu et al. 2015, sec. 4.1, the last formula; a departure: a word, not a caption.
    Raises: ArgumentError, weight negative.
    """

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__()
        if weight < 0:
            raise ArgumentError("weight", f"must not be negative, not {weight}")
        self.weight = weight

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        rollout = collected.rollout
        sampled = rollout.mask & (rollout.mode == AttentionMode.SAMPLE)[..., None]
        return -self.weight * (map_entropy(rollout.record.alphas) * sampled).sum() / rollout.mask.sum()


def map_entropy(alphas: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead"]:
    """-sum_i alpha_i log alpha_i, in nats; zero weights count nothing."""
    return -(alphas * alphas.clamp_min(1e-12).log()).sum(-1)
