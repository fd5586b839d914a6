"""A small convolutional trunk that trains from nothing."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.encoders.encoder import Encoder, as_regions, receptive_field
from captioner.records import Regions


class SmallConv(Encoder):
    """A stage a width: a 3x3 convolution of stride two, then `blocks` residual 3x3 convolutions; batch norm and ReLU after each.

        96x96 pixels -> 12x12 cells of 8 pixels, each seeing 31x31 pixels (three stages, one block in the last)

    Batch norm and not group norm: its statistics are constants in evaluation, so a region truly sees its receptive field and no more.
    With `coordinates`, a learned linear of where the cell is, (row, col) scaled to -1..1 and two octaves of their sines and
    cosines, is added to each region, so that a decoder can tell left from right: a departure from Xu et al. 2015, whose annotation
    vectors know their place only as far as the trunk's zero padding tells them.
    Raises: ValueError, widths or blocks not positive or of unequal number, or `features` not the last width.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128),
        blocks: Sequence[int] = (0, 0, 1),
        coordinates: bool = True,
        features: int | None = None,
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"channels are the stages' widths and must be positive, not {list(channels)}")
        if len(blocks) != len(channels) or min(blocks) < 0:
            raise ValueError(f"blocks must be {len(channels)} counts from zero, one a stage, not {list(blocks)}")
        if features not in (None, channels[-1]):
            raise ValueError(f"features must be the last stage's width, {channels[-1]}, not {features}")
        self.features = channels[-1]
        layers: list[nn.Module] = []
        for before, width, count in zip((3, *channels), channels, blocks, strict=False):
            layers += [_Convolution(before, width, stride=2), *(_Residual(width) for _ in range(count))]
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.receptive_field, self.stride = receptive_field([(3, 2 if isinstance(layer, _Convolution) else 1) for layer in layers])
        self.position = nn.Linear(_COORDINATES, self.features, bias=False) if coordinates else None

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        maps = self.layers(images.contiguous(memory_format=torch.channels_last))
        regions = as_regions(maps)
        if self.position is None:
            return regions
        return regions._replace(features=regions.features + self.position(place_features(regions.cells)))


_COORDINATES = 10


def place_features(cells: Float[Tensor, "regions 2"]) -> Float[Tensor, "regions places"]:
    """(row, col) scaled to -1..1 over the grid, with sin and cos of pi and 2 pi times it: 10 numbers a cell."""
    last = cells.amax(0).clamp(min=1)
    place = 2 * cells / last - 1
    waves = [wave(octave * math.pi * place) for octave in (1, 2) for wave in (torch.sin, torch.cos)]
    return torch.cat((place, *waves), -1)


class _Convolution(nn.Sequential):
    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__(nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Float[Tensor, "images features rows cols"]) -> Float[Tensor, "images features rows cols"]:
        return torch.relu(maps + self.norm(self.convolution(maps)))
