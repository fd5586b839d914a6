"""Images -> the tensors that a model reads, and which of the original pixels those are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from captioner.box import Box, scaled_box
from captioner.data.images import original_size
from captioner.data.pixels import to_rgb
from captioner.errors import ArgumentError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS = ("crop", "squash")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
MAX_SIZE = 2**14
"""Pixels per side; no encoder takes nearly as many."""
Part = tuple[int, int, int, int]
"""(top, left, rows, columns) in pixels, as torchvision crops."""


class Views(NamedTuple):
    """What was seen of the images of a training batch."""

    boxes: Float[Tensor, "images 4"]
    """(left, top, right, bottom) as shares of what the model reads when nothing is random; parts may lie outside."""
    mirrored: Bool[Tensor, " images"]
    """Whether that part was mirrored, left to right, after it was cut."""


@dataclass(unsafe_hash=True)
class Transform:
    """Resizes to one size in eight bits, then normalises: (pixels / 255 - mean) / std.

    size: in pixels, one number (a square) or [height, width].
    fit: `crop`, the largest centred part of the image with the model's aspect ratio (the same as
        resizing the shorter side and cropping the centre, but in whole original pixels, so that the
        box is exact); `squash`, the whole image, aspect ratio not kept.
    augment: in training a random part of the image (`crop_scale`: least and greatest share of its
        area; `crop_ratio`: of width to height), mirrored with probability `flip`.
    flip: 0 where captions say left or right, or describe text, since a mirrored image makes them
        false. Drawn scenes need 0; for photos 0.5 is usual and makes about 1 caption in 200 false.

    Random numbers are torch's. Raises: ArgumentError, an argument out of its range.
    """

    size: int | Sequence[int] = 224
    fit: str = "crop"
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    augment: bool = False
    flip: float = 0.5
    crop_scale: Sequence[float] = (0.6, 1.0)
    crop_ratio: Sequence[float] = (3 / 4, 4 / 3)
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        self.height: int
        self.width: int
        self.height, self.width = (self.size, self.size) if isinstance(self.size, int) else _pair("size", self.size)
        self.size = self.height, self.width
        self.mean, self.std = tuple(map(float, self.mean)), tuple(map(float, self.std))
        self.flip = float(self.flip)
        self.crop_scale, self.crop_ratio = _pair("crop_scale", self.crop_scale), _pair("crop_ratio", self.crop_ratio)
        self._check()
        # pixels * scale + shift = (pixels / 255 - mean) / std
        self._scale = torch.tensor([1 / (255 * std) for std in self.std])[:, None, None]
        self._shift = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)])[:, None, None]

    def _check(self) -> None:
        size = [self.height, self.width]
        if any(int(side) != side or not 1 <= side <= MAX_SIZE for side in size):
            raise ArgumentError("size", f"is in pixels, whole, from 1 to {MAX_SIZE}, not {size}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ArgumentError("mean", f"and std hold three numbers in 0..1, std above zero, not {list(self.mean)} and {list(self.std)}")
        if not 0 <= self.flip <= 1:
            raise ArgumentError("flip", f"is a probability, not {self.flip}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ArgumentError("crop_scale", f"is [least, greatest] share of the image's area in (0, 1], not {list(self.crop_scale)}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ArgumentError("crop_ratio", f"is [least, greatest] width / height, positive, not {list(self.crop_ratio)}")
        for name, value, choices in (("fit", self.fit, FITS), ("interpolation", self.interpolation, INTERPOLATIONS)):
            if value not in choices:
                raise ArgumentError(name, f"is one of {', '.join(choices)}, not {value!r}")

    def box(self, width: int, height: int) -> Box:
        """The part of an image of this size that the model reads when nothing is random."""
        if self.fit == "squash":
            return 0.0, 0.0, float(width), float(height)
        scale = min(width / self.width, height / self.height)
        cols, rows = min(width, max(1, round(scale * self.width))), min(height, max(1, round(scale * self.height)))
        left, top = (width - cols) // 2, (height - rows) // 2
        return float(left), float(top), float(left + cols), float(top + rows)

    def pixels(self, image: Image.Image) -> tuple[UInt8[Tensor, "3 height width"], Box]:
        """The model's input before it is normalised, and its box in the original photo."""
        image = to_rgb(image)
        box = self.box(*image.size)
        return functional.pil_to_tensor(self._resized(image, _part(box))), scaled_box(box, image.size, original_size(image))

    def _resized(self, image: Any, part: Part) -> Any:
        """A part of an image, or of its pixels, at the model's size."""
        size = [self.height, self.width]
        if functional.get_size(image) == size and part == (0, 0, *size):
            return image
        return functional.resized_crop(image, *part, size, InterpolationMode(self.interpolation), antialias=True)

    def prepare(self, image: Image.Image) -> tuple[Float[Tensor, "3 height width"], Box]:
        """The model's input, and its box in the original photo."""
        pixels, box = self.pixels(image)
        return self.normalise(pixels[None])[0], box

    def training_view(self, image: Image.Image) -> tuple[UInt8[Tensor, "3 height width"], Views]:
        """As `pixels`, but random with `augment`; and what of the image it is."""
        if not self.augment:
            return self.pixels(image)[0], whole_views(1)
        image = to_rgb(image)
        part = self._random_part(image.height, image.width)
        pixels = functional.pil_to_tensor(self._resized(image, part))
        mirrored = torch.rand(1) < self.flip
        left, top, right, bottom = self.box(*image.size)
        seen = (part[1] - left, part[0] - top, part[1] + part[3] - left, part[0] + part[2] - top)
        sides = torch.tensor([right - left, bottom - top]).repeat(2)
        return pixels.flip(-1) if bool(mirrored) else pixels, Views(torch.tensor([seen]) / sides, mirrored)

    def augmented_views(self, pixels: UInt8[Tensor, "images 3 height width"]) -> tuple[UInt8[Tensor, "images 3 height width"], Views]:
        """A batch of `pixels`, made random with `augment`; and what of each image it is."""
        views = whole_views(len(pixels))
        if not self.augment:
            return pixels, views
        if self.crop_scale != (1.0, 1.0):
            parts = [self._random_part(self.height, self.width) for _ in pixels]
            pixels = torch.stack([self._resized(image, part) for image, part in zip(pixels, parts, strict=True)])
            edges = torch.tensor([(left, top, left + cols, top + rows) for top, left, rows, cols in parts])
            views = views._replace(boxes=edges / torch.tensor([self.width, self.height] * 2))
        if self.flip == 0:
            return pixels, views
        mirrored = self.random_flips(len(pixels))
        return torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels), views._replace(mirrored=mirrored)

    def random_flips(self, images: int) -> Bool[Tensor, " images"]:
        """Which images of a training batch are mirrored: none without `augment`."""
        return torch.rand(images) < (self.flip if self.augment else 0.0)

    def _random_part(self, height: int, width: int) -> Part:
        """A random part of an image of this size."""
        if self.crop_scale == (1.0, 1.0):
            return _part(self.box(width, height))
        crop = v2.RandomResizedCrop((self.height, self.width), self.crop_scale, self.crop_ratio)
        part = crop.make_params([torch.empty(1, height, width, device="meta")])
        return part["top"], part["left"], part["height"], part["width"]

    def normalise(self, pixels: UInt8[Tensor, "images 3 height width"]) -> Float[Tensor, "images 3 height width"]:
        return pixels.float().mul_(self._scale.to(pixels.device)).add_(self._shift.to(pixels.device))

    def to_json(self) -> dict[str, Any]:
        """The configuration that `build` makes an equal transform of."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {"_target_": "captioner.data.transforms.Transform", **values}


def whole_views(images: int) -> Views:
    """All that the model reads when nothing is random."""
    return Views(torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(images, -1), torch.zeros(images, dtype=torch.bool))


def _part(box: Box) -> Part:
    left, top, right, bottom = (int(edge) for edge in box)
    return top, left, bottom - top, right - left


def _pair(name: str, values: Sequence[Any]) -> tuple[Any, Any]:
    if len(values) != 2:
        raise ArgumentError(name, f"holds two numbers, not {list(values)}")
    return values[0], values[1]
