"""How do scores become weights? At least zero, summing to one over the allowed regions, exactly zero on -inf."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


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
            raise ValueError(f"temperature divides the scores and must be positive, not {temperature}")
        self.temperature = temperature

    def weigh(self, scores: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
        return (scores / self.temperature).softmax(-1)
