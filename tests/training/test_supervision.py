"""`objective=supervised` on the data sets that have boxes, and one line where it cannot be."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.cli.main import main
from captioner.tokenizer import tokenize

SMALL = [
    "encoder.channels=[5,7]",
    "encoder.features=7",
    "encoder.coordinates=false",
    "encoder.blocks=[0,1]",
    "decoder.embedding_size=8",
    "decoder.hidden_size=12",
    "attention.score.attention_size=10",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=1",
    "data.minimum_count=1",
    "run_folder=run",
]
SCENES = ["experiment=scenes", "data.root=drawn", "data.train=9", "data.val=3", "data.test=3", "data.workers=1"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """COCO's layout; only `instances_train` is there."""
    noise = np.random.default_rng(0)
    (tmp_path / "annotations").mkdir()
    for split, first in (("train", 1), ("val", 5)):
        (tmp_path / f"{split}2017").mkdir()
        images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(first, first + 4)]
        for image in images:
            Image.fromarray(noise.integers(0, 255, (30, 40, 3), np.uint8)).save(tmp_path / f"{split}2017" / image["file_name"])
        captions = [{"id": image["id"], "image_id": image["id"], "caption": "two dogs and a cup"} for image in images]
        (tmp_path / "annotations" / f"captions_{split}2017.json").write_text(json.dumps({"images": images, "annotations": captions}))
    objects = [{"id": i, "image_id": i, "category_id": 18, "bbox": [5, 5, 10, 20]} for i in (1, 2, 3)]
    record = {"images": [{"id": i, "width": 40, "height": 30} for i in (1, 2, 3)], "annotations": objects}
    record["categories"] = [{"id": 18, "name": "dog"}]
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(record))
    return ["data=coco", "encoder=small", f"data.root={tmp_path}", "transform.size=24", "data.batch_size=2"]


def train(*words: str) -> int:
    return main(["train", "objective=supervised", *SMALL, *words])


def losses() -> list[float]:
    with Path("run/metrics.csv").open() as file:
        return [float(row["train/supervised"]) for row in csv.DictReader(file) if row.get("train/supervised")]


def test_scenes_guide_their_maps() -> None:
    assert train(*SCENES, "data.batch_size=3", "objective.terms.supervised.spread=false") == 0
    assert len(losses()) == 3
    assert all(0 < loss < 20 for loss in losses())


def test_coco_s_instances_guide_the_maps_of_the_images_that_they_list(photos: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert train(*photos) == 0
    assert len(losses()) == 2
    assert "boxes guide the words of 3 of 4 training captions" in capfd.readouterr().err


def test_boxes_of_flickr30k_entities_guide_words_in_random_views(
    photos: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of the captions of COCO's photos, as if Entities described them; each photo's file is named after its id."""
    captions = json.loads((tmp_path / "annotations" / "captions_train2017.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in captions["images"]}
    texts: dict[str, list[str]] = {}
    for one in captions["annotations"]:
        first, *rest = tokenize(one["caption"])
        texts.setdefault(names[one["image_id"]], []).append(f"[/EN#3/other {first}] {' '.join(rest)}")
    for folder in ("Annotations", "Sentences"):
        (tmp_path / "entities" / folder).mkdir(parents=True)
    box = "<object><name>3</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    for name, lines in texts.items():
        (tmp_path / "entities" / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><size><width>10</width><height>10</height></size>{box}</annotation>"
        )
        (tmp_path / "entities" / "Sentences" / f"{name}.txt").write_text("\n".join(lines))
    files = [
        f"data.{split}.{key}={tmp_path / path}"
        for split, key, path in (
            ("train", "annotations", "annotations/captions_train2017.json"),
            ("train", "images", "train2017"),
            ("train", "entities", "entities"),
            ("val", "annotations", "annotations/captions_val2017.json"),
            ("val", "images", "val2017"),
        )
    ]
    others = [word for word in photos if not word.startswith("data=") and not word.startswith("data.root=")]
    assert train("data=captions", *files, *others, "transform.augment=true") == 0
    assert "phrases have boxes" in capfd.readouterr().err
    assert losses()


def test_data_without_boxes_are_refused_in_one_line(photos: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    (tmp_path / "annotations" / "instances_train2017.json").unlink()
    assert train(*photos) == 2
    assert "objective.terms.supervised: this data set has no boxes" in capfd.readouterr().err.splitlines()[-1]
