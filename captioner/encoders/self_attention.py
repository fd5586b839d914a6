"""Self-attention over regions: each region learns of the rest of the image."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner.encoders.encoder import Encoder
from captioner.errors import ArgumentError
from captioner.records import Regions

Features = Float[Tensor, "images regions features"]
Positions = Float[Tensor, "regions features"]
Mask = Bool[Tensor, "images regions"] | None


class SelfAttention(Encoder):
    """Layers of multi-head self-attention over the regions of another encoder, its `trunk`.

        x = W a + b                                          the trunk's regions, projected to `features`
        x = x + attend(norm(x)),   x = x + W2 relu(W1 norm(x))          `layers` times
        regions = norm(x)

    Each of `heads` attends by softmax(q k / sqrt(features / heads)) v. `position_encoding` is added
    to what makes queries and keys, and not to values. A region that `mask` forbids takes no part:
    no other region attends to it, and it attends to none. Regions that are permuted with their
    cells keep their results. `hidden` is the width of W1; `dropout` is applied to attention
    weights, to both branches and inside the second.

    The trunk has its own `weights`, `frozen` and stages, and its `images` count (each encoder's
    configuration has that key, so it is an argument here too). The layers are always trained. Where
    the trunk is frozen, its regions can be stored and the layers run on them.
    Source: Vaswani et al. 2017, sec. 3.2 and 3.3; positions at every layer's queries and keys after
    Carion et al. 2020, app. A.4. Departures: norm before each branch and once at the end (Xiong et
    al. 2020), where both norm after.
    Raises: ArgumentError, a size or a number not positive, `features` no multiple of 4 or of heads,
    dropout outside [0, 1); ValueError, a mask that forbids all regions of an image.
    """

    def __init__(
        self,
        trunk: Encoder,
        features: int,
        layers: int = 2,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.1,
        images: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        hidden = 4 * features if hidden is None else hidden
        for name, value in (("features", features), ("layers", layers), ("heads", heads), ("hidden", hidden)):
            if value < 1:
                raise ArgumentError(name, f"must be a positive whole number, not {value}")
        if features % 4 or features % heads:
            raise ArgumentError("features", f"must be a multiple of 4 (sine and cosine of two axes) and of heads ({heads}), not {features}")
        if not 0 <= dropout < 1:
            raise ArgumentError("dropout", f"is a share in [0, 1), not {dropout}")
        self.trunk = trunk
        self.images, self.stages, self.hold_statistics = trunk.images, trunk.stages, trunk.hold_statistics
        self.features, self.stride = features, trunk.stride
        self.project = nn.Linear(trunk.features, features)
        self.layers = nn.ModuleList(_Layer(features, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(features)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        return self.refine(self.backbone(images))

    @property
    def backbone(self) -> Encoder:
        return self.trunk.backbone

    def refine(self, regions: Regions) -> Regions:
        regions = self.trunk.refine(regions)
        if regions.mask is not None and not regions.mask.any(-1).all():
            raise ValueError("mask forbids all regions of an image, so there is nothing to attend to")
        x = self.project(regions.features)
        positions = position_encoding(regions.cells, self.features).to(x.dtype)
        for layer in self.layers:
            x = layer(x, positions, regions.mask)
        return regions._replace(features=self.norm(x))

    @property
    def needs_statistics(self) -> bool:
        return self.trunk.needs_statistics

    def learn_statistics(self, regions: Iterable[Regions]) -> None:
        self.trunk.learn_statistics(regions)

    def unfreeze(self, stage: str | int) -> list[nn.Parameter]:
        return self.trunk.unfreeze(stage)


class _Layer(nn.Module):
    def __init__(self, features: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(2))
        self.query, self.key, self.value, self.output = (nn.Linear(features, features) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, features), nn.Dropout(dropout)
        )

    def forward(self, x: Features, positions: Positions, mask: Mask) -> Features:
        x = x + self.attend(self.norms[0](x), positions, mask)
        return x + self.feed_forward(self.norms[1](x))

    def attend(self, x: Features, positions: Positions, mask: Mask) -> Features:
        # each of the three: images heads regions part
        projected = (self.query(x + positions), self.key(x + positions), self.value(x))
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        allowed = None if mask is None else mask[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        heads = nn.functional.scaled_dot_product_attention(query, key, value, allowed, dropout)
        output = self.output(heads.transpose(1, 2).flatten(2))  # images regions features
        output = nn.functional.dropout(output, self.dropout, self.training)
        return output if mask is None else output * mask[..., None]


def position_encoding(cells: Float[Tensor, "regions 2"], features: int) -> Positions:
    """Sines and cosines of a region's place: half of them encode its row, half its column.

        p = 2 pi (cell + 1/2) / cells along the axis,    sin and cos of p / 10000^(4 i / features),    i = 0 ... features / 4 - 1

    Places are shares of the grid, so one model reads grids of any size. Source: Carion et al. 2020,
    app. A.4, and its code's scaling to 2 pi; departures: a cell's place is its centre, and sines
    and cosines lie in blocks, not alternately.
    """
    share = (cells + 0.5) / (cells.amax(0) + 1)
    rates = 10000.0 ** (-4 * torch.arange(features // 4, device=cells.device) / features)
    angles = (2 * math.pi * share)[..., None] * rates
    return torch.cat((angles.sin(), angles.cos()), -1).flatten(1)
