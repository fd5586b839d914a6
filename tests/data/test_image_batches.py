"""Batches of opened images: whole, in order, and bounded in memory."""

from pathlib import Path

import pytest
from PIL import Image

from captioner.data import image_batches
from captioner.data.image_batches import open_batches


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(7):
        Image.new("RGB", (10 + number, 10)).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"")
    return tmp_path


def batches(folder: Path, size: int) -> list[tuple[list[int], list[int]]]:
    found = list(open_batches(range(7), lambda number: folder / f"{number}.png", size))
    assert all(image.width == 10 + number for opened, _ in found for number, image in opened.items())
    return [(list(opened), list(refused)) for opened, refused in found]


def test_a_batch_holds_as_many_as_asked_for_with_those_that_cannot_be_read(folder: Path) -> None:
    assert batches(folder, 3) == [([0, 1], [2]), ([3, 4, 5], []), ([6], [])]
    assert batches(folder, 7) == [([0, 1, 3, 4, 5, 6], [2])]
    assert batches(folder, 1) == [([0], []), ([1], []), ([], [2]), ([3], []), ([4], []), ([5], []), ([6], [])]


def test_large_images_make_a_smaller_batch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_batches, "BATCH_PIXELS", 210)
    assert batches(folder, 7) == [([0, 1], []), ([3, 4], [2]), ([5, 6], [])]


def test_images_are_opened_when_their_batch_is_asked_for(folder: Path) -> None:
    asked = []
    going = open_batches(range(7), lambda number: asked.append(number) or folder / f"{number}.png", 2)
    next(going)
    assert asked == [0, 1]
