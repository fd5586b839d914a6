"""The stages of a network: cut it above one of them, or join the maps of several into one grid."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import ArgumentError

Maps = Float[Tensor, "images features rows cols"]


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
    outputs: tuple[str, ...] = ()
    """Names of the modules whose outputs are maps, from the pixels up; none where a stage gives tokens."""
    channels_last: bool = False
    """Whether those maps are (images rows cols features), as a swin transformer's are."""


class StageMaps(NamedTuple):
    """A module whose outputs are maps: pixels from one cell to the next, and channels."""

    module: str
    stride: int
    features: int


def cut_network(network: Network, last: str) -> Network:
    """The network up to its stage `last`: the stages above it pass on what they are given, and lose their parameters."""
    names = list(network.stages)
    kept = {name: network.stages[name] for name in names[: names.index(last) + 1]}
    above = tuple(f"{part}." for name in names[len(kept) :] for part in network.stages[name])
    _remove(network.module, "", above)
    outputs = tuple(name for name in network.outputs if not isinstance(network.module.get_submodule(name), nn.Identity))
    return network._replace(stages=kept, outputs=outputs)


def _remove(module: nn.Module, prefix: str, above: tuple[str, ...]) -> None:
    """Put an identity in the place of every module that the stages `above` name, or that has all its parameters there."""
    for name, child in module.named_children():
        inside = [f"{prefix}{name}.{parameter}." for parameter, _ in child.named_parameters()]
        if f"{prefix}{name}.".startswith(above) or (inside and all(parameter.startswith(above) for parameter in inside)):
            setattr(module, name, nn.Identity())
        elif inside:
            _remove(child, f"{prefix}{name}.", above)


def measure(network: Network, run: Callable[[Tensor], Any]) -> tuple[StageMaps, ...]:
    """Stride (a power of two) and channels of the maps of each of the network's `outputs`, by one look at a black image."""
    size = network.images.get("size") or 224
    rows, cols = (size, size) if isinstance(size, int) else size
    with torch.no_grad(), recorded(network.module, network.outputs) as outputs:
        run(torch.zeros(1, 3, rows, cols))
    shapes = {name: as_maps(output, network.channels_last).shape for name, output in outputs.items() if output.dim() == 4}
    return tuple(StageMaps(name, 2 ** round(math.log2(rows / shape[2])), shape[1]) for name, shape in shapes.items())


def choose_maps(measured: Sequence[StageMaps], strides: Iterable[int]) -> tuple[StageMaps, ...]:
    """The last maps of each stride, in the order of `strides`. Raises: ArgumentError, there are none of a stride."""
    last = {maps.stride: maps for maps in measured}
    for stride in strides:
        if stride not in last:
            there = f"the network has {', '.join(map(str, last))}" if last else "this network gives tokens, not maps"
            raise ArgumentError("stages", f"are numbers of pixels from one cell to the next; {there}, not {stride}")
    return tuple(last[stride] for stride in strides)


def stage_of(network: Network, module: str) -> str:
    """The highest stage that a module is in, or that has parameters inside it."""
    inside = [module, *(f"{module}.{name}" for name, _ in network.module.get_submodule(module).named_parameters())]
    stages = [
        stage for stage, parts in network.stages.items() if any(f"{name}.".startswith(f"{part}.") for part in parts for name in inside)
    ]
    return stages[-1]


@contextmanager
def recorded(module: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Inside, the outputs of the modules of these names are kept, by name, whenever `module` runs."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def as_maps(output: Tensor, channels_last: bool) -> Maps:
    return output.permute(0, 3, 1, 2) if channels_last else output


def join_maps(maps: Sequence[Float[Tensor, "images _ _ _"]]) -> Maps:
    """The channels of all maps on the grid of the finest, one behind the other; coarser maps are interpolated (bilinear)."""
    rows, cols = max((one.shape[2], one.shape[3]) for one in maps)
    return torch.cat(
        [
            one if one.shape[2:] == (rows, cols) else nn.functional.interpolate(one, (rows, cols), mode="bilinear", align_corners=False)
            for one in maps
        ],
        1,
    )
