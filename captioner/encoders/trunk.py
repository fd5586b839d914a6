"""torchvision's classification trunks, cut before pooling: convolutional ones, and vision transformers of patches or windows."""

import difflib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from captioner.bundle import load_state, read_tensors
from captioner.encoders.encoder import as_regions
from captioner.encoders.staged import Staged
from captioner.encoders.vit import PatchMaps
from captioner.errors import ArgumentError, InputError
from captioner.records import Regions

log = logging.getLogger(__name__)


class _Cut(NamedTuple):
    trunk: nn.Module
    """Images -> maps, its children under the names that they have in torchvision's model."""
    stages: dict[str, tuple[str, ...]]
    """What freezes and thaws together, from the pixels up: name -> modules (and single parameters)."""
    stride: int


def _cut_resnet(model: nn.Module) -> _Cut:
    stem, layers = ("conv1", "bn1", "relu", "maxpool"), ("layer1", "layer2", "layer3", "layer4")
    parts = OrderedDict((name, model.get_submodule(name)) for name in stem + layers)
    return _Cut(nn.Sequential(parts), {"stem": stem, **{name: (name,) for name in layers}}, 32)


def _cut_features(model: nn.Module) -> _Cut:
    features = model.get_submodule("features")
    stages: dict[str, tuple[str, ...]] = {name: (f"features.{name}",) for name, _ in features.named_children()}
    return _Cut(nn.Sequential(OrderedDict(features=features)), stages, 32)


def _cut_vgg(model: nn.Module) -> _Cut:
    """Without the last max pool: conv5's 14x14x512 of a 224x224 image, as in Xu et al. 2015, sec. 4.3."""
    features = model.get_submodule("features")
    if not isinstance(features, nn.Sequential) or not isinstance(features[-1], nn.MaxPool2d):
        raise TypeError("torchvision's vgg no longer ends in a max pool")
    kept = features[:-1]
    stages: dict[str, tuple[str, ...]] = {}
    block = 1
    for name, layer in kept.named_children():
        stages[f"conv{block}"] = (*stages.get(f"conv{block}", ()), f"features.{name}")
        block += isinstance(layer, nn.MaxPool2d)
    return _Cut(nn.Sequential(OrderedDict(features=kept)), stages, 16)


def _cut_regnet(model: nn.Module) -> _Cut:
    parts = OrderedDict((name, model.get_submodule(name)) for name in ("stem", "trunk_output"))
    blocks = {name: (f"trunk_output.{name}",) for name, _ in parts["trunk_output"].named_children()}
    return _Cut(nn.Sequential(parts), {"stem": ("stem",), **blocks}, 32)


def _cut_swin(model: nn.Module) -> _Cut:
    """With its last norm, which learns with the last stage."""
    parts = OrderedDict((name, model.get_submodule(name)) for name in ("features", "norm", "permute"))
    stages: dict[str, tuple[str, ...]] = {name: (f"features.{name}",) for name, _ in parts["features"].named_children()}
    stages[str(len(stages) - 1)] += ("norm",)
    return _Cut(nn.Sequential(parts), stages, 32)


def _cut_vit(model: nn.Module) -> _Cut:
    """The class token and the position embeddings freeze and thaw with the patches' projection."""
    trunk = PatchMaps(model)
    layers = [name for name, _ in trunk.encoder.layers.named_children()]
    stages: dict[str, tuple[str, ...]] = {"patches": ("conv_proj", "class_token", "encoder.pos_embedding")}
    stages |= {f"layer{number}": (f"encoder.layers.{name}",) for number, name in enumerate(layers, 1)}
    stages[f"layer{len(layers)}"] += ("encoder.ln",)
    return _Cut(trunk, stages, trunk.patch)


_CUTS = {
    "resnet": _cut_resnet,
    "resnext": _cut_resnet,
    "wide_resnet": _cut_resnet,
    "vgg": _cut_vgg,
    "mobilenet_v": _cut_features,
    "efficientnet_": _cut_features,
    "convnext_": _cut_features,
    "regnet_": _cut_regnet,
    "swin_": _cut_swin,
    "vit_b_": _cut_vit,
    "vit_l_": _cut_vit,
}
"""Beginning of torchvision's name -> how that family is cut."""


def trunk_names() -> list[str]:
    """Every name that `Trunk` takes."""
    return [name for name in torchvision.models.list_models(module=torchvision.models) if name.startswith(tuple(_CUTS))]


class Trunk(Staged):
    """A torchvision trunk up to its last convolution (or norm), frozen, or trained from one of its stages on.

    `name` is torchvision's, of the families resnet (resnext, wide_resnet), vgg, mobilenet_v2/v3, efficientnet (v2), convnext, regnet,
    swin (v2) and vit_b, vit_l (see `PatchMaps`: the tokens of patches are the regions); `features`, the channels of a region, is stated
    by the caller and held to the trunk. `weights`: "default" downloads torchvision's own (once, to its cache), None leaves them random,
    a path reads a `.safetensors` or `.pth` state dict of the torchvision model, whose classifier is passed over. `images` says what
    images the weights want, as `torchvision.models.get_model_weights(name).DEFAULT.transforms()` has it.

    `stages` are counted from the pixels: stem, layer1 ... layer4 of a resnet; stem, block1 ... block4 of a regnet; conv1 ... conv5 of a
    vgg; patches, layer1 ... layer12 (24) of a vit; 0, 1, ... of the others. `finetune_from`, by name or number, trains that stage and
    all above it; otherwise `frozen` says for all. A frozen stage is always in evaluation mode (see `Staged`). `hold_statistics` holds the
    batch-norm statistics of trained stages too (their weights still learn), right for small batches and for weights with batch norm
    folded in; false for training from random weights. `grid` pools to grid x grid cells by adaptive averages (the paper's 14x14 from
    trunks of stride 32 repeats cells); None keeps the trunk's own.
    Raises: ArgumentError, an unknown name or stage, `features` not the trunk's, a grid not positive; InputError, weights that cannot be
    had or do not fit.
    """

    receptive_field = None

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
        self.images = images
        if name not in trunk_names():
            near = difflib.get_close_matches(name, trunk_names(), 3) or ["resnet50", "vgg16", "mobilenet_v2"]
            raise ArgumentError("name", f"must be a torchvision trunk, for instance {', '.join(near)}, not {name!r}")
        if grid is not None and grid < 1:
            raise ArgumentError("grid", f"is a number of cells a side and must be positive, not {grid}")
        model = torchvision.models.get_model(name, weights=None)
        ignored = set(model.state_dict())
        cut = next(cut for start, cut in _CUTS.items() if name.startswith(start))(model)
        self.trunk = cut.trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.features, self.stride, self.grid = features, cut.stride, grid
        _check_features(name, features, self.trunk)
        if weights is not None:
            _load(self.trunk, name, weights, ignored)
        self.arrange("trunk", cut.stages, frozen, finetune_from, hold_statistics)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        maps = self.trunk(images.contiguous(memory_format=torch.channels_last))
        if self.grid is not None:
            maps = nn.functional.adaptive_avg_pool2d(maps, self.grid)
        return as_regions(maps)


def _check_features(name: str, features: int, trunk: nn.Module) -> None:
    last = [layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d | nn.LayerNorm)][-1]
    actual = last.out_channels if isinstance(last, nn.Conv2d) else last.normalized_shape[0]
    if features != actual:
        raise ArgumentError("features", f"of {name} must be {actual}, not {features}")


def _load(trunk: nn.Module, name: str, weights: str | Path, ignored: set[str]) -> None:
    where = f"{weights} (weights of {name})"
    tensors: Mapping[str, Any] = _download(name) if weights == "default" else read_tensors(weights, f"weights of {name}")
    own = trunk.state_dict()
    kept = {key: tensor for key, tensor in tensors.items() if key in own or key not in ignored}
    counters = {key: tensor for key, tensor in own.items() if key.endswith("num_batches_tracked") and key not in kept}
    load_state(trunk, kept | counters, where)
    log.info("%s: %d tensors from %s", name, len(kept), weights)


def _download(name: str) -> Mapping[str, Any]:
    choice = torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    try:
        return choice.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # URLError and HTTPError are OSErrors; a broken download is a RuntimeError
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"the weights of {name} could not be downloaded from {choice.url} ({reason}); "
            "pass encoder.weights=PATH to a .safetensors or .pth state dict, or encoder.weights=null for random ones, "
            "or choose encoder=small, which learns from nothing"
        ) from None
