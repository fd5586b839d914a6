"""Whatever an image was stored as, its pixels come out right."""

import contextlib
import os
import socket
import struct
import sys
import types
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from captioner.data import images
from captioner.data.images import UnreadableImageError, check_image, image_endings, is_image, open_image, original_size
from captioner.data.pixels import to_rgb
from captioner.errors import InputError

RED, WHITE = (255, 0, 0), (255, 255, 255)
ROWS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[9, 90, 200], [255, 255, 255], [0, 0, 0]]], np.uint8)  # 2 rows, 3 columns


def saved(image: Image.Image, path: Path, **options: object) -> np.ndarray:
    image.save(path, **options)
    opened = open_image(path)
    assert opened.mode == "RGB"
    return np.asarray(opened)


def test_rgb_is_left_alone(tmp_path: Path) -> None:
    assert np.array_equal(saved(Image.fromarray(ROWS), tmp_path / "a.png"), ROWS)


def test_grey_is_three_times_the_same(tmp_path: Path) -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    assert saved(Image.fromarray(grey), tmp_path / "a.png").tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


def test_black_and_white_is_0_and_255(tmp_path: Path) -> None:
    bits = Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1")
    assert saved(bits, tmp_path / "a.png").tolist() == [[[0] * 3, [255] * 3, [0] * 3]]


def palette() -> Image.Image:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    image.putdata([0, 1, 2])
    return image


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    assert saved(palette(), tmp_path / "a.png").tolist() == [[[255, 0, 0], [0, 255, 0], [1, 2, 3]]]


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_transparent_palette_entry_is_white(tmp_path: Path, ending: str) -> None:
    assert saved(palette(), tmp_path / f"a.{ending}", transparency=1).tolist() == [[[255, 0, 0], [255, 255, 255], [1, 2, 3]]]


def test_a_palette_with_half_transparent_entries_is_mixed_with_white(tmp_path: Path) -> None:
    pixels = saved(palette(), tmp_path / "a.png", transparency=bytes([255, 51, 0]))
    assert pixels.tolist() == [[[255, 0, 0], [204, 255, 204], [255, 255, 255]]]


def test_alpha_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[255, 0, 0, 255], [255, 0, 0, 51], [255, 0, 0, 0]]], np.uint8))
    assert saved(image, tmp_path / "a.png").tolist() == [[[255, 0, 0], [255, 204, 204], [255, 255, 255]]]


def test_grey_with_alpha_is_laid_over_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[0, 255], [0, 51], [0, 0]]], np.uint8), "LA")
    assert saved(image, tmp_path / "a.png").tolist() == [[[0] * 3, [204] * 3, [255] * 3]]


def test_a_transparent_colour_is_white(tmp_path: Path) -> None:
    assert saved(Image.fromarray(ROWS), tmp_path / "a.png", transparency=(0, 0, 0))[1, 2].tolist() == [255, 255, 255]


def test_cmyk_is_converted_not_inverted(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # red
    pixels = saved(image, tmp_path / "a.jpg", quality=100).astype(int)
    assert np.abs(pixels - [255, 0, 0]).max() <= 4


def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 257, 25700, 65535]], np.uint16)
    expected = [[[0] * 3, [1] * 3, [100] * 3, [255] * 3]]
    assert saved(Image.fromarray(deep), tmp_path / "a.png").tolist() == expected
    assert saved(Image.fromarray(deep), tmp_path / "a.tiff").tolist() == expected
    assert np.asarray(to_rgb(Image.fromarray(deep.astype(np.int32)))).tolist() == expected  # mode I


def test_integers_beyond_sixteen_bits_are_stretched() -> None:
    assert np.asarray(to_rgb(Image.fromarray(np.array([[-100000, 0, 100000]], np.int32))))[0, :, 0].tolist() == [0, 128, 255]


def test_floats_are_0_to_1_or_0_to_255() -> None:
    assert np.asarray(to_rgb(Image.fromarray(np.array([[0, 0.2, 1]], np.float32))))[0, :, 0].tolist() == [0, 51, 255]
    assert np.asarray(to_rgb(Image.fromarray(np.array([[0, 51.2, 270, np.nan]], np.float32))))[0, :, 0].tolist() == [0, 51, 255, 0]


def sixteen_bits(values: np.ndarray, orientation: int = 1) -> bytes:
    """A PNG of (height, width, 3 or 4) whole numbers in sixteen bits, which Pillow reads and does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    exif = Image.Exif()
    exif[0x0112] = orientation
    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    parts = ((b"IHDR", head), (b"eXIf", exif.tobytes().removeprefix(b"Exif\x00\x00")), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_fewer_bits_in_sixteen_are_as_bright_as_they_are(tmp_path: Path, bits: int, channels: int) -> None:
    share = np.random.default_rng(0).random((5, 7, channels))
    share[0, 0], share[..., 3:] = 1, 1
    (tmp_path / "a.png").write_bytes(sixteen_bits((share * (2**bits - 1)).round(), 6))
    found = np.asarray(open_image(tmp_path / "a.png"))
    assert np.abs(found - np.rot90(share[..., :3], -1) * 255).max() <= 1
    check_image(tmp_path / "a.png")


# What is stored so that orientation k shows ROWS upright.
STORED = {
    1: ROWS,
    2: ROWS[:, ::-1],
    3: ROWS[::-1, ::-1],
    4: ROWS[::-1],
    5: ROWS.transpose(1, 0, 2),
    6: np.rot90(ROWS, 1),
    7: ROWS[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(ROWS, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    assert np.array_equal(saved(image, tmp_path / f"a.{ending}", exif=exif), ROWS)


def test_damaged_exif_data_does_not_cost_the_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    sound = exif.tobytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(sound)
        for place in random.integers(6, len(sound), 6):
            damaged[place] = random.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own
            pixels = saved(Image.fromarray(ROWS), tmp_path / "a.png", exif=bytes(damaged))
        assert sorted(pixels.reshape(-1, 3).tolist()) == sorted(ROWS.reshape(-1, 3).tolist())


def test_an_opened_image_can_be_handed_on(tmp_path: Path) -> None:
    Image.fromarray(ROWS).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        rgb = to_rgb(image)
    assert np.array_equal(np.asarray(rgb), ROWS)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "bmp", "tiff"])
def test_a_file_cut_short_is_one_clear_line(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    path = tmp_path / f"a.{ending}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError) as caught:
        open_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_a_file_that_is_no_image_is_one_clear_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.jpg: "):
        open_image(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg: image not found"):
        open_image(tmp_path / "gone.jpg")
    with pytest.raises(InputError, match="is a folder"):
        open_image(tmp_path)


def test_what_is_no_file_is_named_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "round.png").symlink_to("round.png")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(os.path.relpath(tmp_path / "ear.png"))
        for name, told in {
            "pipe.jpg": "is a named pipe",
            "folder.jpg": "is a folder",
            "zero.png": "is a device",
            "ear.png": "is a socket",
            "round.png": "cannot be read",
        }.items():
            for look in (open_image, check_image):
                with pytest.raises(UnreadableImageError, match=rf"^{tmp_path / name}: {told}"):
                    look(tmp_path / name)


def test_damaged_too_large_out_of_memory_and_no_decoder_are_four_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = Image.effect_noise((60, 60), 50)
    noise.save(tmp_path / "damaged.png")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "damaged.png").read_bytes()[:-900])
    noise.save(tmp_path / "large.png")
    noise.save(tmp_path / "memory.png")
    (tmp_path / "photo.heic").write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(500))
    monkeypatch.setattr("captioner.data.images.can_read_heic", lambda: False)
    told = {}
    for name in ("damaged.png", "large.png", "memory.png", "photo.heic"):
        with monkeypatch.context() as patch:
            if name == "large.png":
                patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
            if name == "memory.png":
                patch.setattr("captioner.data.images.to_rgb", lambda image: bytearray(1 << 62))
            with pytest.raises(UnreadableImageError) as caught:
                open_image(tmp_path / name)
        told[caught.value.kind] = str(caught.value).removeprefix(f"{tmp_path / name}: ")
    assert told.keys() == {"damaged", "too large", "out of memory", "no decoder installed"}
    assert told["too large"].startswith("the image is too large: 3,600 pixels (the limit is 2,000)")
    assert told["out of memory"].startswith("out of memory")
    assert 'pip install "captioner[heif]"' in told["no decoder installed"]
    assert told["damaged"].startswith("the image is damaged")


@pytest.mark.parametrize(
    ("begins", "told"),
    [
        (b"\xff\x0a\x00", "a JPEG XL photo, and its decoder is not installed"),
        (b"\x00\x00\x00\x1cftypcrx ", "a camera's raw photo"),
        (b"<svg xmlns=''/>", "an SVG drawing; convert it to PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PDF or PostScript document"),
        (b"%PDF-1.7", "a PDF or PostScript document"),
        (b"\x00\x00\x00\x18ftypisom", "a video; take its frames out"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 photo that is damaged"),
        (b"hello", "no image that Pillow can read"),
        (b"", "an empty file"),
    ],
)
def test_what_pillow_does_not_know_is_told_by_how_it_begins(tmp_path: Path, begins: bytes, told: str) -> None:
    (tmp_path / "a.jpg").write_bytes(begins)
    with pytest.raises(UnreadableImageError, match=told):
        open_image(tmp_path / "a.jpg")
    assert not is_image(tmp_path / "a.jpg")


def test_a_decoder_that_pillow_was_built_without_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jp2")
    monkeypatch.delattr("PIL.Image.core.jpeg2k_decoder")
    with pytest.raises(UnreadableImageError, match="a JPEG 2000 photo, and its decoder is not installed"):
        open_image(tmp_path / "a.jp2")


def test_heic_is_read_where_its_extra_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for pillow-heif, which registers itself with Pillow as that does."""
    heic, png = tmp_path / "a.heic", tmp_path / "a.png"
    Image.fromarray(ROWS).save(png)
    heic.write_bytes(b"\x00\x00\x00\x18ftypheic" + png.read_bytes())

    def factory(file: object, name: object) -> Image.Image:
        return Image.open(png)

    def register() -> None:
        Image.register_open("HEIF", factory, lambda head: head[4:12] == b"ftypheic")
        Image.register_extension("HEIF", ".heic")

    extra = types.ModuleType("pillow_heif")
    extra.register_heif_opener = register  # type: ignore[attr-defined]
    before = list(Image.ID), dict(Image.EXTENSION)
    for found in (images._registered_heif, images._formats, images._endings):
        found.cache_clear()
    try:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        assert ".heic" not in image_endings()
        with pytest.raises(UnreadableImageError, match="a HEIC photo"):
            open_image(heic)
        images._registered_heif.cache_clear()
        monkeypatch.setitem(sys.modules, "pillow_heif", extra)
        assert np.array_equal(np.asarray(open_image(heic.rename(tmp_path / "misnamed.jpg"))), ROWS)
        assert ".heic" in image_endings()
    finally:
        Image.ID[:] = before[0]
        Image.EXTENSION.clear()
        Image.EXTENSION.update(before[1])
        Image.OPEN.pop("HEIF", None)
        for found in (images._registered_heif, images._formats, images._endings):
            found.cache_clear()


@pytest.mark.parametrize("ending", ["jpg", "png", "jp2", "webp", "tiff"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_image_is_read_at_a_smaller_scale_and_knows_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, orientation: int
) -> None:
    if ending == "jp2" and orientation != 1:
        pytest.skip("Pillow writes no EXIF data into JPEG 2000")
    monkeypatch.setattr(images, "LARGE", 4000)
    smooth = Image.linear_gradient("L").resize((203, 151))
    photo = Image.merge("RGB", [smooth, smooth.transpose(Image.Transpose.ROTATE_180), smooth])
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / f"a.{ending}", **({"exif": exif} if orientation != 1 else {}))
    found = open_image(tmp_path / f"a.{ending}")
    assert found.width * found.height <= 4000
    upright = photo if orientation == 1 else photo.transpose(Image.Transpose.ROTATE_270)
    assert original_size(found) == upright.size
    expected = upright.resize(found.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).mean() < 3
    assert original_size(found.crop((0, 0, 9, 9))) == (9, 9), "a part of it is another picture"
    small = Image.new("RGB", (40, 30))
    small.save(tmp_path / "small.png")
    assert original_size(open_image(tmp_path / "small.png")) == (40, 30)


def test_a_jpeg_beyond_pillow_s_limit_is_read_at_a_smaller_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.linear_gradient("L").resize((400, 300)).save(tmp_path / "a.jpg")
    Image.linear_gradient("L").resize((400, 300)).save(tmp_path / "b.jpg", progressive=True)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30000)
    monkeypatch.setattr(images, "LARGE", 20000)
    found = open_image(tmp_path / "a.jpg")
    assert (found.size, original_size(found)) == ((100, 75), (400, 300))
    check_image(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError, match="too large: 120,000 pixels"):  # whose coefficients are all held at once
        open_image(tmp_path / "b.jpg")


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "bmp", "tiff", "jp2", "tga"])
def test_a_check_finds_what_reading_would_and_passes_what_is_whole(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    whole, cut, tail = (tmp_path / f"{name}.{ending}" for name in ("whole", "cut", "tail"))
    Image.fromarray(noise).save(whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    tail.write_bytes(data + b"\x00" * 999)  # as some cameras leave it: read all the same
    check_image(whole)
    check_image(tail)
    with pytest.raises(UnreadableImageError, match=r"cut\.\w+: "):
        check_image(cut)


def test_a_png_whose_bytes_changed_is_found_without_decoding_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(bytes(data))
    with pytest.raises(UnreadableImageError, match="damaged"):
        check_image(tmp_path / "a.png")


def test_pillow_s_own_test_images_are_right_or_refused_in_one_line(real_data: Path) -> None:
    """`pillow/` in the folder of real data: Tests/images of Pillow's source."""
    if not (real_data / "pillow").is_dir():
        pytest.skip("no folder pillow/ in CAPTIONER_DATA: Tests/images of Pillow's source distribution")
    read, refused = 0, []
    for path in sorted(path for path in (real_data / "pillow").rglob("*") if path.is_file() and path.stat().st_size < 50_000):
        try:
            found = np.asarray(open_image(path)).astype(float)
        except UnreadableImageError as error:
            refused.append(str(error))
            continue
        plain = with_alpha(path)
        if plain is not None:
            share = plain[..., 3:] / 255
            assert np.abs(plain[..., :3] * share + 255 * (1 - share) - found).max(initial=0) <= 1.01, path
            read += 1
    assert read > 400
    assert refused
    assert not any("\n" in line for line in refused)


def with_alpha(path: Path) -> np.ndarray | None:
    """RGBA by Pillow alone; None for deep grey, which it does not convert as one would wish."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            image.load()
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                return None
            upright: Image.Image = image
            with contextlib.suppress(Exception):  # damaged EXIF data
                upright = ImageOps.exif_transpose(image)
            return np.asarray((upright.convert("LA") if upright.mode == "La" else upright).convert("RGBA")).astype(float)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "bmp", "jp2", "tga", "ppm", "ico", "avif"])
def test_files_with_damaged_bytes_are_an_image_or_one_clear_line(tmp_path: Path, ending: str) -> None:
    path, random = tmp_path / f"a.{ending}", np.random.default_rng(7)
    Image.effect_noise((24, 20), 60).convert("RGB").save(path)
    whole = path.read_bytes()
    for _ in range(40):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), random.choice([40, 10**6])), random.integers(1, 6)):
            damaged[place] = random.integers(256)
        path.write_bytes(bytes(damaged[: random.integers(len(whole) // 2, len(whole) + 1)]))
        for look in (check_image, open_image):
            try:
                found = look(path)
            except UnreadableImageError as error:
                told = str(error)
                assert told.startswith(f"{path}: ") and "\n" not in told  # noqa: PT018
            else:
                assert found is None or found.mode == "RGB"
