"""How do weights become one vector? As a sum of values: by expectation (soft), by a draw (hard), or at the peak."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.records import AttentionMode

Alphas = Float[Tensor, "images queries heads regions"]
Modes = Int[Tensor, "images queries"]
WeightsAndLogProb = tuple[Float[Tensor, "images queries heads regions"], Float[Tensor, "images queries"]]
"""The weight of each value in the context, and the log-probability of what was drawn (zero where nothing was), summed over heads."""


class Readout(nn.Module, ABC):
    @abstractmethod
    def forward(self, alphas: Alphas, mode: Modes) -> WeightsAndLogProb: ...


class Expectation(Readout):
    """context = sum_i alpha_i a_i, whatever the mode. Source: Xu et al. 2015, sec. 4.2 (eq. 13)."""

    def forward(self, alphas: Alphas, mode: Modes) -> WeightsAndLogProb:
        return alphas, alphas.new_zeros(mode.shape)


class Peak(Readout):
    """context = a_i of the highest alpha, whatever the mode; nothing is drawn, and no gradient reaches the weights."""

    def forward(self, alphas: Alphas, mode: Modes) -> WeightsAndLogProb:
        return one_hot_argmax(alphas), alphas.new_zeros(mode.shape)


class TopK(Readout):
    """The expectation over the k highest alphas, divided by their sum, whatever the mode. Raises: ArgumentError, k not positive."""

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ArgumentError("k", f"is a number of regions and must be positive, not {k}")
        self.k = k

    def forward(self, alphas: Alphas, mode: Modes) -> WeightsAndLogProb:
        highest = alphas.topk(min(self.k, alphas.shape[-1])).indices
        weights = alphas * one_hot(highest, alphas)
        return weights / weights.sum(-1, keepdim=True), alphas.new_zeros(mode.shape)


class HardReadout(Readout):
    """A readout that draws one region, with probability alpha_i; each head draws its own.

    In training each query follows its mode: SAMPLE draws, EXPECTATION takes the expectation, ARGMAX
    takes the highest region. In evaluation EXPECTATION and ARGMAX do the same, and a query of mode
    SAMPLE follows `eval_mode`, which is "expectation", "argmax" or "sample" (torch's seed decides).
    Raises: ArgumentError, another `eval_mode`.
    """

    def __init__(self, eval_mode: str = "expectation") -> None:
        super().__init__()
        self.eval_mode = attention_mode(eval_mode)

    def current_mode(self, mode: Modes) -> Modes:
        return mode if self.training else mode.masked_fill(mode == AttentionMode.SAMPLE, self.eval_mode)


class Sample(HardReadout):
    """Hard attention: the region drawn is read, and REINFORCE trains the weights.

    The log-probability of a draw carries the gradient that REINFORCE weighs; by way of the context
    gradient reaches only the region drawn. Source: Xu et al. 2015, sec. 4.1 (eqs. 8 and 9); ours:
    what it does in evaluation, and several heads. Raises: as `HardReadout`.
    """

    def forward(self, alphas: Alphas, mode: Modes) -> WeightsAndLogProb:
        mode = self.current_mode(mode)
        drawn = sample_regions(alphas.detach())
        log_prob = alphas.gather(-1, drawn).squeeze(-1).clamp_min(torch.finfo(alphas.dtype).tiny).log().sum(-1)
        return weights_by_mode(mode, one_hot(drawn, alphas), alphas), torch.where(mode == AttentionMode.SAMPLE, log_prob, 0.0)


class Gumbel(HardReadout):
    """One region drawn, with the gradient of a soft choice in the place of REINFORCE.

        y = softmax((log alpha + g) / T),    g_i = -log(-log(u_i)),    u_i uniform in (0, 1)

    Forward: one at the highest y_i; backward: the gradient of y. It is biased, less so for a lower
    `temperature` T, with more variance. The log-probability is zero: nothing is left for REINFORCE.
    Source: Jang et al. 2017, sec. 2.1 and 2.2 (straight-through).
    Raises: ArgumentError, temperature not positive, or as `HardReadout`.
    """

    def __init__(self, temperature: float = 1.0, eval_mode: str = "expectation") -> None:
        super().__init__(eval_mode)
        if temperature <= 0:
            raise ArgumentError("temperature", f"divides the perturbed log-weights and must be positive, not {temperature}")
        self.temperature = temperature

    def forward(self, alphas: Alphas, mode: Modes) -> WeightsAndLogProb:
        logs = alphas.clamp_min(torch.finfo(alphas.dtype).tiny).log().masked_fill(alphas == 0, -torch.inf)
        perturbed = logs - torch.empty_like(alphas).exponential_().log()
        soft = (perturbed / self.temperature).softmax(-1)
        drawn = one_hot_argmax(perturbed.detach()) + (soft - soft.detach())
        return weights_by_mode(self.current_mode(mode), drawn, alphas), alphas.new_zeros(mode.shape)


def attention_mode(eval_mode: str) -> AttentionMode:
    """The mode that "sample", "expectation" or "argmax" names. Raises: ArgumentError, another word."""
    modes = {mode.name.lower(): mode for mode in AttentionMode}
    if eval_mode not in modes:
        raise ArgumentError("eval_mode", f"is one of {', '.join(modes)}, not {eval_mode!r}")
    return modes[eval_mode]


def weights_by_mode(mode: Modes, drawn: Alphas, alphas: Alphas) -> Alphas:
    """`drawn`, the highest region or `alphas`, as the mode of each query says."""
    mode = mode[..., None, None]
    return torch.where(mode == AttentionMode.SAMPLE, drawn, torch.where(mode == AttentionMode.ARGMAX, one_hot_argmax(alphas), alphas))


def sample_regions(weights: Float[Tensor, "*lead regions"]) -> Int[Tensor, "*lead 1"]:
    """The index of one region per row, drawn in proportion to the weights; a region without weight is never drawn.

    It is where the running sum of weights first exceeds a uniform share of their sum. This takes one
    random number per row; torch.multinomial takes one per region, and many times as long on a processor.
    """
    sums = weights.float().cumsum(-1)
    total = sums[..., -1:]
    point = torch.minimum(torch.rand_like(total) * total, total.nextafter(torch.zeros_like(total)))
    return (sums <= point).sum(-1, keepdim=True)


def one_hot_argmax(alphas: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
    return one_hot(alphas.argmax(-1, keepdim=True), alphas)


def one_hot(index: Int[Tensor, "*lead some"], like: Float[Tensor, "*lead regions"]) -> Float[Tensor, "*lead regions"]:
    """One at each index, zero elsewhere."""
    return torch.zeros_like(like).scatter_(-1, index, 1.0)
