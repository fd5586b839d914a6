"""Image files -> RGB, eight bits, upright, whatever they were stored as; or one line that says why not."""

import os
import re
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin, features

from captioner.data.pixels import from_array, reduced_rgb, to_rgb, transpose, upright_method
from captioner.errors import InputError

LARGE = 2**24
"""Pixels beyond which an image is read at a smaller scale: 4,096 x 4,096, which no model and no picture of ours needs."""
HUGE = 2**30
"""Pixels that a JPEG may have, which is decoded at a smaller scale at once; any other image may have Pillow's `MAX_IMAGE_PIXELS` twice."""
NOT_READ = frozenset(("EPS", "WMF", "PDF", "MPEG", "BUFR", "GRIB", "HDF5"))
"""What Pillow hands to other programs (PostScript is one itself), or knows by name only."""
ORIGINAL = "original_size"
"""Of an image that was read at a smaller scale, the key in `info`: (own size, the file's size)."""

KINDS = {
    "named pipe": stat.S_ISFIFO,
    "socket": stat.S_ISSOCK,
    "device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
    "folder": stat.S_ISDIR,
}
"""What a path may lead to that is no file."""
SIGNATURES = (
    (rb"....ftyp.{0,24}avi[fs]", "avif", "an AVIF photo", "pip install --upgrade pillow (11.3 and later read it), or convert it to JPEG"),
    (rb"....ftyp(hei[cxms]|hev[cx]|mif1|msf1)", "heif", "a HEIC photo", 'pip install "captioner[heif]", or convert it to JPEG'),
    (rb"RIFF....WEBP", "webp", "a WebP photo", "install a Pillow that was built with it, or convert it to JPEG"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "jpg_2000", "a JPEG 2000 photo", "install a Pillow that was built with it, or convert it"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", None, "a JPEG XL photo", "Pillow has none for it: convert it to JPEG"),
    (rb"....ftypcrx |FUJIFILMCCD-RAW|IIRO|IIU\x00", None, "a camera's raw photo", "Pillow has none for it: convert it to JPEG"),
)
"""How photos begin that there may be no decoder for here, the feature of Pillow that has it, what they are, and what to do."""
OTHERS = (
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg", "an SVG drawing; convert it to PNG"),
    (rb"%PDF|%!PS|\xc5\xd0\xd3\xc6", "a PDF or PostScript document; convert its page to PNG"),
    (rb"....ftyp|\x1aE\xdf\xa3", "a video; take its frames out as JPEG"),
)
"""How files begin that people take for photos, and what they are."""
DEEP_COLOURS = re.compile(r"(RGBA?);16([BLN])")
"""How Pillow says that colours are stored in sixteen bits: the mode, and the order of bytes (N: the machine's own)."""
NEEDS_HEIF = 'photos whose decoder is not installed: pip install "captioner[heif]", or convert them to JPEG'
UNDECODED = {
    **dict.fromkeys((".heic", ".heif", ".hif"), NEEDS_HEIF),
    **dict.fromkeys((".avif", ".webp", ".jp2", ".jxl"), "photos that this Pillow has no decoder for: convert them to JPEG"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"), "raw photos of a camera: convert them to JPEG"),
}
"""Endings of photos that may not be readable here -> why."""


class UnreadableImageError(InputError):
    """An image that cannot be read; `kind` is why, in two or three words."""

    def __init__(self, message: str, kind: str = "damaged") -> None:
        super().__init__(message)
        self.kind = kind


def open_image(path: Path | str) -> Image.Image:
    """Read an image file whole; of an animation, the first frame.

    Beyond LARGE pixels, it is read at 1/2, 1/3 ... of its size (a JPEG is decoded at 1/2, 1/4 or 1/8 at once); `original_size` knows.
    Raises: UnreadableImageError, the file is missing, no file, no image, damaged, too large, out of memory's reach or without a decoder.
    """
    with image_errors(Path(path)), _opened(Path(path)) as image:
        size = image.size
        if size[0] * size[1] <= LARGE:
            return _deep_colours(image, Path(path)) or to_rgb(image)
        _ask_for_less(image)
        image.load()
        decoded = image.size
        pixels, sideways = reduced_rgb(image, _factor(decoded))
        pixels.info[ORIGINAL] = pixels.size, size[::-1] if sideways or decoded == size[::-1] else size  # a TIFF is turned as it is read
        return pixels


def _deep_colours(image: Image.Image, path: Path) -> Image.Image | None:
    """RGB by `black_white_points` of an image whose colours are stored in sixteen bits each and use no more than fourteen; None of others.

    Pillow keeps the upper byte of sixteen bits, so that twelve would be seen as black. The lower bytes are what it keeps when it is told
    the other order of bytes.
    """
    tiles = [(tile, DEEP_COLOURS.fullmatch(tile.args if isinstance(tile.args, str) else str(tile.args[0]))) for tile in _tiles(image)]
    if not tiles or not all(stored for _, stored in tiles):
        return None
    image.load()
    upper = np.asarray(image)
    if upper[:, :, :3].max() >= 64:
        return None
    with Image.open(path, formats=_formats()) as again:
        again.tile = [tile._replace(args=_other_order(tile.args, stored)) for tile, stored in tiles if stored]
        again.load()
        return transpose(from_array(upper.astype(np.uint16) * 256 + np.asarray(again)), upright_method(image))


def _tiles(image: Image.Image) -> list[Any]:
    """What the decoder is to be given, of formats that keep sixteen bits a colour."""
    return list(getattr(image, "tile", ())) if image.format in ("PNG", "TIFF") else []


def _other_order(args: Any, stored: re.Match[str]) -> Any:
    order = {"big": "B", "little": "L"}[sys.byteorder] if stored[2] == "N" else stored[2]
    other = f"{stored[1]};16{'L' if order == 'B' else 'B'}"
    return other if isinstance(args, str) else (other, *args[1:])


def check_image(path: Path | str) -> None:
    """Look at an image file without decoding it, where its format allows that: a JPEG has a head and an end, a PNG's checksums fit.

    That takes a fraction of a millisecond where decoding takes several. Raises: UnreadableImageError, as `open_image`.
    """
    path = Path(path)
    with image_errors(path), _opened(path) as image:
        if image.format == "PNG":
            image.verify()
            return
        whole = image.format in ("JPEG", "MPO") and _ends_in(image, b"\xff\xd9")
    if not whole:
        open_image(path)


def is_image(path: Path | str) -> bool:
    """Whether a file begins as an image that can be read here."""
    try:
        with image_errors(Path(path)), _opened(Path(path)):
            return True
    except UnreadableImageError:
        return False


def image_endings() -> frozenset[str]:
    """Endings, with the dot and in small letters, of what can be read here."""
    can_read_heic()
    return _endings()


@cache
def _endings() -> frozenset[str]:
    known = set(_formats()) & Image.OPEN.keys()
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in known)


def original_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the upright photo in its file: larger than the image, where `open_image` read it at a smaller scale."""
    own, original = image.info.get(ORIGINAL, (image.size, image.size))
    return original if own == image.size else image.size


def can_read_heic() -> bool:
    """Whether the extra `heif` is installed; then Pillow knows HEIC from here on."""
    return _registered_heif()


@cache
def _registered_heif() -> bool:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    _formats.cache_clear()
    _endings.cache_clear()
    return True


@cache
def _formats() -> tuple[str, ...]:
    """What Pillow may take a file for."""
    Image.preinit()  # the usual ones first
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_READ)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image whose head is read."""
    mode = path.stat().st_mode
    for what, applies in KINDS.items():
        if applies(mode):  # opening a pipe would wait for whoever writes into it
            raise UnreadableImageError(f"{path}: is a {what}; give an image file", what)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what it reads all the same: half its limit of pixels, odd metadata
        image: Image.Image
        try:
            image = Image.open(path, formats=_formats())
        except Image.DecompressionBombError as error:
            image = _huge_jpeg(path, error)
        except Image.UnidentifiedImageError:
            if _head(path)[4:8] != b"ftyp" or not can_read_heic():  # a HEIC photo, whatever its name ends in
                raise
            image = Image.open(path, formats=_formats())
        with image:
            yield image


def _huge_jpeg(path: Path, error: Exception) -> Image.Image:
    """A JPEG beyond Pillow's limit. Raises: `error`, where it is none, or none that can be decoded in little memory."""
    try:
        image = JpegImagePlugin.JpegImageFile(path)
    except SyntaxError:
        raise error from None
    if "progressive" in image.info or image.width * image.height > HUGE:
        raise error
    return image


def _ask_for_less(image: Image.Image) -> None:
    """Have a large image decoded at 1/2, 1/4 or 1/8 of its size, where its format can."""
    factor = _factor(image.size, (2, 4, 8))
    if image.format == "JPEG2000":
        image.reduce = factor.bit_length() - 1  # type: ignore[method-assign, assignment]
    image.draft(None, (image.width // factor, image.height // factor))


def _factor(size: tuple[int, int], offered: tuple[int, ...] = tuple(range(1, 2**10))) -> int:
    """The least of the factors by which an image of this size becomes no more than LARGE; the last one where none is enough."""
    return next((factor for factor in offered if size[0] * size[1] <= LARGE * factor**2), offered[-1])


def _ends_in(image: Any, mark: bytes) -> bool:
    """Whether the file of an image that is not loaded has the mark among its last bytes."""
    image.fp.seek(max(0, os.fstat(image.fp.fileno()).st_size - 64))
    return mark in image.fp.read()


@contextmanager
def image_errors(path: Path) -> Iterator[None]:
    """Whatever goes wrong in reading `path` becomes one line that says which of its kinds it is."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError(f"{path}: image not found; check the path", "not found") from None
    except MemoryError:
        raise UnreadableImageError(f"{path}: out of memory while it was decoded; make the image smaller", "out of memory") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"{path}: {_too_large(error)}", "too large") from None
    except Exception as error:  # broken files raise whatever their decoder happens to trip over: OSError, SyntaxError, struct.error ...
        raise _explained(path, error) from None


def _too_large(error: Exception) -> str:
    pixels = re.search(r"\d+", str(error))
    limit = "" if Image.MAX_IMAGE_PIXELS is None else f" (the limit is {2 * Image.MAX_IMAGE_PIXELS:,})"
    return f"the image is too large: {int(pixels[0]) if pixels else 0:,} pixels{limit}; make it smaller, or store it as a baseline JPEG"


def _explained(path: Path, error: Exception) -> UnreadableImageError:
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableImageError(f"{path}: cannot be read ({error.strerror})", "cannot be read")
    told = " ".join(str(error).split()) or type(error).__name__
    unknown = isinstance(error, Image.UnidentifiedImageError)
    if unknown or "not available" in told or "cannot find loader" in told:  # the last two: a decoder that Pillow was built without
        return _undecoded(path, told, unknown)
    return UnreadableImageError(f"{path}: the image is damaged ({told}); replace the file")


def _undecoded(path: Path, told: str, unknown: bool) -> UnreadableImageError:
    """What a file is that Pillow does not know (or knows, but was built without its decoder), by its first bytes."""
    head = _head(path)
    for pattern, feature, what, mend in SIGNATURES:
        if re.match(pattern, head, re.S) and unknown and _has(feature):
            return UnreadableImageError(f"{path}: {what} that is damaged; replace the file")
        if re.match(pattern, head, re.S):
            return UnreadableImageError(f"{path}: {what}, and its decoder is not installed; {mend}", "no decoder installed")
    for pattern, what in OTHERS:
        if re.match(pattern, head, re.S):
            return UnreadableImageError(f"{path}: {what}", "no photo")
    if not unknown:
        return UnreadableImageError(f"{path}: its decoder is not installed ({told}); convert it to JPEG or PNG", "no decoder installed")
    what = "no image that Pillow can read" if head else "an empty file"
    return UnreadableImageError(f"{path}: {what}; remove it from the list or convert it to JPEG or PNG", "no image")


def _has(feature: str | None) -> bool:
    return can_read_heic() if feature == "heif" else feature is not None and bool(features.check(feature))


def _head(path: Path) -> bytes:
    with suppress(OSError), path.open("rb") as file:
        return file.read(512)
    return b""
