"""Images -> regions: the base of every encoder, and the grid that regions lie on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.records import Regions


class Encoder(nn.Module, ABC):
    """Turns prepared images into the paper's annotation vectors, one a cell of a grid whose size comes with the images."""

    features: int
    """Channels of a region."""
    stride: int
    """Pixels from one cell to the next, before any pooling to a fixed grid."""
    receptive_field: int | None
    """Pixels, square, that a region can depend on (border cut off); None where it is the whole image or unknown."""
    images: Mapping[str, Any] | None = None
    """What images it was made for: `size`, `fit`, `mean`, `std` and `interpolation`, as `Transform` has them; None where nobody said."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions: ...

    @property
    def frozen(self) -> bool:
        """True where nothing is trained, so that regions may be computed once and held."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    @property
    def base(self) -> "Encoder":
        """The part that sees pixels: its regions may be held where it is frozen, whatever learns in `finish`."""
        return self

    def finish(self, regions: Regions) -> Regions:
        """The regions of `base` made into those of the whole, `self(images) = self.finish(self.base(images))`; here they are the same."""
        return regions


def grid_cells(rows: int, cols: int, device: torch.device | None = None) -> Float[Tensor, "regions 2"]:
    """(row, column) of each cell, row by row, in grid cells from zero."""
    row, col = torch.meshgrid(torch.arange(rows, device=device), torch.arange(cols, device=device), indexing="ij")
    return torch.stack((row.flatten(), col.flatten()), -1).float()


def as_regions(maps: Float[Tensor, "images features rows cols"]) -> Regions:
    """Feature maps as regions, row by row."""
    return Regions(maps.flatten(2).transpose(1, 2), grid_cells(maps.shape[2], maps.shape[3], maps.device))


def receptive_field(layers: list[tuple[int, int]]) -> tuple[int, int]:
    """(receptive field, stride) in pixels of `layers` run one after another, each (kernel, stride).

    field_n = field_{n-1} + (kernel_n - 1) * stride_1 ... stride_{n-1},    field_0 = 1
    """
    field, jump = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * jump
        jump *= stride
    return field, jump


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder's configuration as a bundle keeps it: every `weights` null, for the tensors come with the bundle and paths do not."""
    return {key: None if key == "weights" else _portable_value(value) for key, value in config.items()}


def base_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of an encoder's configuration that describes its `base`."""
    return base_config(config["trunk"]) if "trunk" in config else config


def _portable_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return portable(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_portable_value(item) for item in value]
    return value
