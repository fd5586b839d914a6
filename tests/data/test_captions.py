"""Caption sets, and the COCO captions format with all that can be wrong in it."""

import json
import logging
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.data.caption_files import CaptionFiles
from captioner.data.captions import CaptionSet, Strings, read_coco_captions
from captioner.data.coco import Coco
from captioner.errors import InputError


def record() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "sub/a.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 3, "caption": "A dog ."},
            {"id": 2, "image_id": 7, "caption": "A cat ."},
            {"id": 3, "image_id": 3, "caption": "The dog ."},
        ],
    }


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for name in ("b.jpg", "sub/a.jpg"):
        (tmp_path / "photos" / name).touch()
    return tmp_path / "photos"


def read(images: Path, content: Any, **options: str) -> CaptionSet:
    path = images.parent / "captions.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco_captions(path, images, **options)


@given(st.lists(st.text(max_size=5)))
def test_strings_come_back(strings: list[str]) -> None:
    flat = Strings(strings)
    assert list(flat) == strings
    assert flat[1:] == strings[1:]
    assert all(isinstance(value, np.ndarray) for value in vars(flat).values())


def test_captions_stay_with_their_image_in_the_order_listed(images: Path) -> None:
    captions = read(images, record())
    assert [captions.names[0], captions.names[1]] == ["b.jpg", "sub/a.jpg"]
    assert list(captions.image_ids) == [7, 3]
    assert captions.references == {7: ["A cat ."], 3: ["A dog .", "The dog ."]}
    assert captions.captions_of(1) == ["A dog .", "The dog ."]
    assert captions.path(1) == images / "sub" / "a.jpg"
    assert list(captions.tokens()) == [["a", "cat"], ["a", "dog"], ["the", "dog"]]


def test_selecting_keeps_the_order_asked_for(images: Path) -> None:
    captions = read(images, record())
    assert captions.select([1]).references == {3: ["A dog .", "The dog ."]}
    assert list(captions.select([1, 0]).image_ids) == [3, 7]
    assert len(captions.select([])) == 0


def test_a_set_travels_to_a_worker(images: Path) -> None:
    captions = read(images, record())
    assert pickle.loads(pickle.dumps(captions)).references == captions.references


def test_reading_prints_nothing(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(images, record())
    assert capsys.readouterr().out == ""


def change(path: str, value: Any) -> dict[str, Any]:
    changed = record()
    *keys, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place: Any = changed
    for key in keys:
        place = place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last] = value
    return changed


WRONG = [
    ("not json {", "captions.json: caption annotations is not JSON"),
    ("[1, 2]", "captions.json: expected a JSON object in COCO captions format, found a list"),
    (change("annotations", KeyError), "captions.json: key `annotations` is missing"),
    (change("images", KeyError), "captions.json: key `images` is missing"),
    (change("images", {}), "captions.json: `images` must be a list of objects"),
    (change("images", []), "captions.json: `images` is empty"),
    (change("annotations", [5]), "captions.json: `annotations` must be a list of objects"),
    (change("annotations", []), "captions.json: `annotations` holds no caption"),
    (change("annotations.1.caption", 5), r"annotations\[1\]\.caption must be a string, found a whole number"),
    (change("annotations.1.caption", None), r"annotations\[1\]\.caption must be a string, found nothing"),
    (change("annotations.0.image_id", 99), r"annotations\[0\]\.image_id is 99, which `images` does not list"),
    (change("annotations.0.image_id", "n3"), r"annotations\[0\]\.image_id is 'n3', which `images` does not list"),
    (change("annotations.0.image_id", 3.5), r"annotations\[0\]\.image_id must be an id, a whole number or a string, found a number"),
    (change("annotations.0.image_id", ""), r"annotations\[0\]\.image_id must be an id, a whole number or a string, found an empty string"),
    (change("images.1.id", "7"), r"images\[1\]\.id is '7', which another of `images` has already"),
    (change("images.0.file_name", "../b.jpg"), "the image '../b.jpg' leads out of"),
    (change("images.0.file_name", "/etc/b.jpg"), "the image '/etc/b.jpg' leads out of"),
    (change("images.1.id", 7), r"images\[1\]\.id is 7, which another of `images` has already"),
    (change("images.1.id", KeyError), r"images\[1\]\.id must be an id, a whole number or a string, found nothing"),
    (change("images.0.file_name", KeyError), r"images\[0\]\.file_name must be a string, found nothing"),
    (change("images.0.file_name", ""), r"images\[0\]\.file_name is empty"),
    (change("annotations.0", {"id": 1, "image_id": 3, "bbox": [1, 2, 3, 4]}), r"annotations\[0\] is an object instance, not a caption"),
    (change("images.0.file_name", "gone.jpg"), "1 of 2 listed images are not in .*: gone.jpg"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_what_is_wrong_is_one_line_with_file_and_key(images: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(images, content)
    assert "captions.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda leaf: st.lists(leaf, max_size=3)), st.data())
def test_any_value_in_any_place_is_read_or_refused_properly(tmp_path_factory: pytest.TempPathFactory, value: Any, data: Any) -> None:
    places = ["images", "annotations", "images.0", "images.0.id", "images.1.file_name", "annotations.2.image_id", "annotations.0.caption"]
    folder = tmp_path_factory.mktemp("any")
    (folder / "photos" / "sub").mkdir(parents=True)
    for name in ("b.jpg", "sub/a.jpg"):
        (folder / "photos" / name).touch()
    with suppress(InputError):  # nothing else may be raised
        read(folder / "photos", change(data.draw(st.sampled_from(places)), value))


def test_a_missing_file_and_a_missing_folder_are_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.json: caption annotations not found"):
        read_coco_captions(tmp_path / "gone.json", images)
    read(images, record())
    with pytest.raises(InputError, match="nowhere: folder of images not found"):
        read_coco_captions(tmp_path / "captions.json", tmp_path / "nowhere")


def test_many_missing_images_are_counted_and_a_few_named(images: Path) -> None:
    changed = record()
    changed["images"] += [{"id": 100 + k, "file_name": f"gone{k}.jpg"} for k in range(5)]
    changed["annotations"] += [{"id": 100 + k, "image_id": 100 + k, "caption": "x"} for k in range(5)]
    with pytest.raises(
        InputError,
        match=r"5 of 7 listed images are not in .*: gone0.jpg, gone1.jpg, gone2.jpg, \.\.\.; data\.missing=skip leaves them out$",
    ):
        read(images, changed)


def test_missing_images_can_be_skipped_with_a_logged_line(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        captions = read(images, change("images.0.file_name", "gone.jpg"), missing="skip")
    assert list(captions.image_ids) == [3]
    assert "gone.jpg; they are left out" in caplog.text


def test_images_without_captions_are_dropped_for_training_and_kept_for_predicting(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed = record()
    del changed["annotations"][1]
    with caplog.at_level(logging.INFO):
        assert list(read(images, changed).image_ids) == [3]
    assert "1 of 2 listed images have no caption" in caplog.text
    kept = read(images, changed, uncaptioned="keep")
    assert kept.references == {7: [], 3: ["A dog .", "The dog ."]}


def test_annotations_without_ids_are_accepted(images: Path) -> None:
    changed = record()
    for annotation in changed["annotations"]:
        del annotation["id"]
    assert read(images, changed).references == read(images, record()).references


BIG = 15513034351195312651


@pytest.mark.parametrize(
    ("images_have", "annotations_have"),
    [(BIG, BIG), ("7", 7), (7, 7.0), (7.0, "7"), ("n07", "n07"), ("0007", "0007"), (-7, "-7"), (str(BIG), BIG)],
)
def test_ids_of_any_size_and_spelling_are_matched_and_kept_as_the_images_have_them(
    images: Path, images_have: object, annotations_have: object
) -> None:
    changed = change("images.0.id", images_have)
    changed["annotations"][1]["image_id"] = annotations_have
    captions = read(images, changed)
    assert [repr(image_id) for image_id in captions.image_ids] == [repr(images_have), "3"]
    assert captions.captions_of(0) == ["A cat ."]


def test_an_id_with_leading_zeros_is_another_image(images: Path) -> None:
    assert list(read(images, change("images.1.id", "07") | {"annotations": [{"image_id": "07", "caption": "x"}]}).references) == ["07"]


def test_blank_and_rejected_captions_are_left_out_counted_and_can_be_kept(images: Path, caplog: pytest.LogCaptureFixture) -> None:
    changed = change("annotations.1.caption", " \n")
    changed["annotations"][0]["is_precanned"] = changed["annotations"][2]["is_rejected"] = True
    changed["annotations"] += [{"image_id": 3, "caption": "A hen", "is_precanned": False, "is_rejected": False}]
    with caplog.at_level(logging.INFO):
        assert read(images, changed).references == {3: ["A hen"]}
    assert "1 of 4 captions are left out: blank captions" in caplog.text
    assert "2 of 4 captions are left out: captions marked is_rejected or is_precanned" in caplog.text
    assert read(images, changed, rejected="keep").references == {3: ["A dog .", "The dog .", "A hen"]}


@pytest.mark.parametrize("options", [{"rejected": "drop"}, {"missing": "ignore"}, {"uncaptioned": "maybe"}])
def test_unknown_options_are_refused(images: Path, options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        read(images, record(), **options)


def test_caption_files_have_the_splits_that_are_given(images: Path) -> None:
    read(images, record())
    split = {"annotations": str(images.parent / "captions.json"), "images": str(images), "instances": None}
    source = CaptionFiles(train=split, val={**split, "instances": "boxes.json"}, test={"annotations": None, "images": None})
    assert list(source.splits()) == ["train", "val"]
    assert source.instances == {"val": Path("boxes.json")}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({}, r"data\.train\.annotations is not set"),
        ({"train": {"annotations": "a.json"}}, r"data\.train\.images is not set"),
        ({"val": {"images": "a"}}, r"data\.val\.annotations is not set"),
    ],
)
def test_caption_files_name_the_key_that_is_not_set(splits: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CaptionFiles(**splits)


def test_coco_names_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.root is not set"):
        Coco(None)
    with pytest.raises(InputError, match="nowhere: folder not found"):
        Coco(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"captions_train2017\.json: caption annotations not found"):
        Coco(tmp_path).splits()


def test_coco_as_distributed_is_read(real_data: Path) -> None:
    source = Coco(real_data / "coco_tiny")
    splits = source.splits()
    assert {split: len(captions) for split, captions in splits.items()} == {"train": 40, "val": 10}
    assert {split: len(captions.captions) for split, captions in splits.items()} == {"train": 200, "val": 50}
    assert set(source.instances) == {"train", "val"}
    assert all(path.is_file() for path in source.instances.values())
    listed = json.loads((real_data / "coco_tiny" / "annotations" / "captions_val2017.json").read_text())["annotations"]
    for image_id, said in splits["val"].references.items():
        assert said == [annotation["caption"] for annotation in listed if annotation["image_id"] == image_id]
