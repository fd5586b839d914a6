"""Every image of a split is looked at before training begins; what breaks later is left out of its batch."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import SMALL

from captioner.cli.main import main
from captioner.data.captions import CaptionSet
from captioner.data.image_check import readable_images
from captioner.errors import InputError


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def photos(folder: Path, count: int, ending: str = "png") -> CaptionSet:
    folder.mkdir(exist_ok=True)
    noise = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(noise.integers(0, 255, (30, 40, 3)).astype(np.uint8)).save(folder / f"{number}.{ending}")
    return CaptionSet(folder, [f"{number}.{ending}" for number in range(count)], range(count), [["a star"]] * count)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_split_whose_images_are_whole_is_itself(tmp_path: Path, ending: str) -> None:
    captions = photos(tmp_path, 3, ending)
    assert readable_images(captions, "val") is captions


def test_an_image_that_cannot_be_read_is_refused_by_name_with_what_to_do(tmp_path: Path) -> None:
    captions = photos(tmp_path, 5)
    cut(tmp_path / "3.png")
    with pytest.raises(InputError, match=rf"^{tmp_path}/3\.png: the image is damaged .*; data\.missing=skip leaves such images out$"):
        readable_images(captions, "val")
    (tmp_path / "1.png").unlink()
    with pytest.raises(InputError, match=r"/1\.png: image not found.*\(2 of 5 train images cannot be read\); data\.missing=skip"):
        readable_images(captions, "train")
    with pytest.raises(InputError) as told:
        readable_images(captions, "train", None)
    assert "data.missing" not in str(told.value)


def test_images_that_cannot_be_read_are_left_out_on_request_and_counted_by_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    captions = photos(tmp_path, 7)
    for number in (1, 2):
        cut(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_bytes(b"")
    (tmp_path / "5.png").unlink()
    with caplog.at_level(logging.WARNING, "captioner"):
        assert list(readable_images(captions, "val", "skip").names) == ["0.png", "3.png", "6.png"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "4 of 7 val images cannot be read and are left out (2 damaged, 1 no image, 1 not found): 1.png, 2.png, 4.png, ..."
    )
    for number in (0, 3, 6):
        cut(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match="7 of 7 val images"):
        readable_images(captions, "val", "skip")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Five photos with a table, the fifth, of validation, cut short; the words that train on them."""
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "photos", 5)
    cut(tmp_path / "photos" / "4.png")
    rows = [f"{number}.png,a {'red ' * (number % 2)}star,{'train' if number < 2 else 'val'}\n" for number in range(5)]
    Path("photos/captions.csv").write_text("file_name,caption,split\n" + "".join(rows))
    few = ["data.minimum_count=1", "trainer.max_epochs=1", "run_folder=run", *SMALL]
    return ["train", "data=folder", "data.root=photos", "encoder=small", *few]


def test_training_ends_before_it_begins_where_a_validation_photo_is_damaged(folder: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folder) == 2
    err = capsys.readouterr().err
    assert next(line for line in err.splitlines() if "4.png" in line).startswith("captioner: error: photos/4.png: the image is damaged")
    assert not Path("run/metrics.csv").exists()
    assert "epoch" not in err


def test_training_leaves_damaged_photos_out_on_request(folder: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*folder, "data.missing=skip"]) == 0
    assert "1 of 3 val images cannot be read and are left out (1 damaged): 4.png" in capsys.readouterr().err
    assert {entry["image_id"] for entry in json.loads(Path("run/results/captions_val.json").read_text())} == {3, 4}


@pytest.mark.parametrize("held", [True, False])
def test_a_photo_that_breaks_while_training_costs_nothing_but_itself(
    folder: list[str], held: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captioner.data.image_check.check_image", lambda path: None)  # it breaks after it was looked at
    assert main([*folder, f"data.hold_in_memory={str(held).lower()}", "data.num_workers=0"]) == 0
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if "photos/4.png: the image is damaged" in line]
    assert 1 <= len(lines) <= 2, "between epochs, and in the final scores"
    assert all(line.endswith("what goes on leaves it out") for line in lines)
    assert {entry["image_id"] for entry in json.loads(Path("run/results/captions_val.json").read_text())} == {3, 4}
    assert json.loads(Path("run/results/scores_val.json").read_text())["images"] == 2
    assert Path("run/model/model.safetensors").is_file()
    assert Path("run/checkpoints/last.ckpt").is_file()
