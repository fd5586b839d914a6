"""Where may a query look, or would rather? Log-weights that are added to the scores; -inf forbids.

In the formulas r_i is the cell (row, column) of region i, counted from zero.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.records import AttentionHistory

Queries = Float[Tensor, "images queries hidden"]
Cells = Float[Tensor, "regions 2"]
LogWeights = Float[Tensor, "images queries regions"]


class Locality(nn.Module, ABC):
    needs_history: bool = False
    """True where earlier looks decide; decoders that run all steps at once refuse it at construction."""

    @abstractmethod
    def forward(self, queries: Queries, cells: Cells, history: AttentionHistory) -> LogWeights: ...


class Everywhere(Locality):
    """No preference: the paper's global attention. locality_i = 0."""

    def forward(self, queries: Queries, cells: Cells, history: AttentionHistory) -> LogWeights:
        return queries.new_zeros(*queries.shape[:2], cells.shape[0])


class MonotonicWindow(Locality):
    """A window that starts at the highest alpha of the last look and never moves back up the image.

        locality_i = 0 where 0 <= row_i - row_p and |r_i - p|_inf <= reach, else -inf;    p = the cell of the highest alpha

    `reach` is in grid cells. Before the first look, and after one that gave no region weight, the
    window is everywhere. It always holds p, which a mask allowed before, so that never all is forbidden.
    Departures from the source, Luong et al. 2015, sec. 3.2 (local-m): a grid, walked from top to
    bottom, instead of a line; there the centre is the step and the window lies on both sides of it,
    here it follows the last look and lies ahead.
    Raises: ArgumentError, reach below one cell, which would let no look move.
    """

    needs_history = True

    def __init__(self, reach: float) -> None:
        super().__init__()
        if not reach >= 1:
            raise ArgumentError("reach", f"is a length in grid cells and must be at least 1, not {reach}")
        self.reach = reach

    def forward(self, queries: Queries, cells: Cells, history: AttentionHistory) -> LogWeights:
        highest, index = history.alphas.max(-1, keepdim=True)
        offsets = cells - cells[index]  # (images queries regions 2)
        outside = (offsets[..., 0] < 0) | (offsets.abs().amax(-1) > self.reach)
        return queries.new_zeros(outside.shape).masked_fill(outside & (highest > 0), -torch.inf)


class GaussianWindow(Locality):
    """A soft window on the grid, whose centre p the query chooses.

        locality_i = -|r_i - p|^2 / (2 sigma^2),    p = last_cell * sigmoid(V tanh(W q + b) + c)

    Lengths are in grid cells. Departures from the source, Luong et al. 2015, sec. 3.2 (local-p): a
    grid instead of a line; a log-weight on the scores, so that alphas still sum to one (there it
    multiplies the softmax); no cut at 2 sigma; the biases b and c.
    Raises: ArgumentError, sigma not positive.
    """

    def __init__(self, hidden_size: int, sigma: float) -> None:
        super().__init__()
        if sigma <= 0:
            raise ArgumentError("sigma", f"is a length in grid cells and must be positive, not {sigma}")
        self.sigma = sigma
        self.point = nn.Sequential(nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Linear(hidden_size, 2), nn.Sigmoid())

    def forward(self, queries: Queries, cells: Cells, history: AttentionHistory) -> LogWeights:
        centre = self.point(queries)[:, :, None] * cells.amax(0)  # (images queries 1 2)
        return -(cells - centre).square().sum(-1) / (2 * self.sigma**2)


class Prior(Locality):
    """One learned surface over the grid, the same for every query.

        locality_i = sum_{u, v < waves} w_uv cos(pi u y_i) cos(pi v x_i),    (y_i, x_i) = (r_i + 1/2) / (rows, cols)

    The cosines are those of a two-dimensional DCT, so that one surface fits every grid. `waves` is
    their number per axis, the constant included (which weighs all regions against a sentinel, and
    alone does nothing). The surface starts flat. It is ours. Raises: ArgumentError, waves not positive.
    """

    def __init__(self, waves: int) -> None:
        super().__init__()
        if waves < 1:
            raise ArgumentError("waves", f"is a number of cosines per axis and must be positive, not {waves}")
        self.weights = nn.Parameter(torch.zeros(waves, waves))

    def forward(self, queries: Queries, cells: Cells, history: AttentionHistory) -> LogWeights:
        places = (cells + 0.5) / (cells.amax(0) + 1)
        cosines = torch.cos(torch.pi * places[..., None] * torch.arange(self.weights.shape[0], device=cells.device))  # (regions 2 waves)
        surface = ((cosines[:, 0].to(self.weights.dtype) @ self.weights) * cosines[:, 1]).sum(-1)
        return surface.expand(*queries.shape[:2], -1)


class Coverage(Locality):
    """Earlier looks attract or repel the next one, as the query decides.

        locality_i = s last_i + c cumulative_i,    (s, c) = W q + b

    `last` are the weights of the last look (zeros before the first), `cumulative` the sum of all so
    far. A positive s returns to where the last look was, a negative c avoids where looks have been.
    `stay` and `leave` are the biases that s and -c start from, in log-weights per unit of attention.
    Source: the coverage of See et al. 2017, sec. 2.3 and Tu et al. 2016, sec. 3.1. Departures:
    outside the tanh, so that it goes with any score; weighted by the query; the last look beside the sum.
    """

    needs_history = True

    def __init__(self, hidden_size: int, stay: float = 0.0, leave: float = 0.0) -> None:
        super().__init__()
        self.weigh = nn.Linear(hidden_size, 2)
        self.weigh.bias.data.copy_(self.weigh.bias.new_tensor([stay, -leave]))

    def forward(self, queries: Queries, cells: Cells, history: AttentionHistory) -> LogWeights:
        last, cumulative = self.weigh(queries).split(1, -1)
        return last * history.alphas + cumulative * history.cumulative
