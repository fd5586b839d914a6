"""Pixels of every mode and depth are right: compared with numbers computed another way."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from captioner.data import pixels
from captioner.data.images import open_image
from captioner.data.pixels import black_white_points, from_array, reduced_rgb, to_rgb
from captioner.errors import InputError

RED, GREEN, BLUE = (np.arange(35).reshape(5, 7) * step % 256 for step in (7, 11, 23))
COLOURS = np.stack([RED, GREEN, BLUE], axis=2).astype(np.uint8)
"""5 rows, 7 columns, no two pixels alike."""
ALPHA = (np.arange(35).reshape(5, 7) * 29 % 256).astype(np.uint8)
GREY = RED.astype(np.uint8)


def over_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return colours * share + 255 * (1 - share)


def thrice(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def palette(mode: str = "P") -> Image.Image:
    image = Image.fromarray(np.arange(35, dtype=np.uint8).reshape(5, 7)).convert("P")
    image.putpalette(COLOURS.tobytes())
    return image if mode == "P" else _with_alpha(image)


def _with_alpha(image: Image.Image) -> Image.Image:
    image = image.convert("PA")
    image.putalpha(Image.fromarray(ALPHA))
    return image


def lab() -> tuple[Image.Image, np.ndarray]:
    """RGB of Lab by littleCMS, with a transform built here."""
    image = Image.merge("LAB", [Image.fromarray(part) for part in (GREY, ALPHA, COLOURS[..., 1].copy())])
    to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return image, np.asarray(ImageCms.applyTransform(image, to_srgb))


def ycbcr() -> tuple[Image.Image, np.ndarray]:
    y, cb, cr = (part.astype(float) for part in (GREY, ALPHA, COLOURS[..., 1]))
    red, green, blue = y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)
    image = Image.merge("YCbCr", [Image.fromarray(part) for part in (GREY, ALPHA, COLOURS[..., 1].copy())])
    return image, np.stack([red, green, blue], axis=2).clip(0, 255)


def hsv() -> tuple[Image.Image, np.ndarray]:
    import colorsys

    parts = (GREY, ALPHA, COLOURS[..., 1].copy())
    rows = [[colorsys.hsv_to_rgb(*(part[r, c] / 255 for part in parts)) for c in range(7)] for r in range(5)]
    return Image.merge("HSV", [Image.fromarray(part) for part in parts]), np.array(rows) * 255


DEEP = (np.arange(35).reshape(5, 7) * 1927).astype(np.uint16)
"""Up to 65518."""
PREMULTIPLIED = np.dstack([(COLOURS * (ALPHA[..., None] / 255)).round().astype(np.uint8), ALPHA])
CMYK = np.dstack([COLOURS, ALPHA])
MODES = {
    "1": (Image.fromarray(np.where(GREY > 100, 255, 0).astype(np.uint8)).convert("1"), thrice(np.where(GREY > 100, 255, 0))),
    "L": (Image.fromarray(GREY), thrice(GREY)),
    "LA": (Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), over_white(thrice(GREY), ALPHA)),
    "La": (Image.fromarray(np.dstack([GREY, ALPHA]), "LA").convert("La"), over_white(thrice(GREY), ALPHA)),
    "P": (palette(), COLOURS),
    "PA": (palette("PA"), over_white(COLOURS, ALPHA)),
    "RGB": (Image.fromarray(COLOURS), COLOURS),
    "RGBA": (Image.fromarray(np.dstack([COLOURS, ALPHA])), over_white(COLOURS, ALPHA)),
    "RGBa": (Image.frombytes("RGBa", (7, 5), PREMULTIPLIED.tobytes()), over_white(COLOURS, ALPHA)),
    "RGBX": (Image.frombytes("RGBX", (7, 5), np.dstack([COLOURS, ALPHA]).tobytes()), COLOURS),
    "CMYK": (Image.frombytes("CMYK", (7, 5), CMYK.tobytes()), (255.0 - COLOURS) * (1 - ALPHA[..., None] / 255)),
    "YCbCr": ycbcr(),
    "HSV": hsv(),
    "LAB": lab(),
    "I": (Image.fromarray(DEEP.astype(np.int32)), thrice(DEEP / 257)),
    "I;16": (Image.fromarray(DEEP), thrice(DEEP / 257)),
    "I;16L": (Image.frombytes("I;16L", (7, 5), DEEP.astype("<u2").tobytes()), thrice(DEEP / 257)),
    "I;16B": (Image.frombytes("I;16B", (7, 5), DEEP.astype(">u2").tobytes()), thrice(DEEP / 257)),
    "I;16N": (Image.frombytes("I;16N", (7, 5), DEEP.tobytes()), thrice(DEEP / 257)),
    "F": (Image.fromarray((DEEP / 65535).astype(np.float32)), thrice(DEEP / 257)),
}
ROUNDING = {"La": 3, "RGBa": 3, "YCbCr": 2, "HSV": 3, "CMYK": 2}
"""Steps by which Pillow's whole numbers may differ from exact ones; one elsewhere."""


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillow_has_the_right_pixels(mode: str) -> None:
    image, expected = MODES[mode]
    assert image.mode == mode
    rgb = to_rgb(image)
    assert (rgb.mode, rgb.size) == ("RGB", (7, 5))
    difference = np.abs(np.asarray(rgb).astype(float) - expected)
    if mode in ("La", "RGBa"):  # what is nearly clear has lost its colour to rounding, and is nearly white
        difference = difference[ALPHA > 40]
    assert difference.max() <= ROUNDING.get(mode, 1)


def test_no_mode_of_pillow_is_forgotten() -> None:
    assert set(Image.MODES) <= MODES.keys()


OPTIONS = {
    "webp": {"lossless": True, "exact": True},
    "jpg": {"quality": 100, "subsampling": 0},
    "avif": {"quality": 100, "subsampling": "4:4:4"},
    "ico": {"sizes": [(7, 5)]},
}
CONTAINERS = {
    "bmp": ("1", "L", "P", "RGB"),
    "gif": ("1", "L", "P"),
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "I", "I;16", "F"),
    "webp": ("RGB", "RGBA"),
    "jp2": ("L", "LA", "RGB", "RGBA"),
    "ppm": ("1", "L", "RGB", "I"),
    "tga": ("L", "LA", "P", "RGB", "RGBA"),
    "pfm": ("F",),
    "qoi": ("RGB", "RGBA"),
    "ico": ("RGBA",),
    "pcx": ("L", "P", "RGB"),
    "sgi": ("L", "RGB", "RGBA"),
    "dds": ("L", "LA", "RGB", "RGBA"),
    "avif": ("RGB",),
    "jpg": ("L", "RGB", "CMYK", "YCbCr"),
}
LOSSY = {"avif", "jpg"}


@pytest.mark.parametrize(("ending", "mode"), [(ending, mode) for ending, modes in CONTAINERS.items() for mode in modes])
def test_every_container_keeps_them(tmp_path: Path, ending: str, mode: str) -> None:
    image, expected = MODES[mode]
    if ending in LOSSY:  # which loses noise
        image, expected = image.resize((56, 40), Image.Resampling.NEAREST), expected.repeat(8, axis=0).repeat(8, axis=1)
    try:
        image.save(tmp_path / f"a.{ending}", **OPTIONS.get(ending, {}))
    except (KeyError, OSError):  # this Pillow has no encoder for it
        pytest.skip(f"this Pillow writes no {ending}")
    rgb = np.asarray(open_image(tmp_path / f"a.{ending}")).astype(float)
    difference = np.abs(rgb - expected)
    assert (difference.mean() <= 3) if ending in LOSSY else (difference.max() <= ROUNDING.get(mode, 1))


def test_a_transparent_value_of_a_deep_grey_image_is_white(tmp_path: Path) -> None:
    Image.fromarray(DEEP).save(tmp_path / "a.png", transparency=int(DEEP[2, 3]))
    rgb = np.asarray(open_image(tmp_path / "a.png"))
    assert rgb[2, 3].tolist() == [255, 255, 255]
    assert np.abs(np.delete(rgb.reshape(-1, 3), 2 * 7 + 3, axis=0) - np.delete(thrice(DEEP / 257).reshape(-1, 3), 17, axis=0)).max() <= 1


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, kind: str) -> None:
    first, second = Image.new("RGB", (6, 4), (250, 0, 0)), Image.new("RGB", (6, 4), (0, 0, 250))
    first.save(tmp_path / f"a.{kind}", save_all=True, append_images=[second], duration=50, **({"lossless": True} if kind == "webp" else {}))
    with Image.open(tmp_path / f"a.{kind}") as animation:
        assert animation.n_frames == 2
    assert np.abs(np.asarray(open_image(tmp_path / f"a.{kind}")).astype(int) - [250, 0, 0]).max() <= 1


@pytest.mark.parametrize("bits", pixels.BIT_DEPTHS)
def test_whole_numbers_have_the_depth_that_holds_the_greatest(bits: int) -> None:
    shades = np.linspace(0, 2**bits - 1, 35).round().astype(np.uint16).reshape(5, 7)
    expected = np.linspace(0, 255, 35).reshape(5, 7)
    assert np.abs(np.asarray(to_rgb(Image.fromarray(shades)))[..., 0] - expected).max() <= 1
    assert np.array_equal(np.asarray(from_array(shades)), np.asarray(to_rgb(Image.fromarray(shades))))


def test_an_x_ray_of_twelve_bits_is_as_bright_as_its_copy_of_eight(tmp_path: Path) -> None:
    eight = (np.arange(35).reshape(5, 7) * 7).astype(np.uint8)
    Image.fromarray(eight.astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    assert np.abs(np.asarray(open_image(tmp_path / "twelve.png"))[..., 0].astype(int) - eight).max() <= 1


@pytest.mark.parametrize(
    ("values", "whole", "expected"),
    [
        ((0, 255), True, (0, 255)),
        ((17, 4080), True, (0, 4095)),
        ((0, 65535), True, (0, 65535)),
        ((0, 65536), True, (0, 65536)),
        ((-1024, 3071), True, (-1024, 3071)),
        ((0.2, 0.7), False, (0, 1)),
        ((-0.04, 1.06), False, (0, 1)),
        ((-3, 262), False, (0, 255)),
        ((0, 12), False, (0, 12)),
        ((-1, 1), False, (-1, 1)),
        ((0, 4000), False, (0, 4000)),
    ],
)
def test_the_rule_for_deep_numbers(values: tuple[float, float], whole: bool, expected: tuple[float, float]) -> None:
    assert black_white_points(*map(float, values), whole) == expected


def test_an_image_of_one_value_beyond_the_ranges_is_grey() -> None:
    assert set(np.asarray(to_rgb(Image.new("I", (3, 2), 100000))).ravel()) == {128}
    assert set(np.asarray(to_rgb(Image.new("F", (3, 2), float("nan")))).ravel()) == {0}


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "RGBX"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_shrinking_is_the_mean_of_blocks_in_any_mode(monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int) -> None:
    monkeypatch.setattr(pixels, "STRIP_PIXELS", 14)  # two rows and their like at a time
    image = MODES[mode][0].copy()
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.info["exif"] = exif.tobytes()
    small, sideways = reduced_rgb(image, 2)
    assert sideways == (orientation == 6)
    upright = np.rot90(np.asarray(to_rgb(MODES[mode][0])), -1 if sideways else 0)
    assert small.size == ((3, 4) if sideways else (4, 3))
    upright = upright[:, 1:] if sideways else upright  # five rows: the last one stands alone, and turned it comes first
    blocks = upright[: upright.shape[0] // 2 * 2, : upright.shape[1] // 2 * 2].astype(float)
    blocks = blocks.reshape(blocks.shape[0] // 2, 2, blocks.shape[1] // 2, 2, 3).mean((1, 3))
    rgb = np.asarray(small).astype(float)
    rgb = rgb[:, 1:] if sideways else rgb
    assert np.abs(rgb[: blocks.shape[0], : blocks.shape[1]] - blocks).max() <= 1


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (GREY, thrice(GREY)),
        (GREY[:, :, None], thrice(GREY)),
        (COLOURS, COLOURS),
        (np.dstack([GREY, ALPHA]), over_white(thrice(GREY), ALPHA)),
        (np.dstack([COLOURS, ALPHA]), over_white(COLOURS, ALPHA)),
        (COLOURS / 255, COLOURS),
        ((COLOURS / 255).astype(np.float16), COLOURS),
        (np.dstack([COLOURS, ALPHA]) / 255, over_white(COLOURS, ALPHA)),
        (COLOURS.astype(np.int64) * 257, COLOURS),
        (GREY > 100, thrice(np.where(GREY > 100, 255, 0))),
        (COLOURS[::-1, ::-1], COLOURS[::-1, ::-1]),
    ],
)
def test_arrays_are_images(array: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(np.asarray(from_array(array)).astype(float) - expected).max() <= 1


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"image is an array of shape \(5,\)"),
        (np.zeros((3, 20, 30)), "channels come last"),
        (np.zeros((0, 20, 3)), "shape"),
        (np.zeros((4, 5), complex), "array of complex128"),
        (np.array([["a"]]), "array of <U1"),
    ],
)
def test_arrays_that_are_no_images_are_refused_by_shape_or_kind(array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_array(array)
