"""Drawn scenes: what the files say is what the pixels show, and the splits keep their promises."""

import io
import json
import os
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from captioner.errors import InputError
from captioner.scenes.drawing import COLOUR_VALUES
from captioner.scenes.layout import COLOURS, KINDS, unseen_combinations
from captioner.scenes.scenes import Scenes
from captioner.tokenizer import tokenize

SIZES = {"train": 263, "val": 31, "test": 47}  # train is more than one chunk of work


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    scenes = Scenes(tmp_path_factory.mktemp("scenes") / "here", **SIZES, seed=3, workers=1)
    scenes.draw()
    return scenes


def truth(scenes: Scenes, split: str) -> dict[str, dict]:
    return json.loads(scenes.scenes[split].read_text())["scenes"]


def instances(scenes: Scenes, split: str) -> COCO:
    with redirect_stdout(io.StringIO()):
        return COCO(scenes.instances[split])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "scenes.json"
    }


def test_the_number_of_workers_changes_nothing(drawn: Scenes, tmp_path: Path) -> None:
    again = Scenes(tmp_path / "again", **SIZES, seed=3, workers=2)
    again.draw()
    assert contents(again.root) == contents(drawn.root)


def test_a_scene_depends_on_its_own_number_and_not_on_how_many_there_are(drawn: Scenes, tmp_path: Path) -> None:
    few = Scenes(tmp_path / "few", train=5, val=3, test=2, seed=3, workers=1)
    few.draw()
    for split, number in few.sizes.items():
        names = sorted(path.name for path in (few.root / split).iterdir())
        assert len(names) == number
        assert all((few.root / split / name).read_bytes() == (drawn.root / split / name).read_bytes() for name in names)


def test_another_seed_draws_other_scenes(drawn: Scenes, tmp_path: Path) -> None:
    other = Scenes(tmp_path / "other", train=5, val=3, test=2, seed=4, workers=1)
    other.draw()
    assert (other.root / "train/train_000000.png").read_bytes() != (drawn.root / "train/train_000000.png").read_bytes()


def test_splits_are_captions_in_coco_layout(drawn: Scenes) -> None:
    splits = drawn.splits()
    assert {split: len(captions) for split, captions in splits.items()} == SIZES
    ids = [image_id for captions in splits.values() for image_id in captions.references]
    assert len(set(ids)) == len(ids)
    for captions in splits.values():
        assert all(len(set(said)) == 5 for said in captions.references.values())
    for split in ("val", "test"):
        extra = json.loads(drawn.extra_captions[split].read_text())
        assert {entry["image_id"] for entry in extra} == set(splits[split].references)


@pytest.mark.parametrize("split", SIZES)
def test_boxes_and_areas_are_those_of_the_masks_and_masks_never_meet(drawn: Scenes, split: str) -> None:
    coco = instances(drawn, split)
    for image_id in coco.getImgIds():
        annotations = coco.loadAnns(coco.getAnnIds(image_id))
        masks = [coco.annToMask(annotation).astype(bool) for annotation in annotations]
        assert 1 <= len(masks) <= 4
        assert np.sum(masks, 0).max() == 1
        for mask, annotation in zip(masks, annotations, strict=True):
            ys, xs = np.nonzero(mask)
            assert annotation["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert annotation["area"] == mask.sum()
            assert min(annotation["bbox"][2:]) >= 12


def test_truth_and_instances_tell_of_the_same_objects(drawn: Scenes) -> None:
    coco = instances(drawn, "test")
    for image_id, scene in truth(drawn, "test").items():
        annotations = coco.loadAnns(coco.getAnnIds(int(image_id)))
        told = [(coco.cats[a["category_id"]]["name"], a["attributes"]["colour"], a["attributes"]["size"], a["bbox"]) for a in annotations]
        assert told == [(o["kind"], o["colour"], o["size"], o["box"]) for o in scene["objects"]]


def test_an_object_shows_its_colour_at_its_visible_pixels(drawn: Scenes) -> None:
    coco = instances(drawn, "train")
    names, paints = list(COLOUR_VALUES), np.array(list(COLOUR_VALUES.values()), float)
    for image in coco.loadImgs(coco.getImgIds()[:150]):
        pixels = np.asarray(Image.open(drawn.root / "train" / image["file_name"]), float)
        assert pixels.shape == (96, 96, 3)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            shown = np.median(pixels[coco.annToMask(annotation) > 0], 0)
            nearest = names[int(np.argmin(np.abs(paints - shown).sum(1)))]
            assert nearest == annotation["attributes"]["colour"]


def test_the_mask_outlines_the_object_and_not_its_ground(drawn: Scenes) -> None:
    """Pixels in the mask are nearer to the paint than those of a frame around the box, for objects that nothing touches."""
    coco = instances(drawn, "train")
    for image in coco.loadImgs(coco.getImgIds()[:60]):
        pixels = np.asarray(Image.open(drawn.root / "train" / image["file_name"]), float)
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        everything = np.sum([coco.annToMask(annotation) for annotation in annotations], 0) > 0
        for annotation in annotations:
            distance = np.abs(pixels - np.array(COLOUR_VALUES[annotation["attributes"]["colour"]])).sum(-1)
            left, top, width, height = annotation["bbox"]
            around = np.zeros((96, 96), bool)
            around[max(top - 4, 0) : top + height + 4, max(left - 4, 0) : left + width + 4] = True
            around &= ~everything
            assert np.median(distance[coco.annToMask(annotation) > 0]) < 0.5 * np.median(distance[around])


def test_what_is_in_front_touches_what_is_behind_and_no_others_touch(drawn: Scenes) -> None:
    covering = 0
    for scene in truth(drawn, "train").values():
        pairs = {tuple(pair) for pair in scene["in_front"]}
        covering += bool(pairs)
        for i, one in enumerate(scene["objects"]):
            for j, other in enumerate(scene["objects"]):
                (x, y, w, h), (u, v, a, b) = one["box"], other["box"]
                meet = x < u + a and u < x + w and y < v + b and v < y + h
                if (i, j) in pairs:
                    assert one["depth"] > other["depth"]
                    assert one["colour"] != other["colour"]
                elif i != j and (j, i) not in pairs:
                    assert not meet
    assert covering >= 0.1 * SIZES["train"]


def test_train_val_and_test_share_no_scene(drawn: Scenes) -> None:
    def keys(split: str) -> set:
        return {
            frozenset((o["kind"], o["colour"], o["size"], *o["box"]) for o in scene["objects"]) for scene in truth(drawn, split).values()
        }

    assert not keys("train") & keys("val")
    assert not keys("train") & keys("test")
    assert not keys("val") & keys("test")


def test_only_test_shows_the_unseen_combinations_and_each_kind_and_colour_is_seen(drawn: Scenes) -> None:
    unseen = unseen_combinations(drawn.seed)
    assert len(unseen) >= 8
    shown = {split: [{(o["kind"], o["colour"]) for o in scene["objects"]} for scene in truth(drawn, split).values()] for split in SIZES}
    assert all(not pairs & unseen for split in ("train", "val") for pairs in shown[split])
    assert all(pairs & unseen for pairs in shown["test"])
    seen = set().union(*shown["train"])
    assert {kind for kind, _ in seen} == set(KINDS)
    assert {colour for _, colour in seen} == set(COLOURS)


def test_scenes_are_no_toy(drawn: Scenes) -> None:
    scenes = truth(drawn, "train").values()
    numbers = Counter(len(scene["objects"]) for scene in scenes)
    assert set(numbers) == {1, 2, 3, 4}
    assert {o["size"] for scene in scenes for o in scene["objects"]} == {"small", "large"}
    said = {word for of_image in drawn.splits()["train"].references.values() for text in of_image for word in tokenize(text)}
    assert {"two", "three", "left", "right", "above", "below", "behind", "front"} <= said
    areas = {"small": [], "large": []}
    for scene in scenes:
        for o in scene["objects"]:
            areas[o["size"]].append(max(o["box"][2:]))
    assert max(areas["small"]) < 19 < 20 < np.median(areas["large"])


def test_references_vary_and_boxes_leave_most_of_the_image(drawn: Scenes) -> None:
    summary = drawn.draw()
    assert 0.2 < summary["references_BLEU-4"] < 0.6
    assert summary["covered"] <= 0.12
    covered = []
    for split in SIZES:
        for scene in truth(drawn, split).values():
            cells = {(r, c) for o in scene["objects"] for x, y, w, h in [o["box"]] for r in range(y, y + h) for c in range(x, x + w)}
            covered.append(len(cells) / 96**2)
    assert np.mean(covered) == pytest.approx(summary["covered"], abs=1e-4)


def test_a_drawn_folder_is_kept_and_one_drawn_otherwise_is_replaced(tmp_path: Path) -> None:
    sizes = {"train": 2, "val": 1, "test": 1, "workers": 1}
    Scenes(tmp_path / "s", **sizes).draw()
    marked = tmp_path / "s/train/train_000000.png"
    marked.write_bytes(b"mark")
    Scenes(tmp_path / "s", **sizes).draw()
    assert marked.read_bytes() == b"mark"
    Scenes(tmp_path / "s", **sizes, seed=1).draw()
    assert marked.read_bytes() != b"mark"
    assert [path.name for path in tmp_path.iterdir()] == ["s"]  # nothing is left beside


def test_what_was_not_drawn_is_never_deleted(tmp_path: Path) -> None:
    sizes = {"train": 2, "val": 1, "test": 1, "workers": 1}
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="something other than drawn scenes"):
        Scenes(tmp_path, **sizes).draw()
    with pytest.raises(InputError, match="is a file"):
        Scenes(tmp_path / "photo.jpg", **sizes).draw()
    Scenes(tmp_path / "s", **sizes).draw()
    (tmp_path / "s/notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        Scenes(tmp_path / "s", **sizes, seed=1).draw()
    (tmp_path / "s/scenes.json").write_text("[1]")
    with pytest.raises(InputError, match="something other than drawn scenes"):
        Scenes(tmp_path / "s", **sizes).draw()
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"
    assert (tmp_path / "s/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("bad", [{"train": 0}, {"val": 1_000_000}, {"image_size": 20}, {"workers": 0}])
def test_bad_values_are_refused_by_name(tmp_path: Path, bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Scenes(tmp_path, **bad)


def test_scenes_that_a_process_uses_are_not_drawn_otherwise_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captioner.scenes.scenes.PATIENCE", 0.2)
    sizes = {"train": 2, "val": 1, "test": 1, "workers": 1}
    used, same, other = (Scenes(tmp_path / "scenes", seed=seed, **sizes) for seed in (0, 0, 1))
    with used.in_use():
        pictures = (tmp_path / "scenes" / "train" / "train_000000.png").read_bytes()
        with same.in_use():
            pass
        with pytest.raises(InputError, match=rf"scenes: process {os.getpid()} on .* uses other scenes there"):
            other.draw()
        assert (tmp_path / "scenes" / "train" / "train_000000.png").read_bytes() == pictures
    other.draw()
    assert (tmp_path / "scenes" / "train" / "train_000000.png").read_bytes() != pictures
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]
