"""Learn where to look from the likelihood of the caption that follows."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.objectives.baseline import Baseline, Rewards, Sampled
from captioner.objectives.term import CollectedRollouts, Term
from captioner.records import AttentionMode


class Outcomes(NamedTuple):
    """Of each caption's samples: the reward of the draw at each word, the baseline, and whether the row sampled at all."""

    rewards: Rewards
    baseline: Rewards
    sampled: Sampled


class Reinforce(Term):
    """The gradient of the expected reward, by way of the log-probability of the samples.

        -weight * sum over sampled captions of (log p(caption | samples) - L b) * log p(samples), / words of all captions

    The reward is the log-likelihood of a caption of L words given its samples, and carries no
    gradient here; b is the baseline, per word. With `reward_to_go` a draw is rewarded only for the
    words from its own on, L and b being of those: no draw changes the words before it, so that the
    expectation is the same and the noise less; a departure. With weight 1 this and the likelihood of
    the same rollout are together the gradient of the expected log-likelihood per word, over samples and coin.
    Source: Xu et al. 2015, sec. 4.1 (eqs. 10 to 12); reward_to_go: Sutton et al. 2000, theorem 1.
    Raises: ArgumentError, weight negative.
    """

    def __init__(self, baseline: Baseline, weight: float = 1.0, reward_to_go: bool = False) -> None:
        super().__init__(weight)
        self.baseline, self.reward_to_go = baseline, reward_to_go
        self.needs_argmax, self.minimum_samples = baseline.needs_argmax, baseline.minimum_samples

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        rollout = collected.rollout
        if (outcomes := self.outcomes(collected)) is None:
            return rollout.log_probs.sum() * 0.0
        rewards, baseline, sampled = outcomes
        if self.training:
            self.baseline.update(rewards, sampled)
        # (images captions*samples words)
        advantage = ((rewards - baseline) * sampled[..., None]).flatten(1, 2) * rewarded_words(rollout.mask, self.reward_to_go)
        return -self.weight * (advantage * rollout.record.log_prob * rollout.mask).sum() / rollout.mask.sum()

    def statistics(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        """Means over the sampled captions, in nats per word: reward, baseline, and the variance of their difference."""
        if (outcomes := self.outcomes(collected)) is None:
            return {}
        rewards, baseline = (values[..., 0][outcomes.sampled] for values in (outcomes.rewards, outcomes.baseline))
        return {"reward": rewards.mean(), "baseline": baseline.mean(), "advantage_variance": (rewards - baseline).var(correction=0)}

    def outcomes(self, collected: CollectedRollouts) -> Outcomes | None:
        """None where no caption sampled."""
        rollout, samples = collected.rollout, (-1, collected.samples)
        sampled = ((rollout.mode == AttentionMode.SAMPLE) & rollout.mask.any(-1)).unflatten(1, samples)  # (images captions samples)
        if not bool(sampled.any()):
            return None
        rewards = mean_rewards(rollout.log_probs, rollout.mask, self.reward_to_go).unflatten(1, samples)
        argmax = collected.argmax_log_probs
        if argmax is not None:
            argmax = mean_rewards(argmax, rollout.mask[:, :: collected.samples], self.reward_to_go)
        return Outcomes(rewards, self.baseline(rewards, sampled, argmax), sampled)


def mean_rewards(
    log_probs: Float[Tensor, "images captions words"], mask: Bool[Tensor, "images captions words"], reward_to_go: bool
) -> Float[Tensor, "images captions words"]:
    """The mean log p of the words that the draw at each word is rewarded for, without gradient; zero where there are none."""
    log_probs = log_probs.detach() * mask
    total = reverse_cumsum(log_probs) if reward_to_go else log_probs.sum(-1, keepdim=True).expand_as(log_probs)
    return total / rewarded_words(mask, reward_to_go).clamp_min(1)


def rewarded_words(mask: Bool[Tensor, "images captions words"], reward_to_go: bool) -> Int[Tensor, "images captions words"]:
    """The number of words that the draw at each word is rewarded for."""
    return reverse_cumsum(mask.long()) if reward_to_go else mask.sum(-1, keepdim=True).expand_as(mask)


def reverse_cumsum(values: Tensor) -> Tensor:
    """sum_{s >= t} values_s along the last axis."""
    return values.flip(-1).cumsum(-1).flip(-1)
