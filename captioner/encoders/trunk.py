"""torchvision's classification models, convolutional ones and transformers, cut before pooling."""

import difflib
import re
from collections import OrderedDict
from collections.abc import Sequence

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from captioner.encoders.pretrained import Network, PretrainedEncoder, downloading
from captioner.encoders.vit import PatchMaps
from captioner.errors import ArgumentError

Stages = dict[str, tuple[str, ...]]
Cut = tuple[nn.Module, Stages, int]
"""(images -> maps, with torchvision's names; stages, as `Network` has them; stride)."""


def _sequence(model: nn.Module, names: Sequence[str]) -> nn.Sequential:
    return nn.Sequential(OrderedDict((name, model.get_submodule(name)) for name in names))


def _children(trunk: nn.Module, parent: str) -> Stages:
    """One stage for each child of a module, under the child's name."""
    return {name: (f"{parent}.{name}",) for name, _ in trunk.get_submodule(parent).named_children()}


def _cut_resnet(model: nn.Module) -> Cut:
    stem, layers = ("conv1", "bn1", "relu", "maxpool"), ("layer1", "layer2", "layer3", "layer4")
    return _sequence(model, stem + layers), {"stem": stem, **{name: (name,) for name in layers}}, 32


def _cut_features(model: nn.Module) -> Cut:
    trunk = _sequence(model, ["features"])
    return trunk, _children(trunk, "features"), 32


def _cut_vgg(model: nn.Module) -> Cut:
    """Without the last max pool: conv5's 14x14x512 of 224x224 pixels (Xu et al. 2015, sec. 4.3)."""
    features = model.get_submodule("features")
    if not isinstance(features, nn.Sequential) or not isinstance(features[-1], nn.MaxPool2d):
        raise TypeError("torchvision's vgg no longer ends in a max pool")
    stages: Stages = {}
    block = 1
    for name, layer in features[:-1].named_children():
        stages[f"conv{block}"] = (*stages.get(f"conv{block}", ()), f"features.{name}")
        block += isinstance(layer, nn.MaxPool2d)
    return nn.Sequential(OrderedDict(features=features[:-1])), stages, 16


def _cut_regnet(model: nn.Module) -> Cut:
    trunk = _sequence(model, ["stem", "trunk_output"])
    return trunk, {"stem": ("stem",), **_children(trunk, "trunk_output")}, 32


def _cut_swin(model: nn.Module) -> Cut:
    """With its last norm, which belongs to the last stage."""
    trunk = _sequence(model, ["features", "norm", "permute"])
    stages = _children(trunk, "features")
    stages[str(len(stages) - 1)] += ("norm",)
    return trunk, stages, 32


def _cut_vit(model: nn.Module) -> Cut:
    """Class token and positions belong to the patches' stage, the last norm to the last layer's."""
    trunk = PatchMaps(model)
    stages: Stages = {"patches": ("conv_proj", "class_token", "encoder.pos_embedding")}
    for number, layer in enumerate(_children(trunk, "encoder.layers").values(), 1):
        stages[f"layer{number}"] = layer
    stages[f"layer{len(stages) - 1}"] += ("encoder.ln",)
    return trunk, stages, trunk.patch


_CUTS = {
    "(wide_)?(resnet|resnext)": _cut_resnet,
    "vgg": _cut_vgg,
    "mobilenet_v|efficientnet_|convnext_": _cut_features,
    "regnet_": _cut_regnet,
    "swin_": _cut_swin,
    "vit_[bl]_": _cut_vit,
}
"""Pattern of the beginning of torchvision's names -> how the models of that family are cut."""


def trunk_names() -> list[str]:
    """Every name that `Trunk` takes."""
    names = torchvision.models.list_models(module=torchvision.models)
    return [name for name in names if any(re.match(family, name) for family in _CUTS)]


class Trunk(PretrainedEncoder):
    """A torchvision model up to its last convolution or norm (arguments: see `PretrainedEncoder`).

    Its families are resnet (resnext, wide_resnet), vgg, mobilenet_v2/v3, efficientnet (v2),
    convnext, regnet, swin (v2), and vit_b and vit_l, whose regions are the tokens of patches (see
    `PatchMaps`). `images`: see `torchvision.models.get_model_weights(name).DEFAULT.transforms()`.

    Stages: stem, layer1 ... layer4 of a resnet; stem, block1 ... block4 of a regnet; conv1 ...
    conv5 of a vgg; patches, layer1 ... layer12 (24) of a vit; 0, 1, ... of the others.
    """

    part = "trunk"
    trunk: nn.Module

    def network(self, name: str, pretrained: bool) -> Network:
        if name not in trunk_names():
            near = difflib.get_close_matches(name, trunk_names(), 3) or ["resnet50", "vgg16", "mobilenet_v2"]
            raise ArgumentError("name", f"must be a torchvision trunk, for instance {', '.join(near)}, not {name!r}")
        model = torchvision.models.get_model(name, weights=None)
        if pretrained:
            weights = torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
            with downloading(name, f" from {weights.url}"):
                state = weights.get_state_dict(progress=True, check_hash=True)
            model.load_state_dict(state)
        tensors = frozenset(model.state_dict())
        trunk, stages, stride = next(cut for family, cut in _CUTS.items() if re.match(family, name))(model)
        trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        modules = dict(trunk.named_modules())
        outputs = () if isinstance(trunk, PatchMaps) else tuple(parts[-1] for parts in stages.values() if parts[-1] in modules)
        return Network(trunk, _width(trunk), stride, stages, tensors, {}, outputs, channels_last=name.startswith("swin_"))

    def run(self, module: nn.Module, images: Float[Tensor, "images 3 height width"]) -> Tensor:
        return module(images.contiguous(memory_format=torch.channels_last))

    def maps(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features rows cols"]:
        return self.run(self.trunk, images)


def _width(trunk: nn.Module) -> int:
    """Channels that the last convolution or norm of a trunk gives."""
    last = [layer for layer in trunk.modules() if isinstance(layer, nn.Conv2d | nn.LayerNorm)][-1]
    return last.out_channels if isinstance(last, nn.Conv2d) else last.normalized_shape[0]
