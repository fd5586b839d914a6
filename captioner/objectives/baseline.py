"""What a reward is compared with: the lower the variance of the difference, the less noise in the gradient of REINFORCE."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner.errors import ArgumentError

Rewards = Float[Tensor, "images captions samples words"]
"""Of the draw at each word: of all words of its caption, or of those from it on (see `Reinforce`). In nats per word."""
Sampled = Bool[Tensor, "images captions samples"]
ArgmaxLogProbs = Float[Tensor, "images captions words"]


class Baseline(nn.Module, ABC):
    """An estimate of a reward that does not use the draw which earned it, so that the gradient stays unbiased. In nats per word."""

    needs_argmax = False
    minimum_samples = 1
    """Of each caption."""

    @abstractmethod
    def forward(self, rewards: Rewards, sampled: Sampled, argmax_log_probs: ArgmaxLogProbs | None) -> Rewards:
        """Only what is at `sampled` is read. No average moves here, but in `update`."""

    def update(self, rewards: Rewards, sampled: Sampled) -> None:
        """Called in training after `forward`, where any caption sampled."""


class MovingAverage(Baseline):
    """A running mean of rewards, used before it is updated.

        b <- decay b + (1 - decay) mean reward of whole captions

    Before the first update it is the mean of the batch's other rewards. Source: Xu et al. 2015, sec.
    4.1, where b is per caption; a departure: per word, so that a long caption is not worse than the
    baseline for its length alone. Raises: ArgumentError, decay outside [0, 1).
    """

    value: Tensor
    started: Tensor

    def __init__(self, decay: float = 0.9) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ArgumentError("decay", f"is a share in [0, 1), not {decay}")
        self.decay = decay
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def forward(self, rewards: Rewards, sampled: Sampled, argmax_log_probs: ArgmaxLogProbs | None) -> Rewards:
        whole = rewards[..., 0]
        others = mean_of_others(whole.flatten(), sampled.flatten()).view_as(whole)
        return torch.where(self.started, self.value.to(rewards.dtype), others)[..., None].expand_as(rewards)

    def update(self, rewards: Rewards, sampled: Sampled) -> None:
        mean = rewards[..., 0][sampled].mean()
        self.value.copy_(torch.where(self.started, self.decay * self.value + (1 - self.decay) * mean, mean))
        self.started.fill_(True)


class LeaveOneOut(Baseline):
    """b of a draw = mean reward of the other K - 1 samples of the same caption: it knows how hard image and caption are.

    Source: Mnih and Rezende 2016, sec. 2.3 (there of the multi-sample bound); Kool et al. 2019.
    Costs K rows per caption in the decoder, and one pass of the encoder.
    """

    minimum_samples = 2

    def forward(self, rewards: Rewards, sampled: Sampled, argmax_log_probs: ArgmaxLogProbs | None) -> Rewards:
        by_word = rewards.transpose(-1, -2)  # (images captions words samples)
        return mean_of_others(by_word, sampled[..., None, :].expand_as(by_word)).transpose(-1, -2)


class SelfCritical(Baseline):
    """b = log p of the same caption when every look goes to the highest alpha.

    Source: Rennie et al. 2017, sec. 3, for words; here looks are sampled, and the words are given.
    That row has its own dropout, as every row has (there it is evaluated without dropout).
    Costs one row more per sampled caption, without a backward pass.
    """

    needs_argmax = True

    def forward(self, rewards: Rewards, sampled: Sampled, argmax_log_probs: ArgmaxLogProbs | None) -> Rewards:
        if argmax_log_probs is None:
            raise ArgumentError("argmax_log_probs", "are needed: the log-likelihood of each word with every look at the highest alpha")
        return argmax_log_probs[:, :, None].expand_as(rewards)


def mean_of_others(rewards: Float[Tensor, "*lead samples"], sampled: Bool[Tensor, "*lead samples"]) -> Float[Tensor, "*lead samples"]:
    """Along the last axis, the mean over every other entry that sampled; zero where there is none."""
    others = sampled.sum(-1, keepdim=True) - sampled.int()
    total = (rewards * sampled).sum(-1, keepdim=True) - rewards * sampled
    return total * (others > 0) / others.clamp_min(1)
