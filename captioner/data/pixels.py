"""Pixels of every mode, depth and orientation -> RGB in eight bits, upright, over white."""

import logging
from collections.abc import Iterator

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import ExifTags, Image

from captioner.errors import InputError

log = logging.getLogger(__name__)

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras, scanners and X-ray machines use."""
STRIP = 2**20
"""So many pixels of a large image are converted at a time."""
METADATA = frozenset(("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"))
"""Where an orientation may stand."""
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what turns the image upright."""
SIDEWAYS = frozenset(TURNS[orientation] for orientation in (5, 6, 7, 8))


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB in eight bits, turned upright as the EXIF orientation says, transparency over white; of an animation, this frame.

    Deep pixels become eight bits by `black_and_white`. Colour profiles (ICC) are not applied.
    """
    image.load()
    return upright(_eight_bits(image, None), image)


def shrunk(image: Image.Image, factor: int) -> tuple[Image.Image, bool]:
    """(`to_rgb` at 1 / `factor` of the size, each pixel the mean of a block; whether it was turned on its side).

    Converted in strips, so that little memory is needed beside the decoded image's own.
    """
    image.load()
    turn, levels = orientation(image), _levels(image) if _is_deep(image) else None
    small = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top, strip in _strips(image, factor):
        small.paste(_eight_bits(strip, levels).reduce(factor), (0, top // factor))
    return (small, False) if turn is None else (_turned(small, turn), turn in SIDEWAYS)


def from_array(values: Shaped[np.ndarray, "..."], name: str = "image") -> Image.Image:
    """RGB of an array (height, width) or (height, width, channels): grey, grey and alpha, RGB, or RGB and alpha.

    Bytes are taken as they are, booleans are black and white, all other numbers become eight bits by `black_and_white`, over all
    colours of the image together. Raises: InputError, with `name`, another shape or kind of number.
    """
    expected = "expected (height, width) or (height, width, channels) with 1 to 4 channels, the last of 2 or 4 being alpha"
    if values.ndim not in (2, 3) or 0 in values.shape or (values.ndim == 3 and values.shape[2] > 4):
        hint = "; channels come last" if values.ndim == 3 and 1 <= values.shape[0] <= 4 else ""
        raise InputError(f"{name} is an array of shape {values.shape}; {expected}{hint}")
    if values.dtype.kind not in "buif":
        raise InputError(f"{name} is an array of {values.dtype}; expected bytes, whole numbers, floating-point numbers or booleans")
    values = values[:, :, None] if values.ndim == 2 else values
    has_alpha = values.shape[2] in (2, 4)
    colours = _bytes(values[:, :, :-1] if has_alpha else values)
    colours = colours.repeat(3, axis=2) if colours.shape[2] == 1 else colours
    if not has_alpha:
        return Image.fromarray(np.ascontiguousarray(colours))
    return to_rgb(Image.fromarray(np.concatenate([colours, _bytes(values[:, :, -1:])], axis=2)))


def black_and_white(low: float, high: float, whole: bool) -> tuple[float, float]:
    """The values that become 0 and 255, for pixels from `low` to `high`; what lies between is scaled, what lies beyond is cut off.

    Whole numbers in 0..65535 have the depth of the least of 8, 10, 12, 14 and 16 bits that holds the greatest of them, d: 0 and 2^d - 1.
    So twelve bits in a file of sixteen are seen as bright as they are. Floating-point numbers in -0.1..1.1 mean 0 and 1, numbers in
    -25.5..280.5 of which one reaches 25.5 mean 0 and 255: a tenth beyond the ends is what resizing overshoots by. All others are
    stretched from `low` to `high`.
    """
    if whole and low >= 0 and high <= 65535:
        return 0.0, 2.0 ** next(depth for depth in DEPTHS if high < 2**depth) - 1
    if not whole and low >= -0.1 and high <= 1.1:
        return 0.0, 1.0
    if not whole and low >= -25.5 and 25.5 <= high <= 280.5:
        return 0.0, 255.0
    return low, high


def orientation(image: Image.Image) -> Image.Transpose | None:
    """What turns a loaded image upright; None where it is, or where its EXIF data are damaged."""
    if not image.info.keys() & METADATA:
        return None
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # damaged metadata, which Pillow trips over in many ways; the pixels are sound
        log.warning("%s: EXIF data cannot be read (%s); taken as upright", getattr(image, "filename", "") or "an image", error)
        return None


def upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """`pixels`, turned as a loaded `image` says that it is to be."""
    turn = orientation(image)
    return pixels if turn is None else _turned(pixels, turn)


def _turned(pixels: Image.Image, turn: Image.Transpose) -> Image.Image:
    """Turned, and without the metadata that would have it turned again."""
    upright = pixels.transpose(turn)
    for key in METADATA:
        upright.info.pop(key, None)
    return upright


def _eight_bits(image: Image.Image, levels: tuple[float, float] | None) -> Image.Image:
    """RGB, not turned; `levels` are those of the whole image where this is a part of it."""
    if _is_deep(image):
        return _deep_grey(image, levels or _levels(image))
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
    """The first row, and the image from there on for a multiple of so many rows; small images come whole."""
    rows = max(1, STRIP // (image.width * multiple)) * multiple
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _levels(image: Image.Image) -> tuple[float, float]:
    """Of a deep grey image."""
    found = [_range(np.asarray(strip)) for _, strip in _strips(image)]
    return black_and_white(min(low for low, _ in found), max(high for _, high in found), image.mode != "F")


def _range(values: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
    """The least and the greatest finite value; 0 and 0 where none is finite."""
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _scaled(values: Shaped[np.ndarray, "..."], black: float, white: float) -> UInt8[np.ndarray, "..."]:
    """Bytes, `black` to 0 and `white` to 255; what is no number is black, and an image of a single value beyond the rule's ranges grey."""
    if not white > black:
        return np.full(values.shape, 128, np.uint8)
    share = (values.astype(np.float64) - black) * (255 / (white - black))
    return np.nan_to_num(share, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255).round().astype(np.uint8)


def _bytes(values: Shaped[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width channels"]:
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    return _scaled(values, *black_and_white(*_range(values), values.dtype.kind in "ui"))


def _deep_grey(image: Image.Image, levels: tuple[float, float]) -> Image.Image:
    values = np.asarray(image)
    grey = _scaled(values, *levels)
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.merge("RGB", [Image.fromarray(grey)] * 3)
