"""How do weights become one vector? By expectation (soft), by a draw (hard), or at the peak."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.records import DRAW, EXPECT, PEAK

Read = tuple[Float[Tensor, "images queries features"], Float[Tensor, "images queries"]]
"""The context, and the log-probability of what was drawn (zero where nothing was)."""


class Readout(nn.Module, ABC):
    @abstractmethod
    def forward(
        self,
        alphas: Float[Tensor, "images queries regions"],
        values: Float[Tensor, "images regions features"],
        mode: Int[Tensor, "images queries"],
    ) -> Read: ...


class Expectation(Readout):
    """context = sum_i alpha_i a_i, whatever the mode. Source: Xu et al. 2015, sec. 4.2 (eq. 13)."""

    def forward(
        self,
        alphas: Float[Tensor, "images queries regions"],
        values: Float[Tensor, "images regions features"],
        mode: Int[Tensor, "images queries"],
    ) -> Read:
        return alphas @ values, alphas.new_zeros(alphas.shape[:2])


class Peak(Readout):
    """context = a_i of the highest alpha, whatever the mode; nothing is drawn, and no gradient reaches the weights."""

    def forward(
        self,
        alphas: Float[Tensor, "images queries regions"],
        values: Float[Tensor, "images regions features"],
        mode: Int[Tensor, "images queries"],
    ) -> Read:
        return one_hot_peak(alphas) @ values, alphas.new_zeros(alphas.shape[:2])


class Sample(Readout):
    """Hard attention: one region, drawn with probability alpha_i.

    In training each query follows its mode: DRAW draws, EXPECT takes the expectation, PEAK the highest. In evaluation EXPECT and PEAK do
    the same, and DRAW rests: `at_rest` is "expect", "peak" or "draw" (torch's seed decides). The log-probability of a draw carries the
    gradient that REINFORCE weighs; the draw itself passes gradient to the region drawn only.
    Source: Xu et al. 2015, sec. 4.1 (eqs. 8 and 9). Raises: ValueError, another `at_rest`.
    """

    def __init__(self, at_rest: str = "expect") -> None:
        super().__init__()
        modes = {"draw": DRAW, "expect": EXPECT, "peak": PEAK}
        if at_rest not in modes:
            raise ValueError(f"at_rest is one of {', '.join(modes)}, not {at_rest!r}")
        self.at_rest = modes[at_rest]

    def forward(
        self,
        alphas: Float[Tensor, "images queries regions"],
        values: Float[Tensor, "images regions features"],
        mode: Int[Tensor, "images queries"],
    ) -> Read:
        if not self.training:
            mode = mode.masked_fill(mode == DRAW, self.at_rest)
        drawn = torch.multinomial(alphas.detach().flatten(0, 1), 1).view(*alphas.shape[:2], 1)
        once = torch.zeros_like(alphas).scatter_(-1, drawn, 1.0)
        weights = torch.where((mode == PEAK)[..., None], one_hot_peak(alphas), once)
        weights = torch.where((mode == EXPECT)[..., None], alphas, weights)
        log_prob = alphas.gather(-1, drawn).squeeze(-1).clamp_min(torch.finfo(alphas.dtype).tiny).log()
        return weights @ values, torch.where(mode == DRAW, log_prob, 0.0)


def one_hot_peak(alphas: Float[Tensor, "images queries regions"]) -> Float[Tensor, "images queries regions"]:
    return torch.zeros_like(alphas).scatter_(-1, alphas.argmax(-1, keepdim=True), 1.0)
