"""Images -> the tensors that a model reads, and which of the original pixels those are."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

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

    def training_pixels(self, image: Image.Image) -> UInt8[Tensor, "3 height width"]:
        """As `pixels`, but random with `augment`."""
        if not self.augment:
            return self.pixels(image)[0]
        image = to_rgb(image)
        pixels = functional.pil_to_tensor(self._resized(image, self._random_part(image.height, image.width)))
        return pixels.flip(-1) if bool(torch.rand(()) < self.flip) else pixels

    def augmented_pixels(self, pixels: UInt8[Tensor, "images 3 height width"]) -> UInt8[Tensor, "images 3 height width"]:
        """A batch of `pixels`, made random with `augment`."""
        if not self.augment:
            return pixels
        if self.crop_scale != (1.0, 1.0):
            pixels = torch.stack([self._resized(image, self._random_part(self.height, self.width)) for image in pixels])
        if self.flip == 0:
            return pixels
        return torch.where(self.random_flips(len(pixels))[:, None, None, None], pixels.flip(-1), pixels)

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


def _part(box: Box) -> Part:
    left, top, right, bottom = (int(edge) for edge in box)
    return top, left, bottom - top, right - left


def _pair(name: str, values: Sequence[Any]) -> tuple[Any, Any]:
    if len(values) != 2:
        raise ArgumentError(name, f"holds two numbers, not {list(values)}")
    return values[0], values[1]
