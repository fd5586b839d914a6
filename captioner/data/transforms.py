"""Images -> the tensors a model sees, and back: which of the original pixels those are."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from captioner.box import Box
from captioner.data.images import original_size
from captioner.data.pixels import to_rgb
from captioner.errors import ArgumentError, InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS = ("crop", "squash")
LARGEST = 2**14
"""Pixels of a side, which no encoder comes near."""


class Transform:
    """To one size, eight bits; then normalised: (pixels / 255 - mean) / std.

    size: pixels, one number (square) or [height, width].
    fit: `crop`, the largest centred part of the image with the model's aspect ratio (what resizing the shorter side and a centre
        crop give, cut out in whole original pixels, so that `Box` is exact); `squash`, the whole image, aspect ratio not kept.
    augment: in training a random part of the image (`crop_scale`: least and greatest share of its area; `crop_ratio`: of width to
        height) instead of the fit, mirrored with probability `flip`.
    flip: 0 where captions say left or right (or text is read): a mirrored image makes them false. Drawn scenes need 0; for photos
        0.5 is usual and costs about 1 caption in 200.

    Random numbers are torch's. Raises: ArgumentError, an argument out of its range.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 224,
        fit: str = "crop",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        augment: bool = False,
        flip: float = 0.5,
        crop_scale: Sequence[float] = (0.6, 1.0),
        crop_ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
    ) -> None:
        self.height: int
        self.width: int
        self.height, self.width = (size, size) if isinstance(size, int) else _pair("size", size)
        self.fit, self.augment, self.flip, self.interpolation = fit, augment, float(flip), interpolation
        self.mean, self.std = tuple(float(x) for x in mean), tuple(float(x) for x in std)
        self.crop_scale, self.crop_ratio = _pair("crop_scale", crop_scale), _pair("crop_ratio", crop_ratio)
        self._check()
        self._resample = InterpolationMode(interpolation)
        # pixels * scale + shift = (pixels / 255 - mean) / std
        self._scale = torch.tensor([1 / (255 * std) for std in self.std])[:, None, None]
        self._shift = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)])[:, None, None]

    def _check(self) -> None:
        if int(self.height) != self.height or int(self.width) != self.width or min(self.height, self.width) < 1:
            raise ArgumentError("size", f"is in pixels, whole and positive, not {[self.height, self.width]}")
        if max(self.height, self.width) > LARGEST:
            raise ArgumentError("size", f"is in pixels and at most {LARGEST}, not {[self.height, self.width]}")
        if self.fit not in FITS:
            raise ArgumentError("fit", f"is one of {', '.join(FITS)}, not {self.fit!r}")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ArgumentError("mean", f"and std hold three numbers in 0..1, std above zero, not {list(self.mean)} and {list(self.std)}")
        if not 0 <= self.flip <= 1:
            raise ArgumentError("flip", f"is a probability, not {self.flip}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ArgumentError("crop_scale", f"is [least, greatest] share of the image's area in (0, 1], not {list(self.crop_scale)}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ArgumentError("crop_ratio", f"is [least, greatest] width / height, positive, not {list(self.crop_ratio)}")
        if self.interpolation not in ("nearest", "bilinear", "bicubic"):
            raise ArgumentError("interpolation", f"is nearest, bilinear or bicubic, not {self.interpolation!r}")

    def box(self, width: int, height: int) -> Box:
        """What the model sees of an image of this size when nothing is random."""
        if self.fit == "squash":
            return 0.0, 0.0, float(width), float(height)
        scale = min(width / self.width, height / self.height)
        part = min(width, max(1, round(scale * self.width))), min(height, max(1, round(scale * self.height)))
        left, top = (width - part[0]) // 2, (height - part[1]) // 2
        return float(left), float(top), float(left + part[0]), float(top + part[1])

    def pixels(self, image: Image.Image) -> tuple[UInt8[Tensor, "3 height width"], Box]:
        """The model's view in eight bits, not normalised, and the original pixels it covers."""
        image = to_rgb(image)
        box = self.box(*image.size)
        return functional.pil_to_tensor(self._cut(image, box)), _in_original(box, image)

    def _cut(self, image: Image.Image, box: Box) -> Image.Image:
        if image.size == (self.width, self.height) and box == (0.0, 0.0, float(self.width), float(self.height)):
            return image
        left, top, right, bottom = (int(edge) for edge in box)
        size = [self.height, self.width]
        return functional.resized_crop(image, top, left, bottom - top, right - left, size, self._resample, antialias=True)

    def evaluate(self, image: Image.Image) -> tuple[Float[Tensor, "3 height width"], Box]:
        pixels, box = self.pixels(image)
        return self.normalise(pixels[None])[0], box

    def train(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        return self.normalise(self.train_pixels(image)[None])[0]

    def train_pixels(self, image: Image.Image) -> UInt8[Tensor, "3 height width"]:
        """One view as in training (without `augment`: the view of `pixels`), in eight bits."""
        if not self.augment:
            return self.pixels(image)[0]
        image = to_rgb(image)
        width, height = image.size
        top, left, rows, cols = self._random_part(height, width)
        pixels = functional.pil_to_tensor(self._cut(image, (left, top, left + cols, top + rows)))
        return pixels.flip(-1) if bool(torch.rand(()) < self.flip) else pixels

    def augmented(self, pixels: UInt8[Tensor, "images 3 height width"]) -> UInt8[Tensor, "images 3 height width"]:
        """A batch of views, as `pixels` gives, made random as in training; without `augment` it is handed back as it is."""
        if not self.augment:
            return pixels
        if self.crop_scale != (1.0, 1.0):
            pixels = torch.stack([self._random_view(one) for one in pixels])
        if self.flip == 0:
            return pixels
        return torch.where(self.flips(len(pixels))[:, None, None, None], pixels.flip(-1), pixels)

    def _random_view(self, pixels: UInt8[Tensor, "3 height width"]) -> UInt8[Tensor, "3 height width"]:
        part = self._random_part(self.height, self.width)
        return functional.resized_crop(pixels, *part, [self.height, self.width], self._resample, antialias=True)

    def flips(self, images: int) -> Bool[Tensor, " images"]:
        """Which images of a training batch are mirrored: none without `augment`."""
        return torch.rand(images) < (self.flip if self.augment else 0.0)

    def _random_part(self, height: int, width: int) -> tuple[int, int, int, int]:
        if self.crop_scale == (1.0, 1.0):
            left, top, right, bottom = (int(edge) for edge in self.box(width, height))
            return top, left, bottom - top, right - left
        chooser = v2.RandomResizedCrop((self.height, self.width), self.crop_scale, self.crop_ratio)
        part = chooser.make_params([torch.empty(1, height, width, device="meta")])
        return part["top"], part["left"], part["height"], part["width"]

    def normalise(self, pixels: UInt8[Tensor, "images 3 height width"]) -> Float[Tensor, "images 3 height width"]:
        return pixels.float().mul_(self._scale.to(pixels.device)).add_(self._shift.to(pixels.device))

    def to_json(self) -> dict[str, Any]:
        """What `from_json`, or any builder of `_target_`s, makes an equal transform of."""
        return {
            "_target_": "captioner.data.transforms.Transform",
            "size": [self.height, self.width],
            "fit": self.fit,
            "mean": list(self.mean),
            "std": list(self.std),
            "augment": self.augment,
            "flip": self.flip,
            "crop_scale": list(self.crop_scale),
            "crop_ratio": list(self.crop_ratio),
            "interpolation": self.interpolation,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Transform":
        """Raises: InputError, the record is not what `to_json` writes."""
        try:
            return cls(**{key: value for key, value in record.items() if key != "_target_"})
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(f"transform: {error}") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Transform) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(repr(self.to_json()))

    def __repr__(self) -> str:
        return f"Transform({', '.join(f'{key}={value!r}' for key, value in self.to_json().items() if key != '_target_')})"


def _in_original(box: Box, image: Image.Image) -> Box:
    """The box in the pixels of the photo that a large image was read from at a smaller scale."""
    across, down = (original / own for original, own in zip(original_size(image), image.size, strict=True))
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _pair(name: str, values: Sequence[Any]) -> tuple[Any, Any]:
    if len(values) != 2:
        raise ArgumentError(name, f"holds two numbers, not {list(values)}")
    return values[0], values[1]
