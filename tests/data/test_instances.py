"""COCO's instances: boxes and masks as the file has them, mistakes by file and key."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coding

from captioner.data.coco import Coco
from captioner.data.instances import fit_to_photo, read_instances
from captioner.errors import InputError

SQUARE = [[2, 1, 6, 1, 6, 4, 2, 4]]


def record() -> dict[str, Any]:
    """Two images of 5 x 9 pixels: a polygon, run lengths (column by column) and a box alone."""
    runs = {"size": [5, 9], "counts": [5, 5, 35]}
    entries = [("polygon", 7, 3, [2, 1, 4, 3], SQUARE), ("runs", 7, 8, [1, 0, 1, 5], runs), ("box", 9, 3, [0.0, 2.0, 3.0, 2.0], None)]
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "iscrowd": int(name == "runs"), "segmentation": drawn}
        for number, (name, image, category, box, drawn) in enumerate(entries, 1)
    ]
    return {
        "images": [{"id": 7}, {"id": 9}, {"id": 4}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cup"}, {"id": 8, "name": "crowd of cups"}],
    }


def written(folder: Path, content: Any) -> Path:
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def test_masks_of_every_form_are_the_pixels_worked_out_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_instances(written(tmp_path, record()))
    assert list(found) == [7, 9, 4]
    assert found[4] == []
    polygon, runs = found[7]
    (box,) = found[9]
    assert [(thing.category, thing.crowd) for thing in (polygon, runs, box)] == [("cup", False), ("crowd of cups", True), ("cup", False)]
    assert polygon.box == (2.0, 1.0, 4.0, 3.0)
    for thing, rows, cols in ((polygon, slice(1, 4), slice(2, 6)), (runs, slice(0, 5), slice(1, 2)), (box, slice(2, 4), slice(0, 3))):
        expected = np.zeros((5, 9), bool)
        expected[rows, cols] = True
        assert (thing.mask(5, 9) == expected).all()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("image_id", 5, r"annotations\[1\]\.image_id is 5"),
        ("category_id", 5, r"annotations\[1\]\.category_id is 5"),
        ("bbox", [1, 2, 3], r"annotations\[1\]\.bbox must be"),
    ],
)
def test_what_is_wrong_is_said_by_file_and_key(tmp_path: Path, key: str, value: Any, message: str) -> None:
    content = record()
    content["annotations"][1][key] = value
    with pytest.raises(InputError, match=rf"instances\.json: {message}"):
        read_instances(written(tmp_path, content))


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    for content in ([], {"images": [], "annotations": []}):
        with pytest.raises(InputError, match=r"instances\.json: .*COCO instances format|JSON object in COCO"):
            read_instances(written(tmp_path, content))
    with pytest.raises(InputError, match="object instances not found"):
        read_instances(tmp_path / "none.json")


def test_real_coco_s_masks_lie_in_their_boxes(real_data: Path) -> None:
    source = Coco(real_data / "coco_tiny")
    for split, path in source.instances.items():
        sizes = {image["id"]: (image["height"], image["width"]) for image in json.loads(path.read_text())["images"]}
        found = read_instances(path)
        assert found.keys() == set(source.splits()[split].image_ids)
        assert sum(map(len, found.values())) > len(found), "several objects an image"
        for image_id, things in found.items():
            for thing in things:
                rows, cols = np.nonzero(thing.mask(*sizes[image_id]))
                left, top, width, height = thing.box
                assert left - 1 <= cols.min() <= cols.max() <= left + width + 1
                assert top - 1 <= rows.min() <= rows.max() <= top + height + 1


@pytest.mark.parametrize(
    "drawn",
    [
        {"size": [5, 9], "counts": [5, 5, 34]},
        {"size": [5, 9], "counts": [50, -5]},
        {"size": [5, 9], "counts": "zz"},
        {"size": [5], "counts": [45]},
        {"size": [5, 9]},
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 1e300]],
        "mask",
    ],
)
def test_masks_that_are_none_are_refused_before_they_are_drawn(tmp_path: Path, drawn: Any) -> None:
    content = record()
    content["annotations"][0]["segmentation"] = drawn
    with pytest.raises(InputError, match=r"instances\.json: annotations\[0\]\.segmentation must"):
        read_instances(written(tmp_path, content))


def test_run_lengths_in_letters_are_those_that_pycocotools_writes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        mask = np.asfortranarray((rng.random((37, 53)) < share).astype(np.uint8))
        runs = coding.encode(mask)
        content = record()
        content["annotations"][0]["segmentation"] = {"size": runs["size"], "counts": runs["counts"].decode()}
        assert (read_instances(written(tmp_path, content))[7][0].mask(37, 53) == mask).all()


def test_objects_scale_with_a_photo_of_the_same_shape_whatever_draws_them(tmp_path: Path) -> None:
    polygon, runs = read_instances(written(tmp_path, record()))[7]
    twice = fit_to_photo([polygon, runs], (9, 5), (18, 10))
    assert [thing.box for thing in twice] == [(4.0, 2.0, 8.0, 6.0), (2.0, 0.0, 2.0, 10.0)]
    for thing, own in zip(twice, (polygon, runs), strict=True):
        assert (thing.mask(10, 18) == own.mask(5, 9).repeat(2, 0).repeat(2, 1)).all()
    assert fit_to_photo([polygon], (9, 5), (9, 5)) == [polygon]
    for told, size in (((9, 5), (5, 9)), ((9, 5), (20, 20)), (None, (7, 5))):
        with pytest.raises(InputError, match=f"the photo has {size[0]} x {size[1]} pixels"):
            fit_to_photo([polygon, runs], told, size)
    with pytest.raises(InputError, match="boxes reach beyond it"):
        fit_to_photo([polygon], None, (3, 3))
