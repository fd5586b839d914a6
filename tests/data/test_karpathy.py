"""Karpathy's splits."""

import json
from pathlib import Path
from typing import Any

import pytest

from captioner.data.karpathy import Karpathy
from captioner.errors import InputError


def entry(number: int, split: str, said: int = 2, **more: Any) -> dict[str, Any]:
    return {
        "filename": f"{number}.jpg",
        "imgid": number,
        "split": split,
        "sentences": [{"raw": f"Sentence {k} of {number} .", "tokens": []} for k in range(said)],
        **more,
    }


def source(folder: Path, images: Any, **options: str) -> Karpathy:
    (folder / "dataset.json").write_text(json.dumps({"images": images, "dataset": "x"}))
    return Karpathy(folder / "dataset.json", folder, **options)


def test_restval_is_train_and_cocos_folders_and_ids_are_kept(tmp_path: Path) -> None:
    images = [
        entry(0, "test", filepath="val2014", cocoid=90),
        entry(1, "train", filepath="train2014", cocoid=80),
        entry(2, "restval", filepath="val2014", cocoid=70, said=3),
        entry(3, "val", filepath="val2014", cocoid=60),
    ]
    for image in images:
        (tmp_path / image["filepath"]).mkdir(exist_ok=True)
        (tmp_path / image["filepath"] / image["filename"]).touch()
    splits = source(tmp_path, images).splits()
    assert {split: list(captions.image_ids) for split, captions in splits.items()} == {"train": [80, 70], "val": [60], "test": [90]}
    assert splits["train"].path(1) == tmp_path / "val2014" / "2.jpg"
    assert splits["train"].captions_of(1) == ["Sentence 0 of 2 .", "Sentence 1 of 2 .", "Sentence 2 of 2 ."]


def test_flickr_has_neither_folders_nor_coco_ids(tmp_path: Path) -> None:
    (tmp_path / "5.jpg").touch()
    splits = source(tmp_path, [entry(5, "train")]).splits()
    assert splits["train"].references == {5: ["Sentence 0 of 5 .", "Sentence 1 of 5 ."]}


def test_an_image_without_sentences_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "5.jpg").touch()
    assert source(tmp_path, [entry(4, "val", said=0), entry(5, "train")]).splits().keys() == {"train"}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (5, "key `images` is missing or no list"),
        ([], "`images` is empty"),
        (["x"], r"images\[0\] must be an object"),
        ([entry(0, "trial")], r"images\[0\]\.split must be one of train, restval, val, test, found 'trial'"),
        ([entry(0, "train", filename=3)], r"images\[0\]\.filename must be a string"),
        ([entry(0, "train", imgid=[1])], r"images\[0\] has no id `cocoid` or `imgid`"),
        ([entry(0, "train", sentences=None)], r"images\[0\]\.sentences must be a list"),
        ([entry(0, "train", sentences=[{"tokens": []}])], r"images\[0\]\.sentences\[0\]\.raw must be a string"),
        ([entry(0, "train", filepath=3)], r"images\[0\]\.filepath must be a string"),
        ([entry(0, "train"), entry(0, "train")], "image_ids holds 0, which is there more than once"),
        ([entry(0, "train")], "1 of 1 listed images are not in .*: 0.jpg"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_key(tmp_path: Path, images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        source(tmp_path, images).splits()
    assert "dataset.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_not_set_are_named() -> None:
    with pytest.raises(InputError, match=r"data\.annotations is not set"):
        Karpathy(None, "x")
    with pytest.raises(InputError, match=r"data\.images is not set"):
        Karpathy("x", None)
