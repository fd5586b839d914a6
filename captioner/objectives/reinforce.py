"""Learn where to look from how well the caption was said."""

from jaxtyping import Bool, Float
from torch import Tensor

from captioner.objectives.baseline import Baseline
from captioner.objectives.term import Given, Term, reward
from captioner.records import DRAW


class Reinforce(Term):
    """-weight * sum over captions that drew of (log p(caption | draws) - L b) * log p(draws), divided by the words of all captions.

    The reward is the log-likelihood of a caption of L words given its draws, and carries no gradient here; b is the baseline's guess at
    it, a word. With weight 1 this and the likelihood of the same rollout are together the gradient of the expected log-likelihood a word,
    over draws and coin. Source: Xu et al. 2015, sec. 4.1 (eqs. 10 to 12). Raises: ValueError, weight negative.
    """

    def __init__(self, baseline: Baseline, weight: float = 1.0) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must not be negative, not {weight}")
        self.weight, self.baseline = weight, baseline
        self.needs_peaks, self.least_draws = baseline.needs_peaks, baseline.least_draws

    def forward(self, given: Given) -> Float[Tensor, ""]:
        rollout = given.rollout
        rewards, drew = outcomes(given)
        if not bool(drew.any()):
            return rollout.log_probs.sum() * 0.0
        advantage = (rewards - self.baseline(rewards, drew, given.peaks)).flatten(1)
        if self.training:
            self.baseline.learn(rewards, drew)
        looks = (rollout.trace.log_prob * rollout.mask).sum(-1)
        words = rollout.mask.sum(-1)
        return -self.weight * (advantage * words * looks)[drew.flatten(1)].sum() / words.sum()

    def measure(self, given: Given) -> dict[str, Float[Tensor, ""]]:
        """Means over the captions that drew, in nats a word: reward, baseline, and the variance of their difference."""
        rewards, drew = outcomes(given)
        if not bool(drew.any()):
            return {}
        baseline = self.baseline(rewards, drew, given.peaks)[drew]
        variance = (rewards[drew] - baseline).var(correction=0)
        return {"reward": rewards[drew].mean(), "baseline": baseline.mean(), "advantage_variance": variance}


def outcomes(given: Given) -> tuple[Float[Tensor, "images captions draws"], Bool[Tensor, "images captions draws"]]:
    """The reward of each row, and whether it drew."""
    rollout = given.rollout
    drew = (rollout.mode == DRAW) & rollout.mask.any(-1)
    return reward(rollout).unflatten(1, (-1, given.draws)), drew.unflatten(1, (-1, given.draws))
