"""`predict --explain` on a small captioner saved for the purpose."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from kinds import attention, part
from PIL import Image

from captioner.cli import predict
from captioner.cli.main import main
from captioner.cli.results import check_names
from captioner.explain.kinds import KINDS, explain
from captioner.model import Captioner
from captioner.vocabulary import Vocabulary

WORDS = Vocabulary(["a", "red", "dog", "runs"])


@pytest.fixture
def here(tmp_path, monkeypatch):
    torch.manual_seed(3)
    encoder = {"_target_": "captioner.encoders.small.SmallConv", "channels": [5, 7], "blocks": [0, 0], "coordinates": False}
    decoder = part("decoder", "lstm", attention=attention(), features=7, embedding_size=4, hidden_size=6)
    transform = {"_target_": "captioner.data.transforms.Transform", "size": [32, 40], "fit": "crop"}
    captioner = Captioner.from_config({"encoder": encoder, "decoder": decoder, "transform": transform}, WORDS).eval()
    captioner.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(1)
    Image.fromarray(noise.integers(0, 255, (30, 61, 3), dtype=np.uint8)).save("photo.png")
    return captioner


def run(*arguments):
    return main(["predict", *arguments, "--model", "model", "--caption", "a red dog"])


def test_the_names_are_those_of_the_explanations():
    assert list(KINDS) == list(predict.EXPLANATIONS)
    assert all(f"{kind.__module__}.{kind.__name__}" == predict.EXPLANATIONS[name] for name, kind in KINDS.items())


def test_each_explanation_has_its_sheet_its_array_and_its_place_in_the_gallery(here):
    assert run("photo.png", "--explain", "attention,gradcam,jacobian", "--out", "out") == 0
    expected = explain(here, Image.open("photo.png"), "a red dog", ("gradcam", "jacobian"))
    with np.load("out/photo.npz") as arrays:
        assert arrays["gradcam"].shape == (3, 4, 5)
        assert arrays["jacobian"].shape == (3, 32, 40)
        for kind, maps in expected.items():
            np.testing.assert_allclose(arrays[kind], maps, atol=1e-6)
    record = json.loads(Path("out/captions.jsonl").read_text())
    assert record["overlay"] == "photo.png"
    assert record["overlays"] == {"gradcam": "photo_gradcam.png", "jacobian": "photo_jacobian.png"}
    sizes = {Image.open(f"out/{name}").size for name in ("photo.png", *record["overlays"].values())}
    assert min(size[0] for size in sizes) > 240
    page = Path("out/index.html").read_text()
    assert page.count('"rows":4,"cols":5,') == 2
    assert page.count('"rows":32,"cols":40,') == 1


def test_without_attention_only_the_other_explanations_are_drawn(here, tmp_path):
    assert run("photo.png", "--explain", "occlusion", "--out", "out", "--save", "overlay,words,arrays") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "captions.jsonl",
        "photo.npz",
        "photo_occlusion",
        "photo_occlusion.png",
    ]
    assert json.loads(Path("out/captions.jsonl").read_text())["overlay"] is None
    assert sorted(path.name for path in (tmp_path / "out/photo_occlusion").iterdir()) == ["01_a.png", "02_red.png", "03_dog.png"]
    with np.load("out/photo.npz") as arrays:
        assert "alphas" in arrays


def test_two_images_never_write_one_file(here, capsys):
    Image.open("photo.png").save("photo_gradcam.png")
    assert run("photo.png", "photo_gradcam.png", "--explain", "attention,gradcam", "--out", "out") == 2
    assert "photo_gradcam.png of two images" in capsys.readouterr().err
    assert run("photo.png", "photo_gradcam.png", "--explain", "gradcam", "--out", ".", "--save", "overlay") == 2
    assert "would overwrite the input photo_gradcam.png" in capsys.readouterr().err
    check_names([], ["a", "a_jacobian"], Path("out"), frozenset(), ["attention", "gradcam"])


def test_an_explanation_that_fails_is_named_and_everything_else_is_done(here, capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr("captioner.explain.kinds.explain", broken)
    assert run("photo.png", "--explain", "attention,gradcam", "--out", "out") == 1
    assert "photo.png: --explain gradcam: out of memory" in capsys.readouterr().err
