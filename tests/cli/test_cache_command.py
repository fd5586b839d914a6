"""`captioner cache`: what it keeps is what training looks for."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from captioner.cli.main import main


@pytest.fixture
def words(tmp_path, monkeypatch):
    """A set of five small images, two of them for validation, and an untrained trunk held as it is."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    given = ["data=captions", "encoder=mobilenet_v3_small", "encoder.weights=null", "encoder.frozen=true", "data.minimum_count=1"]
    for split, images in (("train", (1, 2, 3)), ("val", (4, 5))):
        for image in images:
            Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(tmp_path / f"{image}.png")
        record = {
            "images": [{"id": image, "file_name": f"{image}.png"} for image in images],
            "annotations": [{"id": image, "image_id": image, "caption": "a dog runs"} for image in images],
        }
        (tmp_path / f"{split}.json").write_text(json.dumps(record))
        given += [f"data.{split}.annotations={split}.json", f"data.{split}.images={tmp_path}"]
    return given


def test_regions_are_computed_once_and_found_again(words, tmp_path, capsys):
    assert main(["cache", *words]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" images")[0] for line in printed] == ["train: 3", "val: 2"]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "outputs" / "features").rglob("features.npy")}
    assert sorted(len(np.load(path, mmap_mode="r")) for path in kept) == [2, 3]
    assert main(["cache", *words]) == 0
    assert capsys.readouterr().out.splitlines() == printed
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not (tmp_path / "outputs" / "latest").exists()


def test_regions_of_photos_that_changed_under_the_same_names_are_computed_again(words, tmp_path, capsys):
    """Bitmaps: the same size in bytes; the same times, too."""
    photos = [tmp_path / f"{image}.png" for image in (1, 2)]
    for photo in photos:
        with Image.open(photo) as image:
            image.save(photo, "BMP")
        os.utime(photo, ns=(10**18, 10**18))
    train = ["train", *words, "data.cache_features=true", "trainer.max_epochs=1", "trainer.accelerator=cpu", "decoder.hidden_size=8"]
    assert main([*train, "run_folder=first"]) == 0
    kept = set((tmp_path / "outputs" / "features").iterdir())
    one, other = (photo.read_bytes() for photo in photos)
    assert len(one) == len(other)
    for photo, content in zip(photos, (other, one), strict=True):
        photo.write_bytes(content)
        os.utime(photo, ns=(10**18, 10**18))
    capsys.readouterr()
    assert main([*train, "run_folder=second"]) == 0
    told = capsys.readouterr()
    assert "identified by the contents of their files" in told.out + told.err
    (fresh,) = set((tmp_path / "outputs" / "features").iterdir()) - kept
    (stale,) = (folder for folder in kept if len(np.load(folder / "features.npy", mmap_mode="r")) == 3)
    before, after = (np.load(folder / "features.npy") for folder in (stale, fresh))
    assert (after[[1, 0, 2]] == before).all()
    assert not (after == before).all()


def test_layers_that_learn_on_a_frozen_trunk_find_that_trunks_regions(words, tmp_path, capsys):
    assert main(["cache", *words]) == 0
    kept = sorted((tmp_path / "outputs" / "features").iterdir())
    trunk = [
        word.replace("encoder=", "encoder@encoder.trunk=").replace("encoder.", "encoder.trunk.", word.startswith("encoder."))
        for word in words
    ]
    assert main(["cache", "encoder=self_attention", *trunk]) == 0
    assert sorted((tmp_path / "outputs" / "features").iterdir()) == kept
    train = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "decoder.hidden_size=8", "run_folder=run"]
    assert main(["train", "encoder=self_attention", *trunk, "data.cache_features=true", *train]) == 0
    capsys.readouterr()
    assert main(["cache", "encoder=self_attention", *trunk, "encoder.trunk.frozen=false"]) == 2
    assert "frozen" in capsys.readouterr().err


def test_an_encoder_that_learns_is_refused(words, capsys):
    assert main(["cache", *words, "encoder.frozen=false"]) == 2
    error = capsys.readouterr().err
    assert "frozen" in error
    assert error.count("\n") == 1


def test_usage(capsys):
    assert main(["cache", "--help"]) == 0
    assert "captioner cache experiment=flickr8k" in capsys.readouterr().out
    assert main(["cache"]) == 2
    assert main(["cache", "--fast"]) == 2
