"""EfficientNet-Lite 0 to 4, which torchvision does not have: accurate for their size, and quick on a processor."""

import difflib
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.encoders.pretrained import Network, PretrainedEncoder, downloading
from captioner.errors import ArgumentError

IMAGES = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
RELEASE = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/tf_efficientnet_"
EPSILON = 1e-3
STEM, HEAD = 32, 1280
"""Channels, the same in every size."""

Maps = Float[Tensor, "images _ _ _"]


class Size(NamedTuple):
    """One of the family: what multiplies channels and layers, and the end of its weights' file name."""

    width: float
    depth: float
    file: str


SIZES = {
    "efficientnet_lite0": Size(1.0, 1.0, "lite0-0aa007d2.pth"),
    "efficientnet_lite1": Size(1.0, 1.1, "lite1-bde8b488.pth"),
    "efficientnet_lite2": Size(1.1, 1.2, "lite2-dcccb7df.pth"),
    "efficientnet_lite3": Size(1.2, 1.4, "lite3-b733e338.pth"),
    "efficientnet_lite4": Size(1.4, 1.8, "lite4-741542c3.pth"),
}


class Group(NamedTuple):
    """Inverted bottlenecks of one kind; the first of them has the stride."""

    layers: int
    kernel: int
    stride: int
    expansion: int
    channels: int


GROUPS = (
    Group(1, 3, 1, 1, 16),
    Group(2, 3, 2, 6, 24),
    Group(2, 5, 2, 6, 40),
    Group(3, 3, 2, 6, 80),
    Group(3, 5, 1, 6, 112),
    Group(4, 5, 2, 6, 192),
    Group(1, 3, 1, 6, 320),
)
"""Of EfficientNet-B0 (Tan and Le 2019, table 1)."""


class EfficientNetLite(PretrainedEncoder):
    """EfficientNet-Lite without its pooling and classifier (arguments: see `PretrainedEncoder`).

    `name` is efficientnet_lite0 ... efficientnet_lite4. The network is EfficientNet without
    squeeze-and-excitation, with ReLU6 in the place of swish, and with a stem and a head of the same
    width in every size, so that it is quick on processors and can be quantised. Weights have the
    names and the padding of timm's `tf_efficientnet_lite0` and so on, which were converted from
    those of the authors (Apache 2.0). Pixels are normalised by mean 127/255 and deviation 128/255.
    Stages: stem, 0 ... 6, head.
    Source: Tan and Le 2019, table 1 and sec. 3.3 (width and depth); Tan's note on EfficientNet-Lite
    in the repository of the authors, 2020.
    """

    part = "trunk"
    trunk: "LiteNetwork"

    def network(self, name: str, pretrained: bool) -> Network:
        if name not in SIZES:
            near = difflib.get_close_matches(name, SIZES, 1, 0.0)[0]
            raise ArgumentError("name", f"is one of {', '.join(SIZES)}, not {name!r}; did you mean {near}?")
        size = SIZES[name]
        trunk = LiteNetwork(size.width, size.depth)
        if pretrained:
            address = RELEASE + size.file
            with downloading(name, f" from {address}"):
                state = torch.hub.load_state_dict_from_url(address, check_hash=True, weights_only=True)
            trunk.load_state_dict({key: value for key, value in state.items() if not key.startswith("classifier.")})
        tensors = frozenset(trunk.state_dict()) | {"classifier.weight", "classifier.bias"}
        trunk.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        blocks = {str(number): (f"blocks.{number}",) for number in range(len(GROUPS))}
        stages = {"stem": ("conv_stem", "bn1"), **blocks, "head": ("conv_head", "bn2")}
        outputs = tuple(f"blocks.{number}" for number in range(len(GROUPS)))
        return Network(trunk, HEAD, 32, stages, tensors, dict(IMAGES), outputs)

    def run(self, module: nn.Module, images: Float[Tensor, "images 3 height width"]) -> Tensor:
        return module(images.contiguous(memory_format=torch.channels_last))

    def maps(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features rows cols"]:
        return self.run(self.trunk, images)


class LiteNetwork(nn.Module):
    """Stem, seven groups of inverted bottlenecks, and a 1x1 convolution to 1,280 channels.

    The first and the last group have one layer in every size.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        self.conv_stem = SameConvolution(3, STEM, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(STEM, EPSILON)
        groups: list[nn.Module] = []
        channels = STEM
        for number, group in enumerate(GROUPS):
            layers = group.layers if number in (0, len(GROUPS) - 1) else math.ceil(group.layers * depth)
            out = scaled_channels(group.channels, width)
            parts: list[nn.Module] = []
            for layer in range(layers):
                stride = group.stride if layer == 0 else 1
                if group.expansion == 1:
                    parts.append(SeparableConvolution(channels, out, group.kernel, stride))
                else:
                    parts.append(InvertedBottleneck(channels, out, group.kernel, stride, group.expansion))
                channels = out
            groups.append(nn.Sequential(*parts))
        self.blocks = nn.Sequential(*groups)
        self.conv_head = nn.Conv2d(channels, HEAD, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(HEAD, EPSILON)

    def forward(self, images: Maps) -> Maps:
        x = self.blocks(nn.functional.relu6(self.bn1(self.conv_stem(images))))
        if isinstance(self.conv_head, nn.Identity):  # cut off: the last group's output is linear
            return x
        return nn.functional.relu6(self.bn2(self.conv_head(x)))


class SeparableConvolution(nn.Module):
    """A convolution per channel, then one across channels, which is linear (Sandler et al. 2018, sec. 3.1)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConvolution(channels, channels, kernel, stride, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels, EPSILON)
        self.conv_pw = nn.Conv2d(channels, out, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out, EPSILON)
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Maps) -> Maps:
        y = nn.functional.relu6(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.shortcut else y


class InvertedBottleneck(nn.Module):
    """Channels are multiplied by `expansion` for a convolution per channel (Sandler et al. 2018, sec. 3.3)."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.conv_pw = nn.Conv2d(channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, EPSILON)
        self.conv_dw = SameConvolution(wide, wide, kernel, stride, groups=wide)
        self.bn2 = nn.BatchNorm2d(wide, EPSILON)
        self.conv_pwl = nn.Conv2d(wide, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out, EPSILON)
        self.shortcut = stride == 1 and channels == out

    def forward(self, x: Maps) -> Maps:
        y = nn.functional.relu6(self.bn1(self.conv_pw(x)))
        y = nn.functional.relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.shortcut else y


class SameConvolution(nn.Conv2d):
    """A convolution whose output has ceil(size / stride) cells, padded as TensorFlow pads.

    Of an odd number of zeros, the one more lies at the right and at the bottom.
    """

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, padding=kernel // 2 if stride == 1 else 0, groups=groups, bias=False)

    def forward(self, input: Maps) -> Maps:
        if self.stride[0] == 1:
            return super().forward(input)
        zeros = [max((math.ceil(side / self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side, 0) for side in input.shape[2:]]
        (top, bottom), (left, right) = ((number // 2, number - number // 2) for number in zeros)
        return super().forward(nn.functional.pad(input, (left, right, top, bottom)))


def scaled_channels(channels: int, width: float) -> int:
    """The multiple of eight that is nearest to channels * width, and at least nine tenths of it."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded
