"""Images with their captions, flattened to arrays; and the COCO captions format."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from captioner.data.listed_files import locate_files
from captioner.errors import ArgumentError, InputError
from captioner.ids import ImageId, ImageKey, image_key
from captioner.json_files import json_type, read_json
from captioner.progress import progress
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)


class Strings(Sequence[str]):
    """Strings in one array of UTF-8 bytes and one of offsets: worker processes share them and copy nothing."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
        self.data: UInt8[np.ndarray, " bytes"] = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        self.offsets: Int[np.ndarray, " strings_and_one"] = np.cumsum([0, *(len(string) for string in encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} strings")
        index = int(index) % len(self)
        return self.data[self.offsets[index] : self.offsets[index + 1]].tobytes().decode("utf-8", "surrogatepass")


class CaptionSet:
    """Images and what was said of them, in the order given.

    `names` are paths below `root`, `image_ids` as the data set has them; the captions of image i are `captions[first[i]:first[i + 1]]`.
    Raises: ValueError, the lengths differ, or an image id is none or stands twice.
    """

    def __init__(self, root: Path | str, names: Sequence[str], image_ids: Sequence[ImageId], captions: Sequence[Sequence[str]]) -> None:
        if not len(names) == len(image_ids) == len(captions):
            raise ValueError(f"names, image_ids and captions differ in length: {len(names)}, {len(image_ids)}, {len(captions)}")
        self.root = Path(root)
        self.names = Strings(names)
        self.image_ids: tuple[ImageId, ...] = tuple(image_ids)
        self.captions = Strings([caption for of_image in captions for caption in of_image])
        self.first: Int[np.ndarray, " images_and_one"] = np.cumsum([0, *(len(of_image) for of_image in captions)], dtype=np.int64)
        counts = Counter(map(image_key, self.image_ids))
        if len(counts) != len(self.image_ids) or None in counts:
            wrong = next(image_id for image_id in self.image_ids if (key := image_key(image_id)) is None or counts[key] > 1)
            raise ArgumentError(
                "image_ids", f"holds {wrong!r}, which is " + ("no id" if image_key(wrong) is None else "there more than once")
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    def path(self, image: int) -> Path:
        return self.root / self.names[image]

    def captions_of(self, image: int) -> list[str]:
        return self.captions[int(self.first[image]) : int(self.first[image + 1])]

    @property
    def keys(self) -> list[ImageKey]:
        """What tells the images apart, whatever their ids are written as."""
        return [key for image_id in self.image_ids if (key := image_key(image_id)) is not None]

    @property
    def references(self) -> dict[ImageId, list[str]]:
        """Image id -> its captions as they were written, the form that scorers take."""
        return {image_id: self.captions_of(index) for index, image_id in enumerate(self.image_ids)}

    def tokens(self) -> Iterator[list[str]]:
        """The tokens of every caption, image by image."""
        return (tokenize(caption) for caption in progress(self.captions, "reading captions", unit="caption"))

    def select(self, images: Sequence[int]) -> "CaptionSet":
        """These images only, in this order."""
        chosen = [int(image) for image in images]
        names, captions = [self.names[image] for image in chosen], [self.captions_of(image) for image in chosen]
        return CaptionSet(self.root, names, [self.image_ids[image] for image in chosen], captions)

    def named(self, names: Sequence[str | None]) -> "CaptionSet":
        """The same by other names; images whose name is None are left out."""
        kept = [index for index, name in enumerate(names) if name is not None]
        captions = [self.captions_of(index) for index in kept]
        return CaptionSet(self.root, [str(names[index]) for index in kept], [self.image_ids[index] for index in kept], captions)

    def __repr__(self) -> str:
        return f"CaptionSet of {len(self)} images and {len(self.captions)} captions below {self.root}"


def read_coco_captions(
    annotations: Path | str,
    images: Path | str,
    missing: str = "error",
    uncaptioned: str = "drop",
    what: str = "caption annotations",
    rejected: str = "skip",
) -> CaptionSet:
    """A file in COCO captions format (`images[].id/file_name`, `annotations[].image_id/caption`) and the folder of its images.

    missing: listed images that are not on disk: `error`, or `skip` them with a logged line.
    uncaptioned: listed images without captions: `drop` (training) with a logged line, or `keep` (predicting).
    rejected: captions that VizWiz marks `is_rejected` or `is_precanned`: `skip` them with a logged line, or `keep`.
    Raises: InputError, the first thing wrong in the file, by file and key. ValueError, an unknown option.
    """
    if uncaptioned not in ("drop", "keep"):
        raise ArgumentError("uncaptioned", f"is drop or keep, not {uncaptioned!r}")
    annotations, images = Path(annotations), Path(images)
    listed, of_image, _ = _read(annotations, what, rejected, names=True)
    empty = sum(not of_image[key] for key in listed)
    if empty and uncaptioned == "drop":
        log.info("%s: %d of %d listed images have no caption and are left out", annotations, empty, len(listed))
        listed = {key: image for key, image in listed.items() if of_image[key]}
        if not listed:
            raise InputError(f"{annotations}: `annotations` holds no caption of any listed image")
    names, ids = ([image[part] for image in listed.values()] for part in ("file_name", "id"))
    return match_files(CaptionSet(images, names, ids, [of_image[key] for key in listed]), missing, annotations)


class Referenced(NamedTuple):
    """What a file in COCO captions format says of its images."""

    captions: dict[ImageKey, list[str]]
    """Of the images that have any."""
    without: frozenset[ImageKey]
    """Images whose captions are all left out: blank or rejected."""


def read_references(annotations: Path | str, what: str = "caption annotations", rejected: str = "skip") -> Referenced:
    """The captions of a file in COCO captions format by image; asks for no file names and looks for no image on disk.

    rejected: as for `read_coco_captions`. Raises: InputError, the first thing wrong in the file, by file and key.
    """
    _, of_image, reduced = _read(Path(annotations), what, rejected, names=False)
    references = {key: captions for key, captions in of_image.items() if captions}
    if not references:
        raise InputError(f"{annotations}: `annotations` holds no caption to score against")
    return Referenced(references, frozenset(reduced - references.keys()))


REJECTED = ("is_rejected", "is_precanned")


def _read(
    path: Path, what: str, rejected: str, names: bool
) -> tuple[dict[ImageKey, dict[str, Any]], dict[ImageKey, list[str]], set[ImageKey]]:
    """(images, captions) by key, in the order listed; and the images that some caption was left out of.

    names: every image needs a `file_name`.
    """
    if rejected not in ("skip", "keep"):
        raise ArgumentError("rejected", f"is skip or keep, not {rejected!r}")
    record = read_json(path, what)
    _check_shape(path, record)
    listed: dict[ImageKey, dict[str, Any]] = {}
    for index, image in enumerate(record["images"]):
        key = _key(path, f"images[{index}].id", image.get("id"))
        if key in listed:
            raise InputError(f"{path}: images[{index}].id is {image['id']!r}, which another of `images` has already")
        if names:
            _need_text(path, f"images[{index}].file_name", image.get("file_name"))
        listed[key] = image
    of_image: dict[ImageKey, list[str]] = {key: [] for key in listed}
    left_out: Counter[str] = Counter()
    reduced: set[ImageKey] = set()
    for index, annotation in enumerate(record["annotations"]):
        where = f"annotations[{index}]"
        key = _key(path, f"{where}.image_id", annotation.get("image_id"))
        if "caption" not in annotation and "bbox" in annotation:
            raise InputError(f"{path}: {where} is an object instance, not a caption; give the captions file (captions_*.json)")
        if not isinstance(annotation.get("caption"), str):
            raise InputError(f"{path}: {where}.caption must be a string, found {json_type(annotation.get('caption'))}")
        if key not in of_image:
            raise InputError(f"{path}: {where}.image_id is {annotation['image_id']!r}, which `images` does not list")
        blank = not annotation["caption"].strip()
        if blank or (rejected == "skip" and any(annotation.get(mark) for mark in REJECTED)):
            left_out["blank captions" if blank else "captions marked is_rejected or is_precanned"] += 1
            reduced.add(key)
        else:
            of_image[key].append(annotation["caption"])
    for reason, count in left_out.items():
        log.info("%s: %d of %d captions are left out: %s", path, count, len(record["annotations"]), reason)
    return listed, of_image, reduced


def _check_shape(path: Path, record: Any) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected a JSON object in COCO captions format, found {json_type(record)}")
    for key in ("images", "annotations"):
        if key not in record:
            raise InputError(f"{path}: key `{key}` is missing; expected COCO captions format with `images` and `annotations`")
        if not isinstance(record[key], list) or not all(isinstance(entry, dict) for entry in record[key]):
            raise InputError(f"{path}: `{key}` must be a list of objects")
    if not record["images"]:
        raise InputError(f"{path}: `images` is empty")


def _key(path: Path, where: str, value: Any) -> ImageKey:
    key = image_key(value)
    if key is None:
        found = "an empty string" if isinstance(value, str) else json_type(value)
        raise InputError(f"{path}: {where} must be an id, a whole number or a string, found {found}")
    return key


def _need_text(path: Path, where: str, value: Any) -> None:
    if not isinstance(value, str):
        raise InputError(f"{path}: {where} must be a string, found {json_type(value)}")
    if not value.strip():
        raise InputError(f"{path}: {where} is empty")


def match_files(captions: CaptionSet, missing: str, listed_in: Path) -> CaptionSet:
    """Hold a set against its folder: the same images by the names of their files there, as `locate_files` finds them.

    missing: `error`, or `skip` the images that are not there with a logged line.
    Raises: InputError, names the first few. ValueError, an unknown option.
    """
    if missing not in ("error", "skip"):
        raise ArgumentError("missing", f"is error or skip, not {missing!r}")
    if not captions.root.is_dir():
        raise InputError(f"{captions.root}: folder of images not found ({listed_in} lists {len(captions)} images)")
    place, respelt = locate_files(captions.root, captions.names, listed_in)
    absent = [index for index, found in enumerate(place) if found is None]
    if absent:
        few = ", ".join(captions.names[index] for index in absent[:3]) + (", ..." if len(absent) > 3 else "")
        line = f"{listed_in}: {len(absent)} of {len(captions)} listed images are not in {captions.root}: {few}"
        if missing == "error" or len(absent) == len(captions):
            raise InputError(line if len(absent) == len(captions) else f"{line}; data.missing=skip leaves them out")
        log.warning("%s; they are left out", line)
    if respelt:
        one = respelt[0]
        told = f"{captions.names[one]!r} is {place[one]!r}"
        log.info("%s: %d of %d images are called otherwise on the disk: %s", listed_in, len(respelt), len(captions), told)
    return captions.named(place) if absent or respelt else captions
