"""How do scores become weights? At least zero, summing to one over the allowed regions, exactly zero on -inf."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Distribution(nn.Module, ABC):
    @abstractmethod
    def forward(self, scores: Float[Tensor, "images queries regions"]) -> Float[Tensor, "images queries regions"]: ...


class Softmax(Distribution):
    """alpha_i = exp(score_i / T) / sum_j exp(score_j / T). Raises: ValueError, temperature not positive."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature divides the scores and must be positive, not {temperature}")
        self.temperature = temperature

    def forward(self, scores: Float[Tensor, "images queries regions"]) -> Float[Tensor, "images queries regions"]:
        return (scores / self.temperature).softmax(-1)
