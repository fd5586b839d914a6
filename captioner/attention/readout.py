"""How do weights become one vector? As a sum of values: by expectation (soft), by a draw (hard), or at the peak."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.records import AttentionMode

Read = tuple[Float[Tensor, "images queries heads regions"], Float[Tensor, "images queries"]]
"""What each value weighs in the context, and the log-probability of what was drawn (zero where nothing was), summed over heads."""


class Readout(nn.Module, ABC):
    @abstractmethod
    def forward(self, alphas: Float[Tensor, "images queries heads regions"], mode: Int[Tensor, "images queries"]) -> Read: ...


class Expectation(Readout):
    """context = sum_i alpha_i a_i, whatever the mode. Source: Xu et al. 2015, sec. 4.2 (eq. 13)."""

    def forward(self, alphas: Float[Tensor, "images queries heads regions"], mode: Int[Tensor, "images queries"]) -> Read:
        return alphas, alphas.new_zeros(mode.shape)


class Peak(Readout):
    """context = a_i of the highest alpha, whatever the mode; nothing is drawn, and no gradient reaches the weights."""

    def forward(self, alphas: Float[Tensor, "images queries heads regions"], mode: Int[Tensor, "images queries"]) -> Read:
        return peak(alphas), alphas.new_zeros(mode.shape)


class TopK(Readout):
    """The expectation over the k highest alphas, made to sum to one again, whatever the mode. Raises: ArgumentError, k not positive."""

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ArgumentError("k", f"is a number of regions and must be positive, not {k}")
        self.k = k

    def forward(self, alphas: Float[Tensor, "images queries heads regions"], mode: Int[Tensor, "images queries"]) -> Read:
        highest = alphas.topk(min(self.k, alphas.shape[-1])).indices
        kept = alphas * one_hot(highest, alphas)
        return kept / kept.sum(-1, keepdim=True), alphas.new_zeros(mode.shape)


class Sample(Readout):
    """Hard attention: one region, drawn with probability alpha_i; each head draws its own.

    In training each query follows its mode: SAMPLE draws, EXPECTATION takes the expectation, ARGMAX
    takes the highest region. In evaluation EXPECTATION and ARGMAX do the same, and a query of mode
    SAMPLE follows `eval_mode`, which is "expectation", "argmax" or "sample" (torch's seed decides).
    The log-probability of a draw carries the gradient that REINFORCE weighs; the draw itself passes gradient to the region drawn only.
    Source: Xu et al. 2015, sec. 4.1 (eqs. 8 and 9); our own: what it does in evaluation, and several heads.
    Raises: ArgumentError, another `eval_mode`.
    """

    def __init__(self, eval_mode: str = "expectation") -> None:
        super().__init__()
        self.eval_mode = attention_mode(eval_mode)

    def forward(self, alphas: Float[Tensor, "images queries heads regions"], mode: Int[Tensor, "images queries"]) -> Read:
        if not self.training:
            mode = mode.masked_fill(mode == AttentionMode.SAMPLE, self.eval_mode)
        drawn = draw(alphas.detach())
        log_prob = alphas.gather(-1, drawn).squeeze(-1).clamp_min(torch.finfo(alphas.dtype).tiny).log().sum(-1)
        return as_asked(mode, one_hot(drawn, alphas), alphas), torch.where(mode == AttentionMode.SAMPLE, log_prob, 0.0)


class Gumbel(Readout):
    """One region drawn as `Sample` draws it, with the gradient of a soft choice in the place of REINFORCE.

        y = softmax((log alpha + g) / T),    g_i = -log(-log(u_i));    forward: one at the highest y_i; backward: the gradient of y

    Biased, less so for a lower `temperature` T, with more variance. Nothing is left for REINFORCE: the log-probability is zero. Modes and
    `eval_mode` as for `Sample`. Source: Jang et al. 2017, sec. 2.1 and 2.2 (straight-through).
    Raises: ArgumentError, temperature not positive, or another `eval_mode`.
    """

    def __init__(self, temperature: float = 1.0, eval_mode: str = "expectation") -> None:
        super().__init__()
        if temperature <= 0:
            raise ArgumentError("temperature", f"divides the perturbed log-weights and must be positive, not {temperature}")
        self.temperature, self.eval_mode = temperature, attention_mode(eval_mode)

    def forward(self, alphas: Float[Tensor, "images queries heads regions"], mode: Int[Tensor, "images queries"]) -> Read:
        if not self.training:
            mode = mode.masked_fill(mode == AttentionMode.SAMPLE, self.eval_mode)
        logs = alphas.clamp_min(torch.finfo(alphas.dtype).tiny).log().masked_fill(alphas == 0, -torch.inf)
        perturbed = logs - torch.empty_like(alphas).exponential_().log()
        soft = (perturbed / self.temperature).softmax(-1)
        drawn = peak(perturbed.detach()) + (soft - soft.detach())
        return as_asked(mode, drawn, alphas), alphas.new_zeros(mode.shape)


def attention_mode(eval_mode: str) -> AttentionMode:
    """The mode that "sample", "expectation" or "argmax" names. Raises: ValueError, another word."""
    modes = {mode.name.lower(): mode for mode in AttentionMode}
    if eval_mode not in modes:
        raise ArgumentError("eval_mode", f"is one of {', '.join(modes)}, not {eval_mode!r}")
    return modes[eval_mode]


def as_asked(mode: Tensor, drawn: Tensor, alphas: Tensor) -> Tensor:
    """The weights that each query's mode asks for."""
    mode = mode[..., None, None]
    return torch.where(mode == AttentionMode.SAMPLE, drawn, torch.where(mode == AttentionMode.ARGMAX, peak(alphas), alphas))


def draw(weights: Float[Tensor, "*lead regions"]) -> Int[Tensor, "*lead 1"]:
    """One region each, in proportion to the weights: where their running sum first exceeds a uniform share of the whole.

    What has no weight is never drawn. One random number a row; torch.multinomial takes one a region, and many times as long on a processor.
    """
    sums = weights.float().cumsum(-1)
    whole = sums[..., -1:]
    point = torch.minimum(torch.rand_like(whole) * whole, whole.nextafter(torch.zeros_like(whole)))
    return (sums <= point).sum(-1, keepdim=True)


def peak(alphas: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
    return one_hot(alphas.argmax(-1, keepdim=True), alphas)


def one_hot(index: Int[Tensor, "*lead some"], like: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
    """One at each index, zero elsewhere."""
    return torch.zeros_like(like).scatter_(-1, index, 1.0)
