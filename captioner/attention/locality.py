"""Where may a query look, or would rather? Log-weights on the scores; -inf forbids."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.records import AttentionHistory


class Locality(nn.Module, ABC):
    needs_history: bool = False
    """True where the past decides; decoders that run all steps at once refuse it at construction."""

    @abstractmethod
    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], history: AttentionHistory
    ) -> Float[Tensor, "images queries regions"]: ...


class Everywhere(Locality):
    """No preference: the paper's global attention. locality_i = 0."""

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], history: AttentionHistory
    ) -> Float[Tensor, "images queries regions"]:
        return queries.new_zeros(*queries.shape[:2], cells.shape[0])


class MonotonicWindow(Locality):
    """A window that starts where the last look was highest and never moves back up the image.

        locality_i = 0 where 0 <= row_i - row_p and |r_i - p|_inf <= reach, else -inf;    p = the cell of the last look's peak

    `reach` is in grid cells. Before the first look, and after one that gave no region weight, it is everywhere. The peak itself is always
    inside, and a mask let it be looked at before: something is always left to look at.
    Departures from the source, Luong et al. 2015, sec. 3.2 (local-m): a grid, walked from top to bottom, instead of a line; there the
    centre is the step and the window lies on both sides of it, here it follows the last look and lies ahead.
    Raises: ArgumentError, reach below one cell, which would let no look move.
    """

    needs_history = True

    def __init__(self, reach: float) -> None:
        super().__init__()
        if not reach >= 1:
            raise ArgumentError("reach", f"is a length in grid cells and must be at least 1, not {reach}")
        self.reach = reach

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], history: AttentionHistory
    ) -> Float[Tensor, "images queries regions"]:
        highest, peak = history.alphas.max(-1, keepdim=True)
        away = cells - cells[peak]
        outside = (away[..., 0] < 0) | (away.abs().amax(-1) > self.reach)
        return queries.new_zeros(outside.shape).masked_fill(outside & (highest > 0), -torch.inf)


class GaussianWindow(Locality):
    """A soft spot on the grid, centred where the query points.

        locality_i = -|r_i - p|^2 / (2 sigma^2),    p = last_cell * sigmoid(V tanh(W h + b) + c)

    Lengths are in grid cells. Departures from the source, Luong et al. 2015, sec. 3.2 (local-p): a grid instead of a line; a log-weight
    on the scores, so that alphas still sum to one (there it multiplies the softmax); no cut at 2 sigma; the biases b and c.
    Raises: ArgumentError, sigma not positive.
    """

    def __init__(self, hidden_size: int, sigma: float) -> None:
        super().__init__()
        if sigma <= 0:
            raise ArgumentError("sigma", f"is a length in grid cells and must be positive, not {sigma}")
        self.sigma = sigma
        self.point = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, 2), nn.Sigmoid())

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], history: AttentionHistory
    ) -> Float[Tensor, "images queries regions"]:
        centre = self.point(queries)[:, :, None] * cells.amax(0)
        return -(cells - centre).square().sum(-1) / (2 * self.sigma**2)


class Prior(Locality):
    """Where the eye goes before anything is asked: one learned surface, the same for every query.

        locality_i = sum_{u, v < waves} w_uv cos(pi u y_i) cos(pi v x_i),    (y_i, x_i) = (r_i + 1/2) / (rows, cols)

    The cosines are those of a two-dimensional DCT, so that one surface fits every grid: `waves` an axis, from the constant on (which
    weighs all regions against a sentinel, and alone does nothing). It starts flat. Our own.
    Raises: ArgumentError, waves not positive.
    """

    def __init__(self, waves: int) -> None:
        super().__init__()
        if waves < 1:
            raise ArgumentError("waves", f"is a number of cosines an axis and must be positive, not {waves}")
        self.weights = nn.Parameter(torch.zeros(waves, waves))

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], history: AttentionHistory
    ) -> Float[Tensor, "images queries regions"]:
        places = (cells + 0.5) / (cells.amax(0) + 1)
        waves = torch.cos(torch.pi * places[..., None] * torch.arange(self.weights.shape[0], device=cells.device))
        surface = ((waves[:, 0].to(self.weights.dtype) @ self.weights) * waves[:, 1]).sum(-1)
        return surface.expand(*queries.shape[:2], -1)


class Coverage(Locality):
    """What was looked at draws or repels the next look, as the query decides.

        locality_i = s(q) last_i + c(q) seen_i,    (s, c) = W q + b

    `last` are the weights of the last look (zeros before the first), `seen` the sum of all so far. A positive s looks again at what was
    just looked at, a negative c turns to what was not. Source: the coverage of See et al. 2017, sec. 2.3 and Tu et al. 2016, sec. 3.1.
    Departures: outside the tanh, so that any score can be used with it; weighed by the query; the last look beside the sum.
    `stay` and `leave` are the biases that s and -c start from, in log-weights a unit of attention.
    """

    needs_history = True

    def __init__(self, hidden_size: int, stay: float = 0.0, leave: float = 0.0) -> None:
        super().__init__()
        self.weigh = nn.Linear(hidden_size, 2)
        self.weigh.bias.data.copy_(self.weigh.bias.new_tensor([stay, -leave]))

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], history: AttentionHistory
    ) -> Float[Tensor, "images queries regions"]:
        last, seen = self.weigh(queries).split(1, -1)
        return last * history.alphas + seen * history.cumulative
