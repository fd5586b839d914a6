"""`captioner cache`: what it keeps is what training looks for."""

import json

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
