"""Learn where to look from how well the caption was said."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.objectives.baseline import Baseline
from captioner.objectives.term import CollectedRollouts, Term
from captioner.records import AttentionMode

Outcomes = tuple[
    Float[Tensor, "images captions samples words"], Float[Tensor, "images captions samples words"], Bool[Tensor, "images captions samples"]
]


class Reinforce(Term):
    """-weight * sum over captions that sampled of (log p(caption | samples) - L b) * log p(samples), divided by the words of all captions.

    The reward is the log-likelihood of a caption of L words given its samples, and carries no gradient here; b is the baseline's guess at
    it, a word. With `reward_to_go` a draw answers only for the words from its own on, L and b being of those: no draw changes the
    words before it, so the expectation is the same and the noise less; a departure. With weight 1 this
    and the likelihood of the same rollout are together the gradient of the expected log-likelihood a word, over samples and coin.
    Source: Xu et al. 2015, sec. 4.1 (eqs. 10 to 12); reward_to_go: Sutton et al. 2000, theorem 1. Raises: ArgumentError, weight negative.
    """

    def __init__(self, baseline: Baseline, weight: float = 1.0, reward_to_go: bool = False) -> None:
        super().__init__()
        if weight < 0:
            raise ArgumentError("weight", f"must not be negative, not {weight}")
        self.weight, self.baseline, self.reward_to_go = weight, baseline, reward_to_go
        self.needs_argmax, self.minimum_samples = baseline.needs_argmax, baseline.minimum_samples

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        rollout = collected.rollout
        if (outcomes := self.outcomes(collected)) is None:
            return rollout.log_probs.sum() * 0.0
        rewards, baseline, sampled = outcomes
        if self.training:
            self.baseline.learn(rewards, sampled)
        advantage = ((rewards - baseline) * sampled[..., None]).flatten(1, 2) * answered(rollout.mask, self.reward_to_go)
        return -self.weight * (advantage * rollout.record.log_prob * rollout.mask).sum() / rollout.mask.sum()

    def statistics(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        """Means over the captions that sampled, in nats a word: reward, baseline, and the variance of their difference."""
        if (outcomes := self.outcomes(collected)) is None:
            return {}
        rewards, baseline, sampled = outcomes
        rewards, baseline = rewards[..., 0][sampled], baseline[..., 0][sampled]
        return {"reward": rewards.mean(), "baseline": baseline.mean(), "advantage_variance": (rewards - baseline).var(correction=0)}

    def outcomes(self, collected: CollectedRollouts) -> Outcomes | None:
        """The reward of each row's words, the baseline's guess at it, and whether the row sampled; None where no row did."""
        rollout = collected.rollout
        sampled = ((rollout.mode == AttentionMode.SAMPLE) & rollout.mask.any(-1)).unflatten(1, (-1, collected.samples))
        if not bool(sampled.any()):
            return None
        rewards = reward(rollout.log_probs, rollout.mask, self.reward_to_go).unflatten(1, (-1, collected.samples))
        mask = rollout.mask[:, :: collected.samples]
        argmax_log_probs = None if collected.argmax_log_probs is None else reward(collected.argmax_log_probs, mask, self.reward_to_go)
        return rewards, self.baseline(rewards, sampled, argmax_log_probs), sampled


def reward(
    log_probs: Float[Tensor, "images captions words"], mask: Bool[Tensor, "images captions words"], reward_to_go: bool
) -> Float[Tensor, "images captions words"]:
    """log p of the words that each word's draw answers for, in nats a word, without gradient; zero where it answers for none."""
    said = log_probs.detach() * mask
    total = from_here_on(said) if reward_to_go else said.sum(-1, keepdim=True).expand_as(said)
    return total / answered(mask, reward_to_go).clamp_min(1)


def answered(mask: Bool[Tensor, "images captions words"], reward_to_go: bool) -> Int[Tensor, "images captions words"]:
    """How many words each word's draw answers for."""
    return from_here_on(mask.long()) if reward_to_go else mask.sum(-1, keepdim=True).expand_as(mask)


def from_here_on(values: Tensor) -> Tensor:
    """sum_{s >= t} values_s along the last axis."""
    return values.flip(-1).cumsum(-1).flip(-1)
