"""Images with their captions, flattened to arrays; and the COCO captions format."""

import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from captioner.data.disk import locate
from captioner.errors import InputError
from captioner.files import read_json
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

    `names` are paths below `root`; the captions of image i are `captions[first[i]:first[i + 1]]`.
    Raises: ValueError, the lengths differ or an image id stands twice.
    """

    def __init__(self, root: Path | str, names: Sequence[str], image_ids: Sequence[int], captions: Sequence[Sequence[str]]) -> None:
        if not len(names) == len(image_ids) == len(captions):
            raise ValueError(f"names, image_ids and captions differ in length: {len(names)}, {len(image_ids)}, {len(captions)}")
        self.root = Path(root)
        self.names = Strings(names)
        self.image_ids: Int[np.ndarray, " images"] = np.asarray(image_ids, dtype=np.int64)
        self.captions = Strings([caption for of_image in captions for caption in of_image])
        self.first: Int[np.ndarray, " images_and_one"] = np.cumsum([0, *(len(of_image) for of_image in captions)], dtype=np.int64)
        if len(np.unique(self.image_ids)) != len(self.image_ids):
            twice = next(image_id for image_id, count in Counter(self.image_ids.tolist()).items() if count > 1)
            raise ValueError(f"image_ids holds {twice} more than once")

    def __len__(self) -> int:
        return len(self.image_ids)

    def path(self, image: int) -> Path:
        return self.root / self.names[image]

    def captions_of(self, image: int) -> list[str]:
        return self.captions[int(self.first[image]) : int(self.first[image + 1])]

    @property
    def references(self) -> dict[int, list[str]]:
        """Image id -> its captions as they were written, the form that scorers take."""
        return {int(image_id): self.captions_of(index) for index, image_id in enumerate(self.image_ids)}

    def tokens(self) -> Iterator[list[str]]:
        """The tokens of every caption, image by image."""
        return (tokenize(caption) for caption in progress(self.captions, "reading captions", unit="caption"))

    def select(self, images: Sequence[int]) -> "CaptionSet":
        """These images only, in this order."""
        chosen = [int(image) for image in images]
        names, captions = [self.names[image] for image in chosen], [self.captions_of(image) for image in chosen]
        return CaptionSet(self.root, names, [int(self.image_ids[image]) for image in chosen], captions)

    def named(self, names: Sequence[str | None]) -> "CaptionSet":
        """The same by other names; images whose name is None are left out."""
        kept = [index for index, name in enumerate(names) if name is not None]
        captions = [self.captions_of(index) for index in kept]
        return CaptionSet(self.root, [str(names[index]) for index in kept], [int(self.image_ids[index]) for index in kept], captions)

    def __repr__(self) -> str:
        return f"CaptionSet of {len(self)} images and {len(self.captions)} captions below {self.root}"


def read_coco_captions(
    annotations: Path | str, images: Path | str, missing: str = "error", uncaptioned: str = "drop", what: str = "caption annotations"
) -> CaptionSet:
    """A file in COCO captions format (`images[].id/file_name`, `annotations[].image_id/caption`) and the folder of its images.

    missing: listed images that are not on disk: `error`, or `skip` them with a logged line.
    uncaptioned: listed images without captions: `drop` (training) with a logged line, or `keep` (predicting).
    Raises: InputError, the first thing wrong in the file, by file and key. ValueError, an unknown option.
    """
    if uncaptioned not in ("drop", "keep"):
        raise ValueError(f"uncaptioned is drop or keep, not {uncaptioned!r}")
    annotations, images = Path(annotations), Path(images)
    record = read_json(annotations, what)
    _validate(annotations, record)
    of_image = _index(record)
    listed = record["images"]
    empty = sum(image["id"] not in of_image for image in listed)
    if empty and uncaptioned == "drop":
        log.info("%s: %d of %d listed images have no caption and are left out", annotations, empty, len(listed))
        listed = [image for image in listed if image["id"] in of_image]
        if not listed:
            raise InputError(f"{annotations}: `annotations` holds no caption of any listed image")
    captions = [of_image.get(image["id"], []) for image in listed]
    whole = CaptionSet(images, [image["file_name"] for image in listed], [image["id"] for image in listed], captions)
    return on_disk(whole, missing, annotations)


def read_references(annotations: Path | str, what: str = "caption annotations") -> dict[int, list[str]]:
    """Image id -> its captions, of the images that have any, from a file in COCO captions format; looks for no image on disk.

    Raises: InputError, the first thing wrong in the file, by file and key.
    """
    record = read_json(Path(annotations), what)
    _validate(Path(annotations), record)
    references: dict[int, list[str]] = {}
    for annotation in record["annotations"]:
        references.setdefault(annotation["image_id"], []).append(annotation["caption"])
    if not references:
        raise InputError(f"{annotations}: `annotations` is empty; there is no caption to score against")
    return references


def _index(record: Mapping[str, Any]) -> dict[int, list[str]]:
    from pycocotools.coco import COCO  # here, so that prediction without annotations does not pay for it

    with redirect_stdout(io.StringIO()):  # pycocotools prints
        coco = COCO()
        coco.dataset = {key: record[key] for key in ("images", "annotations")}  # an empty `categories` would have it ask for theirs
        coco.createIndex()
    return {image_id: [annotation["caption"] for annotation in found] for image_id, found in coco.imgToAnns.items()}


def _validate(path: Path, record: Any) -> None:
    if not isinstance(record, dict):
        raise InputError(f"{path}: expected a JSON object in COCO captions format, found {_kind(record)}")
    for key in ("images", "annotations"):
        if key not in record:
            raise InputError(f"{path}: key `{key}` is missing; expected COCO captions format with `images` and `annotations`")
        if not isinstance(record[key], list) or not all(isinstance(entry, dict) for entry in record[key]):
            raise InputError(f"{path}: `{key}` must be a list of objects")
    if not record["images"]:
        raise InputError(f"{path}: `images` is empty")
    for index, image in enumerate(record["images"]):
        _need(path, f"images[{index}].id", image.get("id"), int)
        _need(path, f"images[{index}].file_name", image.get("file_name"), str)
    _once(path, "images", record["images"])
    known = {image["id"] for image in record["images"]}
    for index, annotation in enumerate(record["annotations"]):
        where = f"annotations[{index}]"
        _need(path, f"{where}.image_id", annotation.get("image_id"), int)
        if "caption" not in annotation and "bbox" in annotation:
            raise InputError(f"{path}: {where} is an object instance, not a caption; give the captions file (captions_*.json)")
        _need(path, f"{where}.caption", annotation.get("caption"), str)
        if annotation["image_id"] not in known:
            raise InputError(f"{path}: {where}.image_id is {annotation['image_id']}, which `images` does not list")
        _need(path, f"{where}.id", annotation.setdefault("id", -1 - index), int)
    _once(path, "annotations", record["annotations"])


def _need(path: Path, key: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        expected = {int: "a whole number", str: "a string"}[kind]
        raise InputError(f"{path}: {key} must be {expected}, found {_kind(value)}")
    if isinstance(value, str) and not value.strip():
        raise InputError(f"{path}: {key} is empty")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(type(value), "nothing")


def _once(path: Path, key: str, entries: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        if entry["id"] in seen:
            raise InputError(f"{path}: {key}[{index}].id is {entry['id']}, which another of `{key}` has already")
        seen.add(entry["id"])


def on_disk(captions: CaptionSet, missing: str, listed_in: Path, deep: bool = False) -> CaptionSet:
    """Hold a set against its folder: the same images by the names of their files there, as `locate` finds them.

    missing: `error`, or `skip` the images that are not there with a logged line. deep: look in the folders below, too.
    Raises: InputError, names the first few. ValueError, an unknown option.
    """
    if missing not in ("error", "skip"):
        raise ValueError(f"missing is error or skip, not {missing!r}")
    if not captions.root.is_dir():
        raise InputError(f"{captions.root}: folder of images not found ({listed_in} lists {len(captions)} images)")
    place, respelt = locate(captions.root, captions.names, listed_in, deep)
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
