"""How well does region i answer the decoder?"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Score(nn.Module, ABC):
    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        """What of a region is compared with a query; computed once an image. Here the features themselves."""
        return features

    @abstractmethod
    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries regions"]: ...


class Additive(Score):
    """A small perceptron asks each region.

        score_i = v . tanh(U a_i + W q + b)

    `features` is the size of a region, `hidden_size` that of a query, `attention_size` that of the hidden layer.
    Source: Bahdanau et al. 2015, sec. 3.1 and A.1.2; the f_att of Xu et al. 2015, sec. 3.1.2.
    Raises: ValueError, a size not positive.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        check_sizes(features=features, hidden_size=hidden_size, attention_size=attention_size)
        self.key = nn.Linear(features, attention_size)
        self.query = nn.Linear(hidden_size, attention_size, bias=False)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        return self.key(features)

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries regions"]:
        return self.energy(torch.tanh(keys[:, None] + self.query(queries)[:, :, None])).squeeze(-1)


class ScaledDot(Score):
    """A scaled product of projected query and region.

        score_i = (W q) . (U a_i + b) / sqrt(d),    d = attention_size

    Source: Vaswani et al. 2017, sec. 3.2.1, with one head. Raises: ValueError, a size not positive.
    """

    def __init__(self, features: int, hidden_size: int, attention_size: int) -> None:
        super().__init__()
        check_sizes(features=features, hidden_size=hidden_size, attention_size=attention_size)
        self.key = nn.Linear(features, attention_size)
        self.query = nn.Linear(hidden_size, attention_size)
        self.scale = attention_size**-0.5

    def keys(self, features: Float[Tensor, "images regions features"]) -> Float[Tensor, "images regions keys"]:
        return self.key(features)

    def forward(
        self, queries: Float[Tensor, "images queries hidden"], keys: Float[Tensor, "images regions keys"]
    ) -> Float[Tensor, "images queries regions"]:
        return (self.query(queries) * self.scale) @ keys.transpose(1, 2)


def check_sizes(**sizes: int) -> None:
    """Raise ValueError, by name, unless each is a number of units."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} is a number of units and must be positive, not {size}")
