"""Whatever an image was stored as, its pixels come out right."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.data.images import open_image, to_rgb
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
    assert np.asarray(to_rgb(Image.fromarray(np.array([[0, 51.2, 300, np.nan]], np.float32))))[0, :, 0].tolist() == [0, 51, 255, 0]


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
    with pytest.raises(InputError, match="cannot be read"):
        open_image(tmp_path)
