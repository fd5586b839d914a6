"""Annotations with anything wrong in any place are read, or refused in one line; nothing else happens.

CAPTIONER_MUTATIONS=2000 tries so many of each file instead of a hundred.
"""

import copy
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from captioner.cli.references import References
from captioner.data.captions import read_coco_captions, read_references
from captioner.data.folder import Folder
from captioner.data.instances import fit_to_photo, read_instances_and_sizes
from captioner.data.karpathy import Karpathy
from captioner.data.object_words import category_phrases
from captioner.errors import InputError
from captioner.metrics.systems import read_results

IMAGES = [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}, {"id": "2", "file_name": "sub/b.jpg", "width": 4, "height": 30}]
COCO = {"images": IMAGES, "annotations": [{"id": i, "image_id": 1 + i % 2, "caption": "a dog", "is_rejected": False} for i in range(4)]}
POLYGON = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 2, 3, 4, 5, 6]], "iscrowd": 0}
RUNS = {**POLYGON, "id": 2, "image_id": 2, "segmentation": {"size": [30, 4], "counts": [20, 100]}, "iscrowd": 1}
LETTERS = {**POLYGON, "id": 3, "segmentation": {"size": [30, 40], "counts": "k36h000000mm0"}}
OBJECTS = {"images": IMAGES, "annotations": [POLYGON, RUNS, LETTERS], "categories": [{"id": 1, "name": "dog"}]}
KARPATHY = {"images": [{"filename": "a.jpg", "imgid": 0, "split": "train", "sentences": [{"raw": "a dog"}]}], "dataset": "x"}
RESULTS = [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}]
ROWS = [{"file_name": "a.jpg", "caption": "x", "split": "train"}, {"image": "sub/b.jpg", "captions": ["y", "z"], "split": "val"}]
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2,
    1.0,
    2.5,
    1e308,
    float("inf"),
    float("nan"),
    10**30,
    "",
    "1",
    " ",
    "../x",
    "/etc/passwd",
    "a.jpg",
]
VALUES += [
    "sub\\b.jpg",
    "\0",
    "é",
    [],
    {},
    [1],
    ["a"],
    [[1, 2]],
    [[1, 2, 3, 4, 5, "x"]],
    {"size": [30, 4], "counts": "zz"},
    {"raw": "x"},
    "[1",
]


def objects(path: Path) -> None:
    found, sizes = read_instances_and_sizes(path)
    names = category_phrases(found)
    for key, things in found.items():
        names(key, ["a", "dog"])
        for size in ((40, 30), (20, 15), (4, 30)):
            with suppress(InputError):
                for thing in fit_to_photo(things, sizes.get(key), size):
                    thing.mask(size[1], size[0])


def references(path: Path) -> None:
    paths = [str(path.parent / "a.jpg"), str(path.parent / "sub" / "b.jpg")]
    found = References(path, paths)
    for one in paths:
        found.image_id(one), found.why_not(one), found.scores(one, "a dog")


READERS: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "captions": (COCO, lambda path: read_coco_captions(path, path.parent, missing="skip")),
    "references": (COCO, read_references),
    "predict": (COCO, references),
    "objects": (OBJECTS, objects),
    "karpathy": (KARPATHY, lambda path: Karpathy(path, path.parent, missing="skip").splits()),
    "results": (RESULTS, read_results),
    "rows": (ROWS, lambda path: Folder(path.parent, path, missing="skip").splits()),
}


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield (*above, key)
        yield from places(part, (*above, key))


def mutated(record: Any, rng: random.Random) -> Any:
    record = copy.deepcopy(record)
    for _ in range(rng.randrange(1, 3)):
        *above, last = rng.choice(list(places(record)) or [(0,)])
        place = record
        for key in above:
            place = place[key]
        if rng.random() < 0.2 and place:
            del place[last]
        elif place:
            place[last] = copy.deepcopy(rng.choice(VALUES))
    return record


def try_out(kind: str, count: int, folder: Path) -> int:
    """How many of so many mutations were read; the others were refused in one line."""
    record, reader = READERS[kind]
    rng = random.Random(kind)
    (folder / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg"):
        (folder / name).touch()
    path, fine = folder / "file.json", 0
    for _ in range(count):
        path.write_text(json.dumps(mutated(record, rng)))
        fine += refusal(reader, path) is None
    return fine


def refusal(reader: Callable[[Path], Any], path: Path) -> str | None:
    try:
        reader(path)
    except InputError as error:
        return one_line(str(error), path)
    return None


def one_line(message: str, path: Path) -> str:
    assert "\n" not in message, path.read_text()
    return message


@pytest.mark.parametrize("kind", READERS)
def test_anything_anywhere_is_read_or_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    count = int(os.environ.get("CAPTIONER_MUTATIONS", "100"))
    assert 0 < try_out(kind, count, tmp_path) < count
