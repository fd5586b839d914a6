"""Images -> regions: the base of every encoder, and the grid that regions lie on."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import ArgumentError
from captioner.records import Regions


class Encoder(nn.Module, ABC):
    """Turns images of any size into the paper's annotation vectors, one per cell of a grid."""

    features: int
    """Channels of a region."""
    stride: int
    """Pixels from one cell to the next, before any pooling to a fixed grid."""
    receptive_field: int | None = None
    """Side in pixels of the square that a region depends on; None: the whole image, or unknown."""
    images: Mapping[str, Any] | None = None
    """The `Transform` that it was made for: size, fit, mean, std and interpolation; None: any."""
    stages: tuple[str, ...] = ()
    """Parts that can be unfrozen one by one, from the pixels up; empty where all are trained."""
    hold_statistics: bool = False
    """Whether the batch-norm statistics of the stages that are trained stay as they are, too."""

    @abstractmethod
    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions: ...

    @property
    def frozen(self) -> bool:
        """True where no parameter is trained, so that regions can be computed once and stored."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    def stage_number(self, stage: str | int) -> int:
        """The index of a stage, from its name or index. Raises: ArgumentError, no such stage."""
        if str(stage) in self.stages:
            return self.stages.index(str(stage))
        if isinstance(stage, int) and 0 <= stage < len(self.stages):
            return stage
        raise ArgumentError("finetune_from", f"must be a stage ({', '.join(self.stages)}) or its number from 0, not {stage!r}")

    def unfreeze(self, stage: str | int) -> list[nn.Parameter]:
        """Train `stage` and all stages above it too from now on.

        Returns the parameters that it unfreezes. Raises: ArgumentError, no such stage.
        """
        raise ArgumentError("stage", f"must be one of the encoder's, and {type(self).__name__} has none, not {stage!r}")

    @property
    def needs_statistics(self) -> bool:
        """Whether `learn_statistics` must be called before the first training step."""
        return False

    def learn_statistics(self, regions: Iterable[Regions]) -> None:
        """Keep what is measured once on the backbone's regions of training images; nothing by default."""

    @property
    def backbone(self) -> "Encoder":
        """The part that reads pixels. Where it is frozen, its regions can be stored."""
        return self

    def refine(self, regions: Regions) -> Regions:
        """The regions from the backbone's: self(images) = self.refine(self.backbone(images))."""
        return regions


def grid_cells(rows: int, cols: int, device: torch.device | None = None) -> Float[Tensor, "regions 2"]:
    """(row, column) of each cell, row by row, in grid cells from zero."""
    row, col = torch.meshgrid(torch.arange(rows, device=device), torch.arange(cols, device=device), indexing="ij")
    return torch.stack((row.flatten(), col.flatten()), -1).float()


def as_regions(maps: Float[Tensor, "images features rows cols"]) -> Regions:
    """Feature maps as regions, row by row."""
    return Regions(maps.flatten(2).transpose(1, 2), grid_cells(maps.shape[2], maps.shape[3], maps.device))


def portable_config(config: Any) -> Any:
    """The configuration for a saved model: `weights` are null, since the tensors come with it."""
    if isinstance(config, Mapping):
        return {key: None if key == "weights" else portable_config(value) for key, value in config.items()}
    if isinstance(config, Sequence) and not isinstance(config, str | bytes):
        return [portable_config(value) for value in config]
    return config


def backbone_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of an encoder's configuration that describes its `backbone`."""
    return backbone_config(config["trunk"]) if "trunk" in config else config
