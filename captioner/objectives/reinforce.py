"""Learn where to look from how well the caption was said."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.records import DRAW, Rollout


class Reinforce(nn.Module):
    """-weight * sum over captions that drew of (log p(caption | draws) - L b) * log p(draws), divided by their words.

    The reward is the log-likelihood of a caption of L words given its draws, and carries no gradient here. The baseline b is a moving
    average of the reward a word, b <- decay b + (1 - decay) mean reward, read before it is updated. With weight 1 this and the likelihood
    of the same rollout are together the gradient of the expected log-likelihood a word. Source: Xu et al. 2015, sec. 4.1 (eqs. 10 to
    12), where b is of whole captions; a departure: a word, so that a long caption is not worse than the baseline for its length alone.
    Raises: ValueError, weight negative, or decay outside [0, 1).
    """

    baseline: Tensor
    started: Tensor

    def __init__(self, weight: float = 1.0, decay: float = 0.9) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must not be negative, not {weight}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay is a share in [0, 1), not {decay}")
        self.weight, self.decay = weight, decay
        self.register_buffer("baseline", torch.zeros(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, rollout: Rollout) -> Float[Tensor, ""]:
        words = rollout.mask.sum(-1)
        drew = (rollout.mode == DRAW) & (words > 0)
        if not bool(drew.any()):
            return rollout.log_probs.sum() * 0.0
        reward = (rollout.log_probs * rollout.mask).sum(-1).detach() / words.clamp_min(1)
        mean_reward = reward[drew].mean()
        baseline = torch.where(self.started, self.baseline, mean_reward).to(reward.dtype)
        drawn = (rollout.trace.log_prob * rollout.mask).sum(-1)
        loss = -self.weight * ((reward - baseline) * words * drawn)[drew].sum() / words[drew].sum()
        if self.training:
            self.baseline.copy_(self.decay * baseline + (1 - self.decay) * mean_reward)
            self.started.fill_(True)
        return loss
