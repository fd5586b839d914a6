"""Where may a query look, or would rather? Log-weights on the scores; -inf forbids."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from captioner.records import Trail


class Locality(nn.Module, ABC):
    needs_trail: bool = False
    """True where the past decides; decoders that run all steps at once refuse it at construction."""

    @abstractmethod
    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], trail: Trail
    ) -> Float[Tensor, "images queries regions"]: ...


class Everywhere(Locality):
    """No preference: the paper's global attention. locality_i = 0."""

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], trail: Trail
    ) -> Float[Tensor, "images queries regions"]:
        return queries.new_zeros(*queries.shape[:2], cells.shape[0])


class Coverage(Locality):
    """What was looked at draws or repels the next look, as the query decides.

        locality_i = s(q) last_i + c(q) seen_i,    (s, c) = W q + b

    `last` are the weights of the last look (zeros before the first), `seen` the sum of all so far. A positive s looks again at what was
    just looked at, a negative c turns to what was not. Source: the coverage of See et al. 2017, sec. 2.3 and Tu et al. 2016, sec. 3.1.
    Departures: outside the tanh, so that any score can be used with it; weighed by the query; the last look beside the sum.
    `stay` and `leave` are the biases that s and -c start from, in log-weights a unit of attention.
    """

    needs_trail = True

    def __init__(self, hidden_size: int, stay: float = 0.0, leave: float = 0.0) -> None:
        super().__init__()
        self.weigh = nn.Linear(hidden_size, 2)
        self.weigh.bias.data.copy_(self.weigh.bias.new_tensor([stay, -leave]))

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], cells: Float[Tensor, "regions 2"], trail: Trail
    ) -> Float[Tensor, "images queries regions"]:
        last, seen = self.weigh(queries).split(1, -1)
        return last * trail.alphas + seen * trail.seen
