"""The base of the encoders of other libraries: weights, stages, and the mode of each part."""

import logging
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captioner.bundle import load_state, read_tensors
from captioner.encoders.encoder import Encoder, as_regions
from captioner.errors import ArgumentError, InputError
from captioner.records import Regions

log = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Means and deviations of pixels in 0..1 that differ by less are the same: 127 / 255 and 1 / 2."""


class Network(NamedTuple):
    """A model of another library without its classifier."""

    module: nn.Module
    features: int
    stride: int
    stages: Mapping[str, Sequence[str]]
    """Stage -> names of its modules and parameters within `module`, in order from the pixels up."""
    tensors: frozenset[str]
    """Names of the whole model's tensors, those of its classifier included."""
    images: Mapping[str, Any]
    """The `size`, `mean` and `std` of the weights' training, where the library says them."""


class PretrainedEncoder(Encoder):
    """A model of another library, frozen, or trained from one of its stages on.

    `name` is the library's name of the model. `features`, the channels of a region, must be the
    model's. `weights`: "default" downloads the library's (once, to its cache), None leaves them
    random, a path reads a `.safetensors` or `.pth` state dict of the library's model, whose
    classifier is ignored. `images` are those that the weights were trained on; their mean and
    deviation must be those that the library says, where it says them, and their size becomes the
    library's.

    `finetune_from` trains the stage of that name or number and all stages above it; where it is
    None, `frozen` decides for all. A part in which no parameter is trained is always in evaluation
    mode, from construction on and whatever `train` is called with: its weights and its statistics
    do not change, and its dropout is off. With `hold_statistics` the batch norms of trained stages
    are in evaluation mode too (their weights are still trained), which is right for small batches
    and for weights with batch norm folded in; false is right for random weights. A part without
    parameters has the mode of the smallest part around it that has some.

    `grid` pools the maps to grid x grid cells by adaptive averages (the paper's 14x14 from a model
    of stride 32 repeats cells); None keeps the model's grid.
    Raises: ArgumentError, an unknown name or stage, `features` or `images` not the model's, a grid
    not positive; InputError, weights that cannot be downloaded or read, or do not fit.
    """

    part: ClassVar[str]
    """The attribute that holds the model, which begins the names of its tensors."""

    def __init__(
        self,
        name: str,
        features: int,
        weights: str | Path | None = "default",
        frozen: bool = True,
        finetune_from: str | int | None = None,
        grid: int | None = None,
        hold_statistics: bool = True,
        images: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if grid is not None and grid < 1:
            raise ArgumentError("grid", f"is a number of cells per side and must be positive, not {grid}")
        network = self.network(name, weights == "default")
        if features != network.features:
            raise ArgumentError("features", f"of {name} must be {network.features}, not {features}")
        if weights not in (None, "default"):
            _load(network, name, weights)
        if weights is not None:
            log.info("%s: %d tensors from %s", name, len(network.module.state_dict()), weights)
        self.name, self.features, self.stride, self.grid = name, features, network.stride, grid
        self.images = images if images is None or weights is None else _trained_images(network, name, images)
        self.add_module(self.part, network.module)
        self.stages, self.hold_statistics = tuple(network.stages), hold_statistics
        self._prefixes = {stage: tuple(f"{self.part}.{part}." for part in parts) for stage, parts in network.stages.items()}
        self.requires_grad_(False)
        if finetune_from is not None or not frozen:
            self.unfreeze(0 if finetune_from is None else finetune_from)
        self.train(self.training)

    @abstractmethod
    def network(self, name: str, pretrained: bool) -> Network:
        """The model of that name, with the library's weights or with random ones."""

    @abstractmethod
    def maps(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features rows cols"]:
        """The model's last feature maps."""

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        maps = self.maps(images)
        return as_regions(maps if self.grid is None else nn.functional.adaptive_avg_pool2d(maps, self.grid))

    def unfreeze(self, stage: str | int) -> list[nn.Parameter]:
        prefixes = tuple(prefix for name in self.stages[self.stage_number(stage) :] for prefix in self._prefixes[name])
        named = [(f"{name}.", parameter) for name, parameter in self.named_parameters()]
        unfrozen = [parameter for name, parameter in named if not parameter.requires_grad and name.startswith(prefixes)]
        for parameter in unfrozen:
            parameter.requires_grad_(True)
        self.train(self.training)
        return unfrozen

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """As in PyTorch, but what is frozen or held stays in evaluation mode."""
        super().train(mode)
        for child in self.children():
            _hold(child, self.hold_statistics)
        return self


def _hold(part: nn.Module, statistics: bool) -> None:
    """Put frozen parts, and with `statistics` all batch norms, in evaluation mode."""
    trained = [parameter.requires_grad for parameter in part.parameters()]
    if (trained and not any(trained)) or (statistics and isinstance(part, _BatchNorm)):
        part.eval()
    elif trained:
        for child in part.children():
            _hold(child, statistics)


def _trained_images(network: Network, name: str, images: Mapping[str, Any]) -> dict[str, Any]:
    """`images` with the library's size. Raises: ArgumentError, its mean or deviation is another."""
    library = network.images
    compared = library.keys() & images.keys() & {"mean", "std"}
    wrong = [key for key in sorted(compared) if any(abs(a - b) > TOLERANCE for a, b in zip(images[key], library[key], strict=True))]
    if wrong:
        expected = " ".join(f"images.{key}={list(library[key])}".replace(", ", ",") for key in wrong)
        raise ArgumentError("images", f"of {name} must be those of its weights: {expected}")
    return {**images, "size": library.get("size", images.get("size"))}


def _load(network: Network, name: str, path: str | Path) -> None:
    """Load a file of weights, which may have a classifier and may lack counters of batches."""
    state = network.module.state_dict()
    tensors = read_tensors(path, f"weights of {name}")
    loaded = {key: tensor for key, tensor in tensors.items() if key in state or key not in network.tensors}
    counters = {key: tensor for key, tensor in state.items() if key.endswith("num_batches_tracked") and key not in loaded}
    load_state(network.module, loaded | counters, f"{path} (weights of {name})")


@contextmanager
def downloading(name: str, source: str = "") -> Iterator[None]:
    """A download of weights. Raises: InputError, it fails; says in one line what to do instead."""
    try:
        yield
    except Exception as error:  # a download fails in every way there is
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"the weights of {name} could not be downloaded{source} ({reason}); pass encoder.weights=PATH to a .safetensors or .pth "
            "state dict, or encoder.weights=null for random ones, or choose encoder=small, which is trained from random weights"
        ) from None
