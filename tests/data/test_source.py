"""Every kind of data in conf is a data source that its file can build."""

import inspect
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from kinds import CONF, kinds
from PIL import Image

from captioner.build import build
from captioner.data.source import DataSource
from captioner.errors import InputError

# Scenes need no files: they are drawn, by tests of their own.
FROM_FILES = [kind for kind in kinds("data") if kind != "scenes"]


def config(kind: str, **changes: Any) -> dict[str, Any]:
    whole = yaml.safe_load((CONF / "data" / f"{kind}.yaml").read_text())
    return {**whole.get("data", whole), **changes}


@pytest.mark.parametrize("kind", kinds("data"))
def test_a_kind_is_a_data_source_and_its_file_states_every_argument(kind: str) -> None:
    stated = config(kind)
    module, _, name = stated.pop("_target_").rpartition(".")
    source = getattr(import_module(module), name)
    assert issubclass(source, DataSource)
    assert set(stated) == set(inspect.signature(source).parameters)


@pytest.mark.parametrize("kind", FROM_FILES)
def test_a_kind_that_was_told_nothing_names_the_key_to_give(kind: str) -> None:
    with pytest.raises(InputError, match=r"^data\.[a-z.]+ is not set; give "):
        build(config(kind), "data").splits()


@pytest.fixture
def told(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """One image in train and one in val, laid out for every kind."""
    names = {"train": "train2017/5.jpg", "val": "val2017/6.jpg"}
    (tmp_path / "annotations").mkdir()
    for split, name in names.items():
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (5, 4)).save(tmp_path / name)
        image_id = int(Path(name).stem)
        said = {"id": 1, "image_id": image_id, "caption": f"a {split}"}
        coco = {"images": [{"id": image_id, "file_name": Path(name).name}], "annotations": [said]}
        (tmp_path / "annotations" / f"captions_{split}2017.json").write_text(json.dumps(coco))
    files = {
        split: {"annotations": str(tmp_path / "annotations" / f"captions_{split}2017.json"), "images": str(tmp_path / f"{split}2017")}
        for split in names
    }
    entries = [
        {"filename": name, "split": split, "imgid": int(Path(name).stem), "sentences": [{"raw": f"a {split}"}]}
        for split, name in names.items()
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"images": entries}))
    rows = "".join(f"{name},a {split},{split}\n" for split, name in names.items())
    (tmp_path / "captions.csv").write_text("file_name,caption,split\n" + rows)
    return {
        "captions": files,
        "coco": {"root": str(tmp_path)},
        "karpathy": {"annotations": str(tmp_path / "dataset.json"), "images": str(tmp_path)},
        "folder": {"root": str(tmp_path)},
    }


@pytest.mark.parametrize("kind", FROM_FILES)
def test_all_kinds_read_the_same_images_and_captions(told: dict[str, dict[str, Any]], kind: str) -> None:
    splits = build(config(kind, **told[kind]), "data").splits()
    assert {split: list(captions.captions) for split, captions in splits.items()} == {"train": ["a train"], "val": ["a val"]}
    for split, name in (("train", "train2017/5.jpg"), ("val", "val2017/6.jpg")):
        assert splits[split].path(0).as_posix().endswith(name)
        assert splits[split].path(0).is_file()
