"""Learn where to look from how well the caption was said."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.objectives.baseline import Baseline
from captioner.objectives.term import Given, Term
from captioner.records import DRAW

Outcomes = tuple[
    Float[Tensor, "images captions draws words"], Float[Tensor, "images captions draws words"], Bool[Tensor, "images captions draws"]
]


class Reinforce(Term):
    """-weight * sum over captions that drew of (log p(caption | draws) - L b) * log p(draws), divided by the words of all captions.

    The reward is the log-likelihood of a caption of L words given its draws, and carries no gradient here; b is the baseline's guess at
    it, a word. With `to_go` a draw answers only for the words from its own on, L and b being of those: no draw changes the words before
    it, so the expectation is the same and the noise less; a departure. With weight 1 this and the likelihood of the same rollout are
    together the gradient of the expected log-likelihood a word, over draws and coin.
    Source: Xu et al. 2015, sec. 4.1 (eqs. 10 to 12); to_go: Sutton et al. 2000, theorem 1. Raises: ValueError, weight negative.
    """

    def __init__(self, baseline: Baseline, weight: float = 1.0, to_go: bool = False) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must not be negative, not {weight}")
        self.weight, self.baseline, self.to_go = weight, baseline, to_go
        self.needs_peaks, self.least_draws = baseline.needs_peaks, baseline.least_draws

    def forward(self, given: Given) -> Float[Tensor, ""]:
        rollout = given.rollout
        if (outcomes := self.outcomes(given)) is None:
            return rollout.log_probs.sum() * 0.0
        rewards, baseline, drew = outcomes
        if self.training:
            self.baseline.learn(rewards, drew)
        advantage = ((rewards - baseline) * drew[..., None]).flatten(1, 2) * answered(rollout.mask, self.to_go)
        return -self.weight * (advantage * rollout.trace.log_prob * rollout.mask).sum() / rollout.mask.sum()

    def measure(self, given: Given) -> dict[str, Float[Tensor, ""]]:
        """Means over the captions that drew, in nats a word: reward, baseline, and the variance of their difference."""
        if (outcomes := self.outcomes(given)) is None:
            return {}
        rewards, baseline, drew = outcomes
        rewards, baseline = rewards[..., 0][drew], baseline[..., 0][drew]
        return {"reward": rewards.mean(), "baseline": baseline.mean(), "advantage_variance": (rewards - baseline).var(correction=0)}

    def outcomes(self, given: Given) -> Outcomes | None:
        """The reward of each row's words, the baseline's guess at it, and whether the row drew; None where no row did."""
        rollout = given.rollout
        drew = ((rollout.mode == DRAW) & rollout.mask.any(-1)).unflatten(1, (-1, given.draws))
        if not bool(drew.any()):
            return None
        rewards = reward(rollout.log_probs, rollout.mask, self.to_go).unflatten(1, (-1, given.draws))
        mask = rollout.mask[:, :: given.draws]
        peaks = None if given.peaks is None else reward(given.peaks, mask, self.to_go)
        return rewards, self.baseline(rewards, drew, peaks), drew


def reward(
    log_probs: Float[Tensor, "images captions words"], mask: Bool[Tensor, "images captions words"], to_go: bool
) -> Float[Tensor, "images captions words"]:
    """log p of the words that each word's draw answers for, in nats a word, without gradient; zero where it answers for none."""
    said = log_probs.detach() * mask
    total = from_here_on(said) if to_go else said.sum(-1, keepdim=True).expand_as(said)
    return total / answered(mask, to_go).clamp_min(1)


def answered(mask: Bool[Tensor, "images captions words"], to_go: bool) -> Int[Tensor, "images captions words"]:
    """How many words each word's draw answers for."""
    return from_here_on(mask.long()) if to_go else mask.sum(-1, keepdim=True).expand_as(mask)


def from_here_on(values: Tensor) -> Tensor:
    """sum_{s >= t} values_s along the last axis."""
    return values.flip(-1).cumsum(-1).flip(-1)
