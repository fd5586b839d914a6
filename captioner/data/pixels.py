"""Pixels of every mode, depth and orientation -> RGB in eight bits, upright, over white."""

import logging
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image

from captioner.errors import InputError

log = logging.getLogger(__name__)

BIT_DEPTHS = (8, 10, 12, 14, 16)
"""Bits per pixel of cameras, scanners and X-ray machines."""
STRIP_PIXELS = 2**20
"""The number of pixels of a large image that are converted at a time."""
METADATA = frozenset(("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"))
"""Keys of Pillow's `info` that may hold an orientation."""
TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the method that makes the image upright."""
SIDEWAYS = frozenset(TRANSPOSES[orientation] for orientation in (5, 6, 7, 8))
"""Methods that exchange width and height."""


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB in eight bits, upright (EXIF), over white; of an animation, the current frame.

    Deep pixels (of more than eight bits) become eight bits by `black_white_points`. Colour profiles
    (ICC) are not applied.
    """
    image.load()
    return transpose(_eight_bits(image, None), upright_method(image))


def reduced_rgb(image: Image.Image, factor: int) -> tuple[Image.Image, bool]:
    """(`to_rgb` reduced by averages of blocks; whether width and height changed places).

    It converts strips, so that it needs little memory beside that of the decoded image.
    """
    image.load()
    method, points = upright_method(image), _points(image) if _is_deep(image) else None
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top, strip in _strips(image, factor):
        small.paste(_eight_bits(strip, points).reduce(factor), (0, top // factor))
    return transpose(small, method), method in SIDEWAYS


def from_array(values: Shaped[np.ndarray, "..."], name: str = "image") -> Image.Image:
    """RGB of an array (height, width) or (height, width, channels), grey or RGB, with alpha or not.

    Bytes stay as they are, booleans are black and white, and all other numbers become eight bits by
    `black_white_points` of all the image's colours. Raises: InputError, which begins with `name`:
    another shape or kind of number.
    """
    expected = "expected (height, width) or (height, width, channels) with 1 to 4 channels, the last of 2 or 4 being alpha"
    if values.ndim not in (2, 3) or 0 in values.shape or (values.ndim == 3 and values.shape[2] > 4):
        hint = "; channels come last" if values.ndim == 3 and 1 <= values.shape[0] <= 4 else ""
        raise InputError(f"{name} is an array of shape {values.shape}; {expected}{hint}")
    if values.dtype.kind not in "buif":
        raise InputError(f"{name} is an array of {values.dtype}; expected bytes, whole numbers, floating-point numbers or booleans")
    values = values[:, :, None] if values.ndim == 2 else values
    has_alpha = values.shape[2] in (2, 4)
    colours = _to_bytes(values[:, :, :-1] if has_alpha else values)
    colours = colours.repeat(3, axis=2) if colours.shape[2] == 1 else colours
    if not has_alpha:
        return Image.fromarray(np.ascontiguousarray(colours))
    return to_rgb(Image.fromarray(np.concatenate([colours, _to_bytes(values[:, :, -1:])], axis=2)))


def black_white_points(low: float, high: float, whole: bool) -> tuple[float, float]:
    """The values that become 0 and 255, for pixels from `low` to `high`; values beyond are cut off.

    Whole numbers in 0..65535: 0 and 2^d - 1, where d is the least of 8, 10, 12, 14 and 16 bits that
    can hold the greatest number, so that twelve bits in a file of sixteen have their true
    brightness. Floating-point numbers in -0.1..1.1: 0 and 1. Floating-point numbers in -25.5..280.5
    of which one is at least 25.5: 0 and 255 (resizing can overshoot by a tenth). All others: `low`
    and `high`.
    """
    if whole and low >= 0 and high <= 65535:
        return 0.0, 2.0 ** next(depth for depth in BIT_DEPTHS if high < 2**depth) - 1
    if not whole and low >= -0.1 and high <= 1.1:
        return 0.0, 1.0
    if not whole and low >= -25.5 and 25.5 <= high <= 280.5:
        return 0.0, 255.0
    return low, high


def upright_method(image: Image.Image) -> Image.Transpose | None:
    """The method that makes a loaded image upright; None: it is, or its EXIF data are damaged."""
    if not image.info.keys() & METADATA:
        return None
    try:
        return TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # damaged metadata fail in many ways; the pixels are sound
        log.warning("%s: EXIF data cannot be read (%s); it is taken as upright", getattr(image, "filename", "") or "an image", error)
        return None


def transpose(pixels: Image.Image, method: Image.Transpose | None) -> Image.Image:
    """Transposed, and without the metadata that would transpose it again; None: unchanged."""
    if method is None:
        return pixels
    transposed = pixels.transpose(method)
    for key in METADATA:
        transposed.info.pop(key, None)
    return transposed


def _eight_bits(image: Image.Image, points: tuple[float, float] | None) -> Image.Image:
    """RGB, not yet upright; `points` are those of the whole image where this is a part of one."""
    if _is_deep(image):
        return _deep_grey(image, points or _points(image))
    if image.mode == "La":  # premultiplied, which Pillow converts to nothing but LA
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if type(image) is Image.Image and image.mode == "RGB" else image.convert("RGB")


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _strips(image: Image.Image, multiple: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """(first row, strip) of each strip, whose number of rows is a multiple of `multiple`."""
    rows = max(1, STRIP_PIXELS // (image.width * multiple)) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _points(image: Image.Image) -> tuple[float, float]:
    """The black and white points of a deep grey image."""
    lows, highs = zip(*(_range(np.asarray(strip)) for _, strip in _strips(image)), strict=True)
    return black_white_points(min(lows), max(highs), image.mode != "F")


def _range(values: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
    """The least and the greatest finite value; 0 and 0 where none is finite."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _scale_to_bytes(values: Shaped[np.ndarray, "..."], black: float, white: float) -> UInt8[np.ndarray, "..."]:
    """`black` becomes 0, `white` 255 and NaN 0; where both points are the same, all become 128."""
    if not white > black:
        return np.full(values.shape, 128, np.uint8)
    share = (values.astype(np.float64) - black) * (255 / (white - black))
    return np.nan_to_num(share, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255).round().astype(np.uint8)


def _to_bytes(values: Shaped[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width channels"]:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    return _scale_to_bytes(values, *black_white_points(*_range(values), values.dtype.kind in "ui"))


def _deep_grey(image: Image.Image, points: tuple[float, float]) -> Image.Image:
    values = np.asarray(image)
    grey = _scale_to_bytes(values, *points)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.merge("RGB", [Image.fromarray(grey)] * 3)
