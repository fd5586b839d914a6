"""What COCO's instances files say of the objects in an image: categories, boxes and masks."""

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from captioner.errors import InputError
from captioner.files import read_json


class Instance(NamedTuple):
    """One object, or a crowd of them."""

    category: str
    box: tuple[float, float, float, float]
    """(x, y, width, height) in original pixels."""
    crowd: bool
    segmentation: Any
    """Polygons or run lengths, as the file has them; None where it has none."""

    def mask(self, height: int, width: int) -> Bool[np.ndarray, "height width"]:
        """True where the object is, in an image of this size; the whole box where the file draws no mask."""
        from pycocotools import mask as coding

        if not self.segmentation:
            x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
            left, top, wide, high = self.box
            return ((y >= top) & (y < top + high))[:, None] & ((x >= left) & (x < left + wide))
        runs = self.segmentation
        if isinstance(runs, list):
            runs = coding.merge(coding.frPyObjects(runs, height, width))
        elif isinstance(runs["counts"], list):
            runs = coding.frPyObjects(runs, height, width)
        return coding.decode(runs).astype(bool)


def read_instances(path: Path | str) -> dict[int, list[Instance]]:
    """Image id -> its objects in the file's order, for every image that the file lists.

    Raises: InputError, the first thing wrong in the file, by file and key.
    """
    return read_objects(path)[0]


def read_objects(path: Path | str) -> tuple[dict[int, list[Instance]], dict[int, tuple[int, int]]]:
    """As `read_instances`; and the (width, height) in pixels of the images of which the file says it."""
    path = Path(path)
    record = read_json(path, "object instances")
    _validate(path, record)
    from pycocotools.coco import COCO

    with redirect_stdout(io.StringIO()):  # pycocotools prints
        coco = COCO()
        coco.dataset = record
        coco.createIndex()
    sizes = {image["id"]: (image["width"], image["height"]) for image in record["images"] if {"width", "height"} <= image.keys()}
    return {image["id"]: [_instance(entry, coco.cats) for entry in coco.imgToAnns[image["id"]]] for image in record["images"]}, sizes


def _instance(entry: Mapping[str, Any], categories: Mapping[int, Mapping[str, Any]]) -> Instance:
    x, y, width, height = map(float, entry["bbox"])
    crowd = bool(entry.get("iscrowd", 0))
    return Instance(categories[entry["category_id"]]["name"], (x, y, width, height), crowd, entry.get("segmentation"))


def _validate(path: Path, record: Any) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected a JSON object in COCO instances format")
    for key in ("images", "annotations", "categories"):
        if not isinstance(record.get(key), list) or not all(isinstance(entry, dict) for entry in record[key]):
            raise InputError(f"{path}: `{key}` must be a list of objects; expected COCO instances format (instances_*.json)")
    for key, needed in (("images", "id"), ("annotations", "id"), ("categories", "id"), ("categories", "name")):
        for index, entry in enumerate(record[key]):
            if needed not in entry:
                raise InputError(f"{path}: {key}[{index}].{needed} is missing")
    images = {image["id"] for image in record["images"]}
    categories = {category["id"] for category in record["categories"]}
    for index, entry in enumerate(record["annotations"]):
        where = f"{path}: annotations[{index}]"
        if entry.get("image_id") not in images:
            raise InputError(f"{where}.image_id is {entry.get('image_id')}, which `images` does not list")
        if entry.get("category_id") not in categories:
            raise InputError(f"{where}.category_id is {entry.get('category_id')}, which `categories` does not list")
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
            raise InputError(f"{where}.bbox must be [x, y, width, height]")
