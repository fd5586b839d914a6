"""Self-attention over regions: what lies elsewhere in the image informs each region before any decoder looks."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner.encoders.encoder import Encoder
from captioner.errors import ArgumentError
from captioner.records import Regions

Features = Float[Tensor, "images regions features"]


class SelfAttention(Encoder):
    """Layers of multi-head self-attention over the regions of another encoder, its `trunk`.

        x = W a + b                                          the trunk's regions, projected to `features`
        x = x + attend(norm(x)),   x = x + W2 relu(W1 norm(x))          `layers` times
        regions = norm(x)

    Each of `heads` parts attends by softmax(q k / sqrt(features / heads)) v. Where a region lies is told by `place_waves`, added to what
    makes queries and keys and not to values. A region that `mask` forbids neither gives nor takes: no other region attends to it, and it
    attends to none. Regions that move together with their cells keep their results. `hidden` is the width of W1; `dropout` is applied to
    attention weights, to both branches and inside the second.

    The trunk keeps its own `weights`, `frozen` and stages, and its `images` count (every encoder's configuration states them, so they are
    an argument here too); the layers always learn. Where the trunk is frozen its regions may be
    held (`base`), and the layers run on what was held.
    Source: Vaswani et al. 2017, sec. 3.2 and 3.3; positions at every layer's queries and keys after Carion et al. 2020, app. A.4.
    Departures: norm before each branch and once at the end (Xiong et al. 2020), where both norm after.
    Raises: ArgumentError, a size or a number not positive, `features` no multiple of 4 or of heads, dropout outside [0, 1); nothing
    allowed.
    """

    receptive_field = None

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
            raise ArgumentError("features", f"must be a multiple of 4 (two waves for each axis) and of heads ({heads}), not {features}")
        if not 0 <= dropout < 1:
            raise ArgumentError("dropout", f"is a share in [0, 1), not {dropout}")
        self.trunk = trunk
        self.images = trunk.images
        self.features, self.stride = features, trunk.stride
        self.project = nn.Linear(trunk.features, features)
        self.layers = nn.ModuleList(_Layer(features, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(features)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        return self.finish(self.base(images))

    @property
    def base(self) -> Encoder:
        return self.trunk.base

    def finish(self, regions: Regions) -> Regions:
        """The layers, on regions of `base`."""
        regions = self.trunk.finish(regions)
        if regions.mask is not None and not regions.mask.any(-1).all():
            raise ArgumentError("mask", "forbids every region of an image, so there is nothing to attend to")
        x = self.project(regions.features)
        places = place_waves(regions.cells, self.features).to(x.dtype)
        for layer in self.layers:
            x = layer(x, places, regions.mask)
        return regions._replace(features=self.norm(x))

    @property
    def stages(self) -> tuple[str, ...] | None:
        """The trunk's, from the pixels up; None where it has none."""
        return getattr(self.trunk, "stages", None)

    def unfreeze(self, stage: str | int) -> list[nn.Parameter]:
        """Train the trunk's `stage` and all above it, as the trunk does."""
        unfreeze: Callable[[str | int], list[nn.Parameter]] = self.trunk.unfreeze  # type: ignore[assignment]
        return unfreeze(stage)


class _Layer(nn.Module):
    def __init__(self, features: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(2))
        self.query, self.key, self.value, self.output = (nn.Linear(features, features) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, features), nn.Dropout(dropout)
        )

    def forward(self, x: Features, places: Float[Tensor, "regions features"], mask: Bool[Tensor, "images regions"] | None) -> Features:
        x = x + self.attend(self.norms[0](x), places, mask)
        return x + self.feed_forward(self.norms[1](x))

    def attend(self, x: Features, places: Float[Tensor, "regions features"], mask: Bool[Tensor, "images regions"] | None) -> Features:
        query, key, value = (self.split(made) for made in (self.query(x + places), self.key(x + places), self.value(x)))
        allowed = None if mask is None else mask[:, None, None, :]
        rate = self.rate if self.training else 0.0
        heads = nn.functional.scaled_dot_product_attention(query, key, value, allowed, rate)
        found = nn.functional.dropout(self.output(heads.transpose(1, 2).flatten(2)), self.rate, self.training)
        return found if mask is None else found * mask[..., None]

    def split(self, x: Features) -> Float[Tensor, "images heads regions part"]:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def place_waves(cells: Float[Tensor, "regions 2"], features: int) -> Float[Tensor, "regions features"]:
    """Sines and cosines of where a region lies: half of the `features` tell its row, half its column.

        p = 2 pi (cell + 1/2) / cells along the axis,    sin and cos of p / 10000^(4 i / features),    i = 0 ... features / 4 - 1

    Places are shares of the grid, so one model reads grids of any size. Source: Carion et al. 2020, app. A.4, and its code's scaling to
    2 pi; departures: a cell counts by its centre, and sines and cosines lie in blocks, not in turn.
    """
    share = (cells + 0.5) / (cells.amax(0) + 1)
    rates = 10000.0 ** (-4 * torch.arange(features // 4, device=cells.device) / features)
    angles = (2 * math.pi * share)[..., None] * rates
    return torch.cat((angles.sin(), angles.cos()), -1).flatten(1)
