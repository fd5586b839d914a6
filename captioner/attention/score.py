"""How well does region i answer the decoder?

In the formulas q is a query, a_i a region, and x_n the part of a vector x that belongs to head n.
"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import ArgumentError

Queries = Float[Tensor, "images queries hidden"]
Keys = Float[Tensor, "images regions keys"]
Scores = Float[Tensor, "images queries heads regions"]

UNITS_AT_ONCE = 2**19
"""Units of the additive score's hidden layer that are computed in one piece on a processor."""


class Score(nn.Module, ABC):
    """Queries are compared with keys: with what the layer `key` makes of each region.

    `heads` is the number of equal parts that the compared units, the last of `sizes`, are split
    into; each part has scores of its own.
    Raises: ArgumentError, a size not positive or not divided by `heads`.
    """

    key: nn.Module

    def __init__(self, heads: int, **sizes: int) -> None:
        super().__init__()
        for name, size in {"heads": heads, **sizes}.items():
            if size < 1:
                raise ArgumentError(name, f"is a number of {'parts' if name == 'heads' else 'units'} and must be positive, not {size}")
        name, size = list(sizes.items())[-1]
        if size % heads:
            raise ArgumentError("heads", f"splits {name}, {size} units, into equal parts, and must divide it, not {heads}")
        self.heads = heads

    def keys(self, features: Float[Tensor, "images regions features"]) -> Keys:
        """Computed once per image."""
        return self.key(features)

    @abstractmethod
    def forward(self, queries: Queries, keys: Keys) -> Scores: ...


class Additive(Score):
    """A perceptron of one hidden layer scores each region.

        score_i = v . tanh(U a_i + W q + b);    head n sums over its part of the hidden layer

    `features` is the size of a region, `hidden_size` that of a query, `attention_size` that of the
    hidden layer. Source: Bahdanau et al. 2015, sec. 3.1 and A.1.2. It is the f_att of Xu et al.
    2015, sec. 3.1.2, and the concat of Luong et al. 2015, sec. 3.1, whose one matrix [W; U] reads
    query and region side by side. The bias b is from the code of Xu et al.; several heads are ours.
    Raises: as `Score`.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int, heads: int = 1) -> None:
        super().__init__(heads, features=features, hidden_size=hidden_size, attention_size=attention_size)
        self.key = nn.Linear(features, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    def forward(self, queries: Queries, keys: Keys) -> Scores:
        """On a processor as 2 v . sigmoid(2 (U a_i + W q + b)) - sum(v).

        This is the same and six times faster, in pieces that stay in the cache. In half precision
        the subtraction would cost digits, so that there the formula is used as it is.
        """
        queries = self.query(queries)
        energy = torch.block_diag(*self.energy.weight[0].chunk(self.heads))  # (heads keys), each row zero outside its head
        if queries.device.type != "cpu" or queries.dtype in (torch.bfloat16, torch.float16) or torch.compiler.is_compiling():
            hidden = torch.tanh(keys[:, None] + queries[:, :, None])  # (images queries regions keys)
            return nn.functional.linear(hidden, energy).movedim(-1, 2)
        images = max(1, UNITS_AT_ONCE // (queries.shape[1] * keys.shape[1] * keys.shape[2]))
        pieces = zip((2 * queries).split(images), keys.split(images), strict=True)
        hidden_pieces = (torch.add(query[:, :, None], key[:, None], alpha=2).sigmoid_() for query, key in pieces)
        scores = torch.cat([nn.functional.linear(hidden, 2 * energy) for hidden in hidden_pieces])  # (images queries regions heads)
        return (scores - energy.sum(-1)).movedim(-1, 2)


class ScaledDot(Score):
    """The scaled product of a projected query and a projected region.

        score_i = (W q + c)_n . (U a_i + b)_n / sqrt(d / heads),    d = attention_size, for each head n

    Source: Vaswani et al. 2017, sec. 3.2.1 and 3.2.2; a departure: the biases b and c.
    Raises: as `Score`.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int, heads: int = 1) -> None:
        super().__init__(heads, features=features, hidden_size=hidden_size, attention_size=attention_size)
        self.key = nn.Linear(features, attention_size)
        self.query = nn.Linear(hidden_size, attention_size)
        self.scale = (attention_size // heads) ** -0.5

    def forward(self, queries: Queries, keys: Keys) -> Scores:
        return dot_products(self.query(queries) * self.scale, keys, self.heads)


class Dot(Score):
    """The product of query and region; nothing is learned.

        score_i = q_n . (a_i)_n    for each head n

    Source: Luong et al. 2015, sec. 3.1 (dot).
    Raises: as `Score`, and ArgumentError, a region of another size than a query.
    """

    def __init__(self, features: int, hidden_size: int, heads: int = 1) -> None:
        super().__init__(heads, features=features, hidden_size=hidden_size)
        if features != hidden_size:
            raise ArgumentError(
                "features",
                f"({features} units, of a region) and hidden_size ({hidden_size} units, of a query) must be equal for a dot product; "
                "use attention/score=bilinear, which learns a matrix between the two, or scaled_dot, which projects both",
            )
        self.key = nn.Identity()

    def forward(self, queries: Queries, keys: Keys) -> Scores:
        return dot_products(queries, keys, self.heads)


class Bilinear(Score):
    """The product of a query and a projected region.

        score_i = q_n . (W a_i)_n    for each head n;    q^T W a_i with one head

    Source: Luong et al. 2015, sec. 3.1 (general). Raises: as `Score`.
    """

    def __init__(self, features: int, hidden_size: int, heads: int = 1) -> None:
        super().__init__(heads, features=features, hidden_size=hidden_size)
        self.key = nn.Linear(features, hidden_size, bias=False)

    def forward(self, queries: Queries, keys: Keys) -> Scores:
        return dot_products(queries, keys, self.heads)


class Cosine(Score):
    """The angle between a projected query and a projected region; their lengths play no part.

        score_i = s cos((W q)_n, (U a_i)_n)    for each head n

    A cosine alone cannot choose: a softmax of values in [-1, 1] gives no region more than e^2 times
    the weight of another. So s > 0 is learned, and starts at `scale`.
    Source: Graves et al. 2014, sec. 3.3.1 (eqs. 5 and 6), where each query brings an s of its own.
    Raises: as `Score`, and ArgumentError, a scale not positive.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int, scale: float = 10.0, heads: int = 1) -> None:
        super().__init__(heads, features=features, hidden_size=hidden_size, attention_size=attention_size)
        if scale <= 0:
            raise ArgumentError("scale", f"multiplies the cosine and must be positive, not {scale}")
        self.key = nn.Linear(features, attention_size, bias=False)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def keys(self, features: Float[Tensor, "images regions features"]) -> Keys:
        return self.unit_vectors(self.key(features))

    def forward(self, queries: Queries, keys: Keys) -> Scores:
        return dot_products(self.log_scale.exp() * self.unit_vectors(self.query(queries)), keys, self.heads)

    def unit_vectors(self, vectors: Float[Tensor, "*lead keys"]) -> Float[Tensor, "*lead keys"]:
        """The same directions, the part of each head at length one."""
        return nn.functional.normalize(vectors.unflatten(-1, (self.heads, -1)), dim=-1).flatten(-2)


def dot_products(queries: Float[Tensor, "images queries keys"], keys: Keys, heads: int) -> Scores:
    """The product of each part of a query with the same part of a key; with one head nothing is copied."""
    queries = queries.unflatten(-1, (heads, -1)).transpose(1, 2)  # (images heads queries units)
    keys = keys.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1)  # (images heads units regions)
    return (queries @ keys).transpose(1, 2)
