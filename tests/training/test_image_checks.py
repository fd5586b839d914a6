"""Images that an encoder was not made for are logged before training begins; models record what pictures they were trained on."""

import logging
from functools import cache
from pathlib import Path
from typing import Any

import photos
import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torchvision.models.vision_transformer import VisionTransformer

from captioner.cli.main import main
from captioner.encoders.trunk import Trunk
from captioner.errors import InputError
from captioner.model import Captioner
from captioner.training.configuration import compose_run, plain
from captioner.training.image_checks import TRAINED_ON, check_images, warn_of_other_pictures
from captioner.training.initial_model import make_captioner
from captioner.training.run_parts import build_parts
from captioner.training.splits import read_splits
from captioner.vocabulary import Vocabulary

TRUNK = ("encoder=mobilenet_v3_small", "encoder.weights=null")


def small_words(photo_folder: Path, *words: str) -> list[str]:
    return ["data=folder", f"data.root={photo_folder}", *photos.NARROW, "trainer.max_epochs=1", *words]


@cache
def composed(*words: str) -> dict[str, Any]:
    return plain(compose_run(["data=folder", *words, *photos.NARROW]))


def small_captioner(*words: str, **transform: Any) -> tuple[Captioner, dict[str, Any]]:
    config = composed(*words)
    parts = {**{part: config[part] for part in ("encoder", "decoder")}, "transform": {**config["transform"], **transform}}
    return Captioner.from_config({**parts, TRAINED_ON: "photographs"}, Vocabulary(["a", "dog"])), config


def log_lines(caplog: pytest.LogCaptureFixture, *words: str, **transform: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "captioner"):
        captioner, config = small_captioner(*words, **transform)
        check_images(captioner, config["encoder"], config["init"])
    return [record.getMessage() for record in caplog.records if record.name == "captioner.training.image_checks"]


def test_a_size_below_the_encoder_s_own_is_logged_with_the_grid_that_results(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = log_lines(caplog, *TRUNK, size=96)
    assert line.startswith("transform.size: the encoder expects 224x224 pixels and gets 96x96: a grid of 3x3 regions; transform.size=224")
    (line,) = log_lines(caplog, *TRUNK, size=[224, 160])
    assert "gets 224x160: a grid of 7x5 regions" in line
    assert log_lines(caplog, *TRUNK) == log_lines(caplog, *TRUNK, size=256) == []
    wrapped = ["encoder=self_attention", "encoder@encoder.trunk=mobilenet_v3_small", "encoder.trunk.weights=null"]
    assert "224x224 pixels and gets 64x64: a grid of 2x2" in log_lines(caplog, *wrapped, size=64)[0]


def test_other_numbers_than_those_of_the_weights_are_logged(caplog: pytest.LogCaptureFixture, here: Path) -> None:
    trunk = Trunk("mobilenet_v3_small", 576, None).trunk
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, "weights.safetensors")
    weights = [TRUNK[0], "encoder.weights=weights.safetensors"]
    assert log_lines(caplog, *weights) == []
    (line,) = log_lines(caplog, *weights, mean=[0.5, 0.5, 0.5])
    assert line.startswith("transform.mean is [0.5, 0.5, 0.5], and the encoder's weights were trained with [0.485, 0.456, 0.406]")


def test_photographs_for_an_encoder_that_learns_from_nothing_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    (line,) = log_lines(caplog, "encoder=small")
    assert "encoder=mobilenet_v2" in line


def test_the_check_leaves_modes_and_statistics_unchanged() -> None:
    captioner, config = small_captioner("encoder=small")
    before = {name: value.clone() for name, value in captioner.state_dict().items()}
    modes = [part.training for part in captioner.modules()]
    check_images(captioner, config["encoder"], config["init"])
    assert [part.training for part in captioner.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in captioner.state_dict().items())


def test_a_size_that_the_encoder_refuses_ends_before_training(
    photo_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = VisionTransformer(32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=12, mlp_dim=20)
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: small)
    words = ["encoder=vit_b_16", "encoder.features=12", "encoder.weights=null", "transform.size=100"]
    for command in ("train", "cache"):
        assert main([command, *small_words(photo_folder, *words, "run_folder=run")]) == 2
        assert (
            "transform.size: a vision transformer takes whole patches of 16 pixels, not 100x100" in capsys.readouterr().err.splitlines()[-1]
        )
    assert not Path("run").exists()


def test_photographs_without_an_encoder_and_without_a_network_end_in_one_line_that_says_what_to_do(
    photo_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(here))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    assert main(["train", *small_words(photo_folder)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("captioner: error: ")
    assert all(word in line for word in ("mobilenet_v2", "encoder.weights=PATH", "encoder.weights=null", "encoder=small"))


def test_a_model_says_what_it_was_trained_on_and_goes_on_with_something_else_under_a_warning(
    photo_folder: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *small_words(photo_folder, *TRUNK, "transform.size=64", "run_folder=first")]) == 0
    assert "a grid of 2x2 regions" in capsys.readouterr().err
    assert Captioner.load("first").config[TRAINED_ON] == "photographs"
    scenes = ["data=scenes", "data.root=drawn", "data.train=4", "data.val=2", "data.test=1", "data.workers=1"]
    small = [word for word in photos.NARROW if not word.startswith("attention")]
    assert main(["train", *scenes, *small, "trainer.max_epochs=1", "init=first", "run_folder=second"]) == 0
    warned = capsys.readouterr().err
    assert "init=first was trained on photographs and goes on with drawn scenes" in warned
    again = Captioner.load("second")
    assert again.config[TRAINED_ON] == "drawn scenes"
    assert again.transform == Captioner.load("first").transform

    # the trained encoder's own keys are the ones that the command line may set
    config = plain(compose_run(["data=folder", "init=first", "encoder.finetune_from=12", "transform.size=96"]))
    assert (config["encoder"]["finetune_from"], config["transform"]["size"]) == (12, 96)
    with pytest.raises(InputError, match=r"encoder\.channels: there is no such key"):
        compose_run(["init=first", "encoder.channels=[5,7]"])

    # an encoder that is chosen anew comes with its own images and weights
    trunk = Trunk("mobilenet_v2", 1280, None).trunk
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, "weights.safetensors")
    sizes = [f"{part}.features=1280" for part in ("decoder", "attention", "attention.score")]
    anew = ["encoder=mobilenet_v2", "encoder.weights=weights.safetensors", *sizes]
    config = plain(compose_run(["data=folder", f"data.root={photo_folder}", "run_folder=run", "init=first", *anew]))
    assert config["transform"]["size"] == 224
    parts = build_parts(config)
    captioner = make_captioner(parts, read_splits(parts)["train"], None)
    assert all(torch.equal(value, captioner.encoder.state_dict()[f"trunk.{name}"]) for name, value in trunk.state_dict().items())


@pytest.mark.parametrize(
    ("known", "pictures", "lines"), [("drawn scenes", "photographs", 1), ("photographs", "photographs", 0), (None, "photographs", 0)]
)
def test_other_pictures_are_warned_of_where_the_model_names_its_own(
    known: str | None, pictures: str, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "captioner"):
        warn_of_other_pictures({} if known is None else {TRAINED_ON: known}, pictures, "model")
    assert len(caplog.records) == lines
