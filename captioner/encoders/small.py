"""A small convolutional encoder that is trained from random weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.encoders.encoder import Encoder, as_regions
from captioner.errors import ArgumentError
from captioner.records import Regions

COORDINATES = 10
"""Numbers of a region that tell its place."""
MAX_BLOCKS = 1000
"""Residual blocks of a stage: more would take hours to build before anything refused them."""
Maps = Float[Tensor, "images features rows cols"]


class SmallConv(Encoder):
    """One stage per width: a strided convolution, then residual 3x3 ones, with batch norm and ReLU.

        96x96 pixels -> 12x12 cells of 8 pixels, each with a receptive field of 46x46 pixels (the defaults)

    Batch norm and not group norm: in evaluation its statistics are constants, so a region depends
    on its receptive field only. With `coordinates`, each region also has its place, 10 numbers
    after the channels (`coordinate_features`), so that a decoder can tell left from right. This is
    a departure from Xu et al. 2015, whose regions get their place from the zero padding only.
    `channels`, `kernels`, `strides` (in pixels of the stage before) and `blocks` (the number of
    residual convolutions) have one entry per stage. `features`, if not None, must be the last width
    plus the coordinates. `images` are those that it is made for.
    Raises: ArgumentError, entries out of range or of unequal number, a kernel smaller than its
    stride, `features` another number.
    """

    def __init__(
        self,
        channels: Sequence[int] = (48, 96),
        kernels: Sequence[int] = (6, 3),
        strides: Sequence[int] = (4, 2),
        blocks: Sequence[int] = (0, 2),
        coordinates: bool = True,
        features: int | None = None,
        images: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.images = images
        _check(channels, kernels, strides, blocks)
        self.coordinates = coordinates
        self.features = channels[-1] + COORDINATES * coordinates
        if features not in (None, self.features):
            raise ArgumentError("features", f"must be {self.features} (the last stage's width and any coordinates), not {features}")
        layers: list[nn.Module] = []
        sizes: list[tuple[int, int]] = []
        for before, width, kernel, stride, count in zip((3, *channels), channels, kernels, strides, blocks, strict=False):
            layers += [_convolution(before, width, kernel, stride), *(_Residual(width) for _ in range(count))]
            sizes += [(kernel, stride), *[(3, 1)] * count]
        self.layers = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.receptive_field, self.stride = receptive_field(sizes)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        regions = as_regions(self.layers(images.contiguous(memory_format=torch.channels_last)))
        if not self.coordinates:
            return regions
        places = coordinate_features(regions.cells).to(regions.features.dtype).expand(len(images), -1, -1)
        return regions._replace(features=torch.cat((regions.features, places), -1))


def coordinate_features(cells: Float[Tensor, "regions 2"]) -> Float[Tensor, "regions places"]:
    """(row, col) scaled to -1..1, and sin and cos of pi and 2 pi times it: 10 numbers per cell."""
    last = cells.amax(0).clamp(min=1)
    place = 2 * cells / last - 1
    waves = [wave(octave * math.pi * place) for octave in (1, 2) for wave in (torch.sin, torch.cos)]
    return torch.cat((place, *waves), -1)


def receptive_field(layers: list[tuple[int, int]]) -> tuple[int, int]:
    """(receptive field, stride) in pixels of consecutive `layers`, each (kernel, stride).

    field_n = field_{n-1} + (kernel_n - 1) * stride_1 ... stride_{n-1},    field_0 = 1
    """
    field, total = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * total
        total *= stride
    return field, total


def _check(channels: Sequence[int], kernels: Sequence[int], strides: Sequence[int], blocks: Sequence[int]) -> None:
    if not channels or min(channels) < 1:
        raise ArgumentError("channels", f"are the stages' widths and must be positive, not {list(channels)}")
    for name, values, least in (("kernels", kernels, 1), ("strides", strides, 1), ("blocks", blocks, 0)):
        if len(values) != len(channels) or min(values) < least:
            raise ArgumentError(name, f"must be {len(channels)} numbers from {least}, one per stage, not {list(values)}")
    if max(blocks) > MAX_BLOCKS:
        raise ArgumentError("blocks", f"are numbers of residual blocks and at most {MAX_BLOCKS}, not {list(blocks)}")
    if any(kernel < stride for kernel, stride in zip(kernels, strides, strict=True)):
        raise ArgumentError("kernels", f"must be at least the strides {list(strides)}, or pixels would be skipped, not {list(kernels)}")


def _convolution(before: int, width: int, kernel: int, stride: int) -> nn.Sequential:
    padding = (kernel - stride + 1) // 2
    return nn.Sequential(nn.Conv2d(before, width, kernel, stride, padding, bias=False), nn.BatchNorm2d(width), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Maps) -> Maps:
        return torch.relu(maps + self.norm(self.convolution(maps)))
