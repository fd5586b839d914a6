"""Regions that are normalised before anything looks at them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.encoders.encoder import Encoder
from captioner.errors import ArgumentError
from captioner.records import Regions

SMALLEST_DEVIATION = 1e-3
"""Added to a channel's deviation, so that a channel that never changes is not blown up."""


class NormalisedRegions(Encoder):
    """The regions of another encoder, its `trunk`, standardised, layer-normalised and projected.

        x = (a - mean) / (deviation + 0.001)     per channel, over the regions of training photos
        x = LayerNorm(x)                         per region, over its channels
        regions = relu(W dropout(x) + b)         `features` of them

    A trunk's channels differ in size by orders of magnitude, and a few large ones, which are alike
    all over the image, would drown the rest: without these steps the maps of a decoder on
    photographs stay nearly even. `standardise` and `layer_norm` switch the first two off. Mean and
    deviation are taken once, from training photos when training begins (`learn_statistics`), and are
    saved with the model. `dropout` is that of x's entries.

    The trunk has its own `weights`, `frozen` and stages, and its `images` count (each encoder's
    configuration has that key, so it is an argument here too). Layer norm and projection are always
    trained. Where the trunk is frozen, its regions can be stored and these steps run on them.
    Source of the layer norm: Ba et al. 2016, sec. 3. The rest is usual and has no source of its own.
    Raises: ArgumentError, features not positive, a dropout outside [0, 1).
    """

    mean: Tensor
    deviation: Tensor
    photos: Tensor

    def __init__(
        self,
        trunk: Encoder,
        features: int,
        standardise: bool = True,
        layer_norm: bool = True,
        dropout: float = 0.0,
        images: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if features < 1:
            raise ArgumentError("features", f"is a number of channels and must be positive, not {features}")
        if not 0 <= dropout < 1:
            raise ArgumentError("dropout", f"is a share in [0, 1), not {dropout}")
        self.trunk, self.features, self.stride, self.standardise = trunk, features, trunk.stride, standardise
        self.images, self.stages, self.hold_statistics = trunk.images, trunk.stages, trunk.hold_statistics
        self.register_buffer("mean", torch.zeros(trunk.features))
        self.register_buffer("deviation", torch.ones(trunk.features))
        self.register_buffer("photos", torch.zeros((), dtype=torch.long))
        self.norm = nn.LayerNorm(trunk.features) if layer_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.project = nn.Linear(trunk.features, features)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        return self.refine(self.backbone(images))

    @property
    def backbone(self) -> Encoder:
        return self.trunk.backbone

    @property
    def needs_statistics(self) -> bool:
        return self.standardise and not int(self.photos)

    @torch.no_grad()
    def learn_statistics(self, regions: Iterable[Regions]) -> None:
        """Take mean and deviation of each channel over all regions of training images."""
        count, photos = 0, 0
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for batch in regions:
            features = self.trunk.refine(batch).features
            photos += len(features)
            flat = features.flatten(0, 1).double()  # (images*regions features)
            count += len(flat)
            total += flat.sum(0)
            squares += flat.square().sum(0)
        mean = total / count
        self.mean.copy_(mean)
        self.deviation.copy_((squares / count - mean.square()).clamp_min(0).sqrt())
        self.photos.fill_(photos)

    def refine(self, regions: Regions) -> Regions:
        regions = self.trunk.refine(regions)
        x = regions.features
        if self.standardise:
            x = (x - self.mean) / (self.deviation + SMALLEST_DEVIATION)
        return regions._replace(features=torch.relu(self.project(self.drop(self.norm(x)))))

    def unfreeze(self, stage: str | int) -> list[nn.Parameter]:
        return self.trunk.unfreeze(stage)
