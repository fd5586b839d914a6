"""How well does region i answer the decoder?"""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import ArgumentError

UNITS_AT_ONCE = 2**19
"""Units of the additive score's hidden layer that are made in one piece on a processor."""


class Score(nn.Module, ABC):
    heads: int = 1
    """Parts that the compared units are split into, each with scores of its own."""

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        """What of a region is compared with a query; computed once an image. Here the features themselves."""
        return features

    @abstractmethod
    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries heads regions"]: ...


class Additive(Score):
    """A small perceptron asks each region.

        score_i = v . tanh(U a_i + W q + b);    head n sums over its part of the hidden layer

    On a processor as 2 v . sigmoid(2 (U a_i + W q + b)) - sum(v), which is the same and computed six times faster, in pieces that stay in
    the cache; not in half precision, where the subtraction would cost digits.
    `features` is the size of a region, `hidden_size` that of a query, `attention_size` that of the hidden layer.
    Source: Bahdanau et al. 2015, sec. 3.1 and A.1.2; the f_att of Xu et al. 2015, sec. 3.1.2; the concat of Luong et al. 2015, sec. 3.1,
    whose one matrix [W; U] reads query and region side by side. The bias b is from the code of Xu et al.; several heads are our own.
    Raises: ArgumentError, a size not positive or not divided by `heads`.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int, heads: int = 1) -> None:
        super().__init__()
        check_sizes(heads, features=features, hidden_size=hidden_size, attention_size=attention_size)
        self.heads = heads
        self.key = nn.Linear(features, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        return self.key(features)

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries heads regions"]:
        asked = self.query(queries)
        parts = torch.block_diag(*self.energy.weight[0].chunk(self.heads))
        if asked.device.type != "cpu" or asked.dtype in (torch.bfloat16, torch.float16) or torch.compiler.is_compiling():
            return nn.functional.linear(torch.tanh(keys[:, None] + asked[:, :, None]), parts).movedim(-1, 2)
        images = max(1, UNITS_AT_ONCE // (asked.shape[1] * keys.shape[1] * keys.shape[2]))
        pieces = zip((2 * asked).split(images), keys.split(images), strict=True)
        layers = (torch.add(query[:, :, None], key[:, None], alpha=2).sigmoid_() for query, key in pieces)
        return (torch.cat([nn.functional.linear(layer, 2 * parts) for layer in layers]) - parts.sum(-1)).movedim(-1, 2)


class ScaledDot(Score):
    """A scaled product of projected query and region.

        score_i = (W q + c)_n . (U a_i + b)_n / sqrt(d / heads),    d = attention_size, for each head n

    Source: Vaswani et al. 2017, sec. 3.2.1 and 3.2.2; a departure: the biases b and c.
    Raises: ArgumentError, a size not positive or not divided by `heads`.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int, heads: int = 1) -> None:
        super().__init__()
        check_sizes(heads, features=features, hidden_size=hidden_size, attention_size=attention_size)
        self.heads = heads
        self.key = nn.Linear(features, attention_size)
        self.query = nn.Linear(hidden_size, attention_size)
        self.scale = (attention_size // heads) ** -0.5

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        return self.key(features)

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries heads regions"]:
        return products(self.query(queries) * self.scale, keys, self.heads)


class Dot(Score):
    """The product of query and region, as they are.

        score_i = q_n . a_i,n    for each head n

    A product needs one size: where a region has another than a query, a learned matrix brings it there, and this is `Bilinear`.
    Source: Luong et al. 2015, sec. 3.1 (dot). Raises: ArgumentError, a size not positive or not divided by `heads`.
    """

    def __init__(self, features: int, hidden_size: int, heads: int = 1) -> None:
        super().__init__()
        check_sizes(heads, features=features, hidden_size=hidden_size)
        self.heads = heads
        self.key = nn.Identity() if features == hidden_size else nn.Linear(features, hidden_size, bias=False)

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        return self.key(features)

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries heads regions"]:
        return products(queries, keys, self.heads)


class Bilinear(Score):
    """A learned form of query and region.

        score_i = q_n . (W a_i)_n    for each head n;    q^T W a_i with one

    Source: Luong et al. 2015, sec. 3.1 (general). Raises: ArgumentError, a size not positive or not divided by `heads`.
    """

    def __init__(self, features: int, hidden_size: int, heads: int = 1) -> None:
        super().__init__()
        check_sizes(heads, features=features, hidden_size=hidden_size)
        self.heads = heads
        self.key = nn.Linear(features, hidden_size, bias=False)

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        return self.key(features)

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries heads regions"]:
        return products(queries, keys, self.heads)


class Cosine(Score):
    """The angle between projected query and region; their lengths play no part.

        score_i = s cos((W q)_n, (U a_i)_n)    for each head n

    A cosine alone chooses little: a softmax of values in [-1, 1] gives no region more than e^2 times another's weight. So s > 0 is
    learned, and starts at `scale`. Source: Graves et al. 2014, sec. 3.3.1 (eqs. 5 and 6), where s comes anew with every query.
    Raises: ArgumentError, a size not positive or not divided by `heads`, a scale not positive.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int, scale: float = 10.0, heads: int = 1) -> None:
        super().__init__()
        check_sizes(heads, features=features, hidden_size=hidden_size, attention_size=attention_size)
        if scale <= 0:
            raise ArgumentError("scale", f"multiplies the cosine and must be positive, not {scale}")
        self.heads = heads
        self.key = nn.Linear(features, attention_size, bias=False)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        return self.directions(self.key(features))

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries heads regions"]:
        return products(self.log_scale.exp() * self.directions(self.query(queries)), keys, self.heads)

    def directions(self, vectors: Float[Tensor, "*lead keys"]) -> Float[Tensor, "*lead keys"]:
        """Each head's part at length one."""
        return nn.functional.normalize(vectors.unflatten(-1, (self.heads, -1)), dim=-1).flatten(-2)


def products(
    queries: Float[Tensor, "images queries keys"], keys: Float[Tensor, "images regions keys"], heads: int
) -> Float[Tensor, "images queries heads regions"]:
    """The inner product of each part of a query with the same part of a key; with one head nothing is copied."""
    asked = queries.unflatten(-1, (heads, -1)).transpose(1, 2)
    return (asked @ keys.unflatten(-1, (heads, -1)).permute(0, 2, 3, 1)).transpose(1, 2)


def check_sizes(heads: int, **sizes: int) -> None:
    """Raise ValueError, by name, unless each is a number of units, and the last, which is split, a multiple of `heads`."""
    for name, size in {"heads": heads, **sizes}.items():
        if size < 1:
            raise ArgumentError(name, f"is a number of {'parts' if name == 'heads' else 'units'} and must be positive, not {size}")
    name, size = list(sizes.items())[-1]
    if size % heads:
        raise ArgumentError("heads", f"splits {name}, {size} units, into equal parts, and must divide it, not {heads}")
