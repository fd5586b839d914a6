"""What COCO's instances files say of the objects in an image: categories, boxes and masks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from captioner.box import CocoBox
from captioner.errors import InputError
from captioner.ids import ImageKey, image_key
from captioner.json_files import read_json

FAR = 10**6
"""No corner of a polygon is so many pixels away."""


class Instance(NamedTuple):
    """One object, or a crowd of them."""

    category: str
    box: CocoBox
    crowd: bool
    segmentation: Any
    """Polygons or run lengths, as the file has them; None where it has none."""

    @property
    def drawn(self) -> bool:
        """Whether the file draws a mask."""
        return self.segmentation is not None

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


def read_instances(path: Path | str) -> dict[ImageKey, list[Instance]]:
    """Image -> its objects in the file's order, for every image that the file lists.

    Raises: InputError, the first thing wrong in the file, by file and key.
    """
    return read_instances_and_sizes(path)[0]


def read_instances_and_sizes(path: Path | str) -> tuple[dict[ImageKey, list[Instance]], dict[ImageKey, tuple[int, int]]]:
    """As `read_instances`; and the (width, height) in pixels of the images of which the file says it."""
    path = Path(path)
    record = read_json(path, "object instances")
    _check_shape(path, record)
    found: dict[ImageKey, list[Instance]] = {}
    sizes: dict[ImageKey, tuple[int, int]] = {}
    for index, image in enumerate(record["images"]):
        key = image_key(image["id"])
        if key is None:
            raise InputError(f"{path}: images[{index}].id must be a whole number or a string, not {image['id']!r}")
        found[key] = []
        if all(isinstance(image.get(side), int | float) and 0 < image[side] < FAR for side in ("width", "height")):
            sizes[key] = int(image["width"]), int(image["height"])
    categories = {image_key(category["id"]): str(category["name"]) for category in record["categories"]}
    for index, entry in enumerate(record["annotations"]):
        key = _checked(f"{path}: annotations[{index}]", entry, found, categories)
        found[key].append(_instance(entry, categories[image_key(entry["category_id"])]))
    return found, sizes


def fit_to_photo(things: Sequence[Instance], told: tuple[int, int] | None, size: tuple[int, int]) -> list[Instance]:
    """The objects on a photo of this (width, height): boxes and masks in its pixels.

    told: the size that they were drawn for, as the file says; None, as their masks or boxes show. A photo of the same shape (to a pixel)
    at another size has them scaled. Raises: InputError, the photo has another shape, so where they are on it cannot be known.
    """
    told = told or next((_mask_size(thing) for thing in things if _mask_size(thing)), None)
    if told is None:
        beyond = any(max(thing.box[side] + thing.box[side + 2] - size[side] for side in (0, 1)) > 2 for thing in things)
        if beyond:
            raise InputError(f"the photo has {size[0]} x {size[1]} pixels, and boxes reach beyond it")
        return list(things)
    for thing in things:
        if (drawn := _mask_size(thing) or told) != told:
            raise InputError(f"the mask of a {thing.category} has {drawn[0]} x {drawn[1]} pixels, its image {told[0]} x {told[1]}")
    if told == size:
        return list(things)
    if abs(told[1] * size[0] - told[0] * size[1]) > max(told):
        raise InputError(f"the photo has {size[0]} x {size[1]} pixels, and its objects were marked on one of {told[0]} x {told[1]}")
    return [_scaled(thing, told, size) for thing in things]


def _mask_size(thing: Instance) -> tuple[int, int] | None:
    drawn = thing.segmentation
    return (int(drawn["size"][1]), int(drawn["size"][0])) if isinstance(drawn, dict) and "size" in drawn else None


def _scaled(thing: Instance, told: tuple[int, int], size: tuple[int, int]) -> Instance:
    across, down = size[0] / told[0], size[1] / told[1]
    x, y, width, height = thing.box
    drawn = thing.segmentation
    if isinstance(drawn, list):
        drawn = [[at * (down if place % 2 else across) for place, at in enumerate(polygon)] for polygon in drawn]
    elif drawn:
        from pycocotools import mask as coding

        rows = ((np.arange(size[1]) + 0.5) / down).astype(int).clip(0, told[1] - 1)
        columns = ((np.arange(size[0]) + 0.5) / across).astype(int).clip(0, told[0] - 1)
        drawn = coding.encode(np.asfortranarray(thing.mask(told[1], told[0])[rows][:, columns], dtype=np.uint8))
    return thing._replace(box=(x * across, y * down, width * across, height * down), segmentation=drawn)


def _instance(entry: Mapping[str, Any], category: str) -> Instance:
    x, y, width, height = map(float, entry["bbox"])
    return Instance(category, (x, y, width, height), bool(entry.get("iscrowd", 0)), entry.get("segmentation") or None)


def _check_shape(path: Path, record: Any) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected a JSON object in COCO instances format")
    for key in ("images", "annotations", "categories"):
        if not isinstance(record.get(key), list) or not all(isinstance(entry, dict) for entry in record[key]):
            raise InputError(f"{path}: `{key}` must be a list of objects; expected COCO instances format (instances_*.json)")
    for key, needed in (("images", "id"), ("categories", "id"), ("categories", "name")):
        for index, entry in enumerate(record[key]):
            if needed not in entry:
                raise InputError(f"{path}: {key}[{index}].{needed} is missing")


def _checked(where: str, entry: Mapping[str, Any], images: Mapping[ImageKey, Any], categories: Mapping[Any, str]) -> ImageKey:
    """The image that an annotation is of. Raises: InputError."""
    image = image_key(entry.get("image_id"))
    if image is None or image not in images:
        raise InputError(f"{where}.image_id is {entry.get('image_id')!r}, which `images` does not list")
    if image_key(entry.get("category_id")) not in categories:
        raise InputError(f"{where}.category_id is {entry.get('category_id')!r}, which `categories` does not list")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) and math.isfinite(side) for side in box):
        raise InputError(f"{where}.bbox must be [x, y, width, height]")
    drawn = entry.get("segmentation")
    if isinstance(drawn, dict) and not _is_runs(drawn):
        raise InputError(f"{where}.segmentation must hold `size`, [height, width], and `counts` of all its pixels")
    if drawn and not isinstance(drawn, dict) and not _is_polygons(drawn):
        raise InputError(f"{where}.segmentation must be polygons, lists of x, y, x, y ..., or run lengths")
    return image


def _is_runs(drawn: Mapping[str, Any]) -> bool:
    """pycocotools believes what it is given, and reads and writes beyond its memory where that is wrong."""
    size, counts = drawn.get("size"), drawn.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        return False
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    return isinstance(runs, list) and all(isinstance(run, int) and run >= 0 for run in runs) and sum(runs) == size[0] * size[1]


def _unpacked(text: str) -> list[int] | None:
    """The run lengths in COCO's letters: five bits each, the lowest first, of the difference to the run before the last; None, none."""
    runs: list[int] = []
    value = place = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or place > 12:
            return None
        value |= (bits & 31) << 5 * place
        place += 1
        if not bits & 32:
            value -= (bits & 16 and 1) << 5 * place
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = place = 0
    return None if place else runs


def _is_polygons(drawn: Any) -> bool:
    return isinstance(drawn, list) and all(
        isinstance(polygon, list) and len(polygon) >= 6 and all(isinstance(at, int | float) and abs(at) <= FAR for at in polygon)
        for polygon in drawn
    )
