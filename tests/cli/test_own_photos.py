"""`captioner train data=folder` on photos of one's own, with tables and scripts as people have them."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.main import main

SMALL = ["encoder=small", "encoder.channels=[5,7]", "encoder.features=7", "encoder.coordinates=false", "encoder.blocks=[0,1]"]
SMALL += ["transform.size=24", "decoder.embedding_size=8", "decoder.hidden_size=12", "attention.score.attention_size=10"]
SMALL += ["trainer.accelerator=cpu", "trainer.max_epochs=1", "data.test_share=0", "run_folder=run"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four photos in a folder beside Kaggle's `captions.txt`, of Hindi, Arabic, Bengali and Thai."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "Images").mkdir(parents=True)
    said = ['"एक कुत्ता, घास पर दौड़ रहा है"', "كَلْبٌ يَجْرِي", "একটি কুকুর ঘাসে দৌড়াচ্ছে", "สุนัข วิ่ง บน หญ้า"]
    for number in range(len(said)):
        Image.new("RGB", (30, 40), (60 * number, 0, 0)).save(tmp_path / "photos" / "Images" / f"{number}.png")
    lines = [f"{number}.png,{caption}" for number, caption in enumerate(said)]
    (tmp_path / "photos" / "captions.txt").write_text("\n".join(["image,caption", *lines]))
    return tmp_path


def test_kaggles_table_is_read_and_words_of_every_script_stay_whole(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data=folder", "data.root=photos", "data.minimum_count=1", *SMALL]) == 0
    told = "".join(capsys.readouterr())
    assert "photos/captions.txt: 4 captions of 4 images (3 train, 1 val): separated by commas, columns image and caption, UTF-8" in told
    assert "become <unk>" not in told
    words = json.loads((here / "run" / "model" / "vocabulary.json").read_text())["words"][4:]
    known = {"एक", "कुत्ता", "घास", "दौड़", "كَلْبٌ", "يَجْرِي", "একটি", "কুকুর", "ঘাসে", "দৌড়াচ্ছে", "สุนัข", "วิ่ง", "บน", "หญ้า", "पर", "रहा", "है"}
    assert len(words) >= 9
    assert set(words) <= known


def test_a_vocabulary_without_words_is_a_warning_with_the_share_that_is_lost(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data=folder", "data.root=photos", *SMALL]) == 0
    told = "".join(capsys.readouterr())
    assert "data.minimum_count=5 leaves 0 words: 100 % of the training captions' words become <unk>; data.minimum_count=1" in told


def test_the_images_that_are_set_aside_for_test_are_counted_and_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data=folder", "data.root=photos", *SMALL, "data.test_share=0.2"]) == 0
    told = "".join(capsys.readouterr())
    aside = re.search(r"1 images of the split test are set aside, neither trained nor validated on: (\d\.png)\n", told)
    assert aside, told
    said = json.loads((here / "run" / "results" / "captions_val.json").read_text())
    assert int(aside[1][0]) + 1 not in {one["image_id"] for one in said}
    assert "2 train images, 1 val images" in told
