"""Whatever stands for images where Python code hands them over: paths, PIL images, arrays, tensors, lists of these."""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioner.data.images import image_errors, open_image
from captioner.data.pixels import from_array, to_rgb
from captioner.errors import InputError

ACCEPTED = "expected a path, a PIL image, an array (height, width) or (height, width, channels), or a list of these"


def as_images(given: Any) -> tuple[Iterator[Image.Image], bool]:
    """(RGB images one after the other, whether `given` is a single one): a path, a PIL image, an array, a tensor (channels, height, width),
    or a list or another iterable of these.

    Deep numbers in arrays become eight bits by `pixels.black_white_points`. Raises: InputError, by name: anything else, at once where it
    is no list; UnreadableImageError, as `open_image`.
    """
    if _is_one(given):
        return iter([as_image(given)]), True
    if isinstance(given, bytes | bytearray | memoryview | dict | set | frozenset | io.IOBase) or not isinstance(given, Iterable):
        raise _refused("image", given)
    return (as_image(image, f"images[{number}]") for number, image in enumerate(given)), False


def as_image(given: Any, name: str = "image") -> Image.Image:
    """One RGB image of what `as_images` takes."""
    if isinstance(given, str | os.PathLike):
        return open_image(Path(os.fsdecode(given)))
    if isinstance(given, Image.Image):
        with image_errors(Path(getattr(given, "filename", "") or name)):
            return to_rgb(given)
    if _is_tensor(given):
        array = (given.float() if given.is_floating_point() else given).detach().cpu().numpy()
        if array.ndim == 3 and array.shape[0] not in (1, 3, 4):
            raise InputError(f"{name} is a tensor of shape {array.shape}; expected (channels, height, width) with 1, 3 or 4 channels")
        return from_array(array.transpose(1, 2, 0) if array.ndim == 3 else array, name)
    if isinstance(given, np.ndarray):
        return from_array(given, name)
    raise _refused(name, given)


def _is_one(given: Any) -> bool:
    if isinstance(given, np.ndarray) or _is_tensor(given):
        return given.ndim != 4  # that many are a batch
    return isinstance(given, str | os.PathLike | Image.Image)


def _is_tensor(given: Any) -> bool:
    torch = sys.modules.get("torch")  # not imported for this: without it there is no tensor
    return torch is not None and isinstance(given, torch.Tensor)


def _refused(name: str, given: Any) -> InputError:
    said = "None" if given is None else f"of type {type(given).__name__}"
    bytes_hint = "; open bytes with PIL.Image.open(io.BytesIO(...))" if isinstance(given, bytes | bytearray | memoryview) else ""
    return InputError(f"{name} is {said}; {ACCEPTED}{bytes_hint}")
