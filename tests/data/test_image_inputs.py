"""What Python code may hand over as images."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.data.image_inputs import as_image, as_images
from captioner.data.images import UnreadableImageError
from captioner.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "given",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS / 255,
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
    ],
)
def test_pictures_arrays_and_tensors_are_one_image(given: object) -> None:
    (image,), is_one = (list(part) if number == 0 else part for number, part in enumerate(as_images(given)))
    assert is_one
    assert np.array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_the_image_in_its_file(tmp_path: Path, kind: type) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    images, is_one = as_images(kind(tmp_path / "a.png"))
    assert is_one
    assert np.array_equal(np.asarray(next(images)), PIXELS)
    with pytest.raises(UnreadableImageError, match=r"none\.png: image not found"):
        as_images(kind(tmp_path / "none.png"))


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_a_list_may_mix_them(tmp_path: Path, kind: type) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    images, is_one = as_images(kind([tmp_path / "a.png", PIXELS, Image.fromarray(PIXELS)]))
    assert not is_one
    assert [np.array_equal(np.asarray(image), PIXELS) for image in images] == [True] * 3
    assert list(as_images(kind([]))[0]) == []


def test_a_batch_of_arrays_is_a_list() -> None:
    for batch in (np.stack([PIXELS, 255 - PIXELS]), torch.from_numpy(np.stack([PIXELS, 255 - PIXELS])).permute(0, 3, 1, 2)):
        images, is_one = as_images(batch)
        assert not is_one
        assert [np.asarray(image).tolist() for image in images] == [PIXELS.tolist(), (255 - PIXELS).tolist()]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "image is None; expected a path"),
        (3, "image is of type int"),
        (2.5, "image is of type float"),
        (b"\xff\xd8\xff", r"image is of type bytes; .*io\.BytesIO"),
        ({"a": 1}, "image is of type dict"),
        ({1, 2}, "image is of type set"),
        (io.BytesIO(b"x"), "image is of type BytesIO"),
        (io.StringIO("a.jpg\n"), "image is of type StringIO"),
        (object(), "image is of type object"),
        (np.zeros(4), "image is an array of shape"),
        (torch.zeros(5, 6, 7), r"image is a tensor of shape \(5, 6, 7\)"),
        (Image, "image is of type module"),
    ],
)
def test_anything_else_is_refused_by_name_at_once(given: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        as_images(given)
    with pytest.raises(InputError, match=told.replace("image", r"images\[1\]", 1)):
        list(as_images([PIXELS, given])[0])


def test_lists_in_lists_are_no_images() -> None:
    with pytest.raises(InputError, match=r"images\[0\] is of type list"):
        list(as_images([[PIXELS]])[0])


def test_a_picture_that_breaks_when_it_is_read_is_named(tmp_path: Path) -> None:
    Image.effect_noise((50, 40), 60).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-400])
    with Image.open(tmp_path / "a.png") as opened, pytest.raises(UnreadableImageError, match=r"a\.png: the image is damaged"):
        as_image(opened)
