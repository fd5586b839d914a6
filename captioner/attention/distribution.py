"""How do scores become weights? At least zero, summing to one over the allowed regions, exactly zero on -inf."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner.errors import ArgumentError


class Distribution(nn.Module, ABC):
    def forward(self, scores: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
        """In float32 where scores are of 16 bits. Raises: ValueError, nothing allowed (every score of a query is -inf)."""
        if bool((scores.detach().amax(-1) == -torch.inf).any()):
            raise ValueError("every score of a query is -inf: nothing is allowed that it could look at")
        return self.weigh(scores.float() if scores.dtype in (torch.bfloat16, torch.float16) else scores)

    @abstractmethod
    def weigh(self, scores: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]: ...


class Softmax(Distribution):
    """alpha_i = exp(score_i / T) / sum_j exp(score_j / T). Raises: ValueError, temperature not positive."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ArgumentError("temperature", f"divides the scores and must be positive, not {temperature}")
        self.temperature = temperature

    def weigh(self, scores: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
        return (scores / self.temperature).softmax(-1)


class Sparsemax(Distribution):
    """The point of the simplex nearest to the scores: most regions get exactly nothing.

        alpha_i = max(score_i - tau, 0),    tau such that they sum to one

    Source: Martins & Astudillo 2016, sec. 2.2, algorithm 1. The gradient is that of sec. 2.5: it flows among the regions in the support.
    """

    def weigh(self, scores: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
        scores = below_highest(scores)
        ordered = scores.detach().sort(-1, descending=True).values
        enough = 1 + counts(ordered) * ordered > ordered.cumsum(-1)
        support = lowest_of(ordered, enough) <= scores
        tau = ((scores * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
        return (scores - tau).clamp_min(0.0)


class Entmax15(Distribution):
    """Between softmax and sparsemax: sparse, and smooth where a region enters the support.

        alpha_i = max(score_i / 2 - tau, 0)^2,    tau such that they sum to one

    Source: Peters et al. 2019, algorithm 2 (exact, by sorting; alpha = 1.5 there).
    """

    def weigh(self, scores: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
        scores = below_highest(scores / 2)
        ordered = scores.detach().sort(-1, descending=True).values
        enough = threshold(ordered.cumsum(-1), ordered.square().cumsum(-1), counts(ordered)) <= ordered
        support = lowest_of(ordered, enough) <= scores
        inside = scores * support
        tau = threshold(inside.sum(-1, keepdim=True), inside.square().sum(-1, keepdim=True), support.sum(-1, keepdim=True))
        return (scores - tau).clamp_min(0.0).square()


def below_highest(scores: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
    """Scores less their highest, which changes no weight, and -2 at least: what lies one or more below the highest has no weight."""
    return (scores - scores.detach().amax(-1, keepdim=True)).clamp_min(-2.0)


def counts(ordered: Float[Tensor, "*lead regions"]) -> Float[Tensor, " regions"]:
    return torch.arange(1, ordered.shape[-1] + 1, device=ordered.device, dtype=ordered.dtype)


def lowest_of(ordered: Float[Tensor, "*lead regions"], enough: Bool[Tensor, "*lead regions"]) -> Float[Tensor, "*lead 1"]:
    """The lowest score in the support: the first that are `enough`, of scores in falling order."""
    return ordered.gather(-1, enough.sum(-1, keepdim=True).clamp_min(1) - 1)


def threshold(total: Tensor, squares: Tensor, number: Tensor) -> Tensor:
    """tau of `number` scores with this sum and sum of squares: sum_i (score_i - tau)^2 = 1, tau the smaller root."""
    mean = total / number
    return mean - ((1 - (squares - number * mean.square())) / number).clamp_min(0.0).sqrt()
