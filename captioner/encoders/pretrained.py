"""The base of the encoders of other libraries: weights, stages, and the mode of each part."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from captioner.bundle import load_state, read_tensors
from captioner.encoders.encoder import Encoder, as_regions
from captioner.encoders.stages import Network, StageMaps, as_maps, choose_maps, cut_network, join_maps, measure, recorded, stage_of
from captioner.errors import ArgumentError, InputError
from captioner.records import Regions

log = logging.getLogger(__name__)

TOLERANCE = 0.01
"""Means and deviations of pixels in 0..1 that differ by less are the same: 127 / 255 and 1 / 2."""


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

    `cut` is the last stage that is kept, by name or number; None keeps all. `stages` are strides in
    pixels, as in [16, 32]: the last maps of each stride are joined into one grid, that of the finest.
    Coarser maps are interpolated, the channels of all stand one behind the other, and what lies
    above the last of them is cut off. A linear layer on such regions (see `NormalisedRegions`) is
    the sum of a projection of each (Lin et al. 2017, sec. 3, without its convolutions).

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
        cut: str | int | None = None,
        stages: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if grid is not None and grid < 1:
            raise ArgumentError("grid", f"is a number of cells per side and must be positive, not {grid}")
        self.name, self.images = name, images
        network = self.network(name, weights == "default")
        network, self.joined = _chosen_stages(network, self.run, cut, stages)
        if features != network.features:
            raise ArgumentError("features", f"of {name} must be {network.features}, not {features}")
        if weights not in (None, "default"):
            _load(network, name, weights)
        if weights is not None:
            log.info("%s: %d tensors from %s", name, len(network.module.state_dict()), weights)
        self.features, self.stride, self.grid, self.channels_last = features, network.stride, grid, network.channels_last
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
    def run(self, module: nn.Module, images: Float[Tensor, "images 3 height width"]) -> Any:
        """What the model of `network` makes of images, as the library gives it."""

    @abstractmethod
    def maps(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features rows cols"]:
        """The model's last feature maps."""

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        maps = self.joined_maps(images) if self.joined else self.maps(images)
        return as_regions(maps if self.grid is None else nn.functional.adaptive_avg_pool2d(maps, self.grid))

    def joined_maps(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features rows cols"]:
        """The maps of the chosen stages on one grid."""
        module = self.get_submodule(self.part)
        with recorded(module, [maps.module for maps in self.joined]) as outputs:
            self.run(module, images)
        return join_maps([as_maps(outputs[maps.module], self.channels_last) for maps in self.joined])

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


def _chosen_stages(
    network: Network,
    run: Callable[[nn.Module, Tensor], Any],
    cut: str | int | None,
    strides: Sequence[int] | None,
) -> tuple[Network, tuple[StageMaps, ...]]:
    """The network up to the stages that are wanted, and the maps that are joined; none where the last ones are the regions.

    Raises: ArgumentError, no such stage, or no maps of such a stride.
    """
    if strides is not None and (not strides or len(set(strides)) < len(strides)):
        raise ArgumentError("stages", f"are different strides in pixels, as in [16, 32], not {list(strides)}")
    if cut is not None:
        names = tuple(network.stages)
        if str(cut) not in names and not (isinstance(cut, int) and 0 <= cut < len(names)):
            raise ArgumentError("cut", f"is the last stage that is kept, one of {', '.join(names)}, or its number from 0, not {cut!r}")
        network = cut_network(network, str(cut) if str(cut) in names else names[int(cut)])
    if cut is None and strides is None:
        return network, ()
    network.module.eval()
    measured = measure(network, lambda images: run(network.module, images))
    if strides is None:
        last = measured[-1] if measured else StageMaps("", network.stride, network.features)
        return network._replace(features=last.features, stride=last.stride), ()
    joined = choose_maps(measured, strides)
    top = max(joined, key=lambda maps: network.outputs.index(maps.module))
    network = cut_network(network, stage_of(network, top.module))
    return network._replace(features=sum(maps.features for maps in joined), stride=min(strides)), joined


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
