"""What a reward is held against: the lower the variance of the difference, the less noise in the gradient of REINFORCE."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner.errors import ArgumentError


class Baseline(nn.Module, ABC):
    """A guess at a reward that does not look at the draw which earned it, so that the gradient stays unbiased. In nats a word."""

    needs_argmax = False
    minimum_samples = 1
    """Of each caption."""

    @abstractmethod
    def forward(
        self,
        rewards: Float[Tensor, "images captions samples words"],
        sampled: Bool[Tensor, "images captions samples"],
        argmax_log_probs: Float[Tensor, "images captions words"] | None,
    ) -> Float[Tensor, "images captions samples words"]:
        """Of the reward that each word's draw earned (all of a caption's alike, or of the words from it on: see `Reinforce`).

        Only what is at `sampled` is read. Moves nothing: `learn` does.
        """

    def learn(self, rewards: Float[Tensor, "images captions samples words"], sampled: Bool[Tensor, "images captions samples"]) -> None:
        """Called in training after `forward` was read, where anything sampled."""


class MovingAverage(Baseline):
    """b <- decay b + (1 - decay) mean reward of whole captions, read before it is updated; before the first update, the mean of the batch's
    other rewards.

    Source: Xu et al. 2015, sec. 4.1, where b is of whole captions; a departure: a word, so that a long caption is not worse than the
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

    def forward(
        self,
        rewards: Float[Tensor, "images captions samples words"],
        sampled: Bool[Tensor, "images captions samples"],
        argmax_log_probs: Float[Tensor, "images captions words"] | None,
    ) -> Float[Tensor, "images captions samples words"]:
        whole = rewards[..., 0]
        others = mean_of_others(whole.flatten(), sampled.flatten()).view_as(whole)
        return torch.where(self.started, self.value.to(rewards.dtype), others)[..., None].expand_as(rewards)

    def learn(self, rewards: Float[Tensor, "images captions samples words"], sampled: Bool[Tensor, "images captions samples"]) -> None:
        mean = rewards[..., 0][sampled].mean()
        self.value.copy_(torch.where(self.started, self.decay * self.value + (1 - self.decay) * mean, mean))
        self.started.fill_(True)


class LeaveOneOut(Baseline):
    """b of a draw = mean reward of the other K - 1 samples of the same caption: it knows how hard image and caption are.

    Source: Mnih and Rezende 2016, sec. 2.3 (there of the multi-sample bound); Kool et al. 2019. Costs K rows a caption in the decoder,
    and one pass of the encoder.
    """

    minimum_samples = 2

    def forward(
        self,
        rewards: Float[Tensor, "images captions samples words"],
        sampled: Bool[Tensor, "images captions samples"],
        argmax_log_probs: Float[Tensor, "images captions words"] | None,
    ) -> Float[Tensor, "images captions samples words"]:
        each = rewards.transpose(-1, -2)
        return mean_of_others(each, sampled[..., None, :].expand_as(each)).transpose(-1, -2)


class SelfCritical(Baseline):
    """b = log p of the same caption when every look goes to the peak.

    Source: Rennie et al. 2017, sec. 3, for words; here the samples are looks, the words are given. Dropout falls anew for that row, as it
    does for every row (there it is evaluation without dropout). Costs one row more a caption that sampled, without a backward pass.
    """

    needs_argmax = True

    def forward(
        self,
        rewards: Float[Tensor, "images captions samples words"],
        sampled: Bool[Tensor, "images captions samples"],
        argmax_log_probs: Float[Tensor, "images captions words"] | None,
    ) -> Float[Tensor, "images captions samples words"]:
        if argmax_log_probs is None:
            raise ArgumentError("argmax_log_probs", "are needed: the log-likelihood of each word with every look at the peak")
        return argmax_log_probs[:, :, None].expand_as(rewards)


def mean_of_others(rewards: Float[Tensor, "*lead samples"], sampled: Bool[Tensor, "*lead samples"]) -> Float[Tensor, "*lead samples"]:
    """Along the last axis, the mean over every other entry that sampled; zero where there is none."""
    others = sampled.sum(-1, keepdim=True) - sampled.int()
    total = (rewards * sampled).sum(-1, keepdim=True) - rewards * sampled
    return total * (others > 0) / others.clamp_min(1)
