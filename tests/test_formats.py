import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner import kinds
from captioner.formats import FORMAT, TARGETS, upgraded
from captioner.model import Captioner

FOLDERS = sorted((Path(__file__).parent / "formats").glob("format_*"))


def photo() -> Image.Image:
    noise = np.random.default_rng(3)
    return Image.fromarray(noise.integers(0, 255, (30, 61, 3), dtype=np.uint8))


def test_there_is_a_model_of_every_earlier_format() -> None:
    assert [json.loads((folder / "config.json").read_text())["format"] for folder in FOLDERS] == list(range(1, FORMAT))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_model_of_an_earlier_format_captions_as_it_did_then(folder: Path, tmp_path: Path) -> None:
    model, expected = Captioner.load(folder), json.loads((folder / "caption.json").read_text())
    model.save(tmp_path / "again")
    for one in (model, Captioner.load(tmp_path / "again")):
        caption = one.caption(photo())
        assert caption.words == expected["words"]
        assert caption.log_prob == pytest.approx(expected["log_prob"], abs=1e-4)
        assert np.allclose(caption.alphas, expected["alphas"], atol=1e-5)


def test_a_configuration_of_this_format_stays_as_it_is(tmp_path: Path) -> None:
    for folder in FOLDERS:
        config = Captioner.load(folder).config
        assert upgraded(config) == config


def test_a_dot_product_of_two_sizes_is_the_bilinear_score_that_it_was() -> None:
    score = {"_target_": "captioner.attention.score.Dot", "features": 7, "hidden_size": 6, "heads": 1}
    assert upgraded({"decoder": {"score": score}}) == {"decoder": {"score": {**score, "_target_": "captioner.attention.score.Bilinear"}}}
    assert upgraded({**score, "features": 6}) == {**score, "features": 6}


@pytest.mark.parametrize("target", TARGETS)
def test_a_class_that_moved_is_found_where_conf_offers_it_now(target: str) -> None:
    config = upgraded({"_target_": target})
    assert config == {"_target_": TARGETS[target]}
    kinds.check(config, kinds.place_of(TARGETS[target]))
