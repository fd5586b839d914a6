"""Image files -> RGB, eight bits, upright, whatever they were stored as."""

import logging
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from captioner.errors import InputError

log = logging.getLogger(__name__)


def open_image(path: Path | str) -> Image.Image:
    """Read an image file whole; of an animation, the first frame.

    Raises: InputError, the file is missing, no image, or cut short.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(image)
    except FileNotFoundError:
        raise InputError(f"{path}: image not found; check the path") from None
    except Image.UnidentifiedImageError:
        what = "an empty file" if path.stat().st_size == 0 else "no image that Pillow can read"
        raise InputError(f"{path}: {what}; remove it from the list or convert it to JPEG or PNG") from None
    except MemoryError:
        raise
    except Exception as error:  # broken files raise whatever their decoder happens to trip over: OSError, SyntaxError, struct.error ...
        raise InputError(f"{path}: the image is damaged or cannot be read ({error}); replace the file") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """RGB uint8, turned upright as its EXIF orientation says; transparency over white.

    Sixteen-bit grey v -> round(v / 257). Mode `I` is such an image where its values fit in 0..65535 and is stretched from its
    least to its greatest value elsewhere; mode `F` is 0..1 where its values fit, else 0..255, cut off beyond.
    """
    image.load()
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if type(image) is Image.Image and image.mode == "RGB" else image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    if not image.info.keys() & {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}:
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # damaged metadata, which Pillow trips over in many ways; the pixels are sound
        log.warning("%s: EXIF data cannot be read (%s); taken as upright", getattr(image, "filename", "") or "an image", error)
        return image


def _deep_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=float(np.finfo(np.float32).max), neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        values = values * (255 if high <= 1 else 1)
    elif low >= 0 and high <= 65535:
        values = values / 257
    else:
        values = (values - low) * (255 / (high - low))
    grey = values.clip(0, 255).round().astype(np.uint8)
    return Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2))
