"""How do scores become weights? At least zero, summing to one over the allowed regions, exactly zero on -inf."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner.errors import ArgumentError

Scores = Float[Tensor, "*lead regions"]
Alphas = Float[Tensor, "*lead regions"]


class Distribution(nn.Module, ABC):
    def forward(self, scores: Scores) -> Alphas:
        """In float32 where scores have 16 bits. Raises: ValueError, a query whose scores are all -inf."""
        if bool((scores.detach().amax(-1) == -torch.inf).any()):
            raise ValueError("every score of a query is -inf: nothing is allowed that it could look at")
        return self.normalize(scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores)

    @abstractmethod
    def normalize(self, scores: Scores) -> Alphas: ...


class Softmax(Distribution):
    """alpha_i = exp(score_i / T) / sum_j exp(score_j / T). Raises: ArgumentError, temperature not positive."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ArgumentError("temperature", f"divides the scores and must be positive, not {temperature}")
        self.temperature = temperature

    def normalize(self, scores: Scores) -> Alphas:
        return (scores / self.temperature).softmax(-1)


class Sparsemax(Distribution):
    """The point of the simplex nearest to the scores: most regions get exactly zero.

        alpha_i = max(score_i - tau, 0),    tau such that they sum to one

    Source: Martins & Astudillo 2016, sec. 2.2, algorithm 1. The gradient is that of sec. 2.5: it
    flows among the regions in the support (those of weight above zero).
    """

    def normalize(self, scores: Scores) -> Alphas:
        scores = subtract_max(scores)
        ordered = scores.detach().sort(-1, descending=True).values
        support = support_mask(scores, ordered, 1 + ranks(ordered) * ordered > ordered.cumsum(-1))
        tau = ((scores * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
        return (scores - tau).clamp_min(0.0)


class Entmax15(Distribution):
    """Between softmax and sparsemax: sparse, and smooth where a region enters the support.

        alpha_i = max(score_i / 2 - tau, 0)^2,    tau such that they sum to one

    Source: Peters et al. 2019, algorithm 2 (exact, by sorting; alpha = 1.5 there).
    """

    def normalize(self, scores: Scores) -> Alphas:
        scores = subtract_max(scores / 2)
        ordered = scores.detach().sort(-1, descending=True).values
        thresholds = entmax15_threshold(ordered.cumsum(-1), ordered.square().cumsum(-1), ranks(ordered))
        support = support_mask(scores, ordered, thresholds <= ordered)
        supported = scores * support
        sums = (leaf.sum(-1, keepdim=True) for leaf in (supported, supported.square(), support))
        return (scores - entmax15_threshold(*sums)).clamp_min(0.0).square()


def subtract_max(scores: Scores) -> Scores:
    """Scores less their maximum, which changes no weight, and at least -2: a score of -1 or less has no weight."""
    return (scores - scores.detach().amax(-1, keepdim=True)).clamp_min(-2.0)


def ranks(ordered: Scores) -> Float[Tensor, " regions"]:
    """1, 2, ..., one per region."""
    return torch.arange(1, ordered.shape[-1] + 1, device=ordered.device, dtype=ordered.dtype)


def support_mask(scores: Scores, ordered: Scores, inside: Bool[Tensor, "*lead regions"]) -> Bool[Tensor, "*lead regions"]:
    """The support: scores not below the last that is `inside`, of scores in falling order."""
    return ordered.gather(-1, inside.sum(-1, keepdim=True).clamp_min(1) - 1) <= scores


def entmax15_threshold(total: Tensor, squares: Tensor, number: Tensor) -> Tensor:
    """tau of `number` scores with this sum and sum of squares: sum_i (score_i - tau)^2 = 1, tau the smaller root."""
    mean = total / number
    return mean - ((1 - (squares - number * mean.square())) / number).clamp_min(0.0).sqrt()
