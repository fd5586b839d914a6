"""Karpathy's splits: `dataset_coco.json`, `dataset_flickr8k.json`, `dataset_flickr30k.json`."""

import logging
from pathlib import Path
from typing import Any

from captioner.data.captions import CaptionSet, match_files
from captioner.data.source import SPLITS, DataSource
from captioner.errors import InputError
from captioner.ids import ImageId, image_key
from captioner.json_files import read_json

log = logging.getLogger(__name__)

SPLIT_NAMES = {"train": "train", "restval": "train", "val": "val", "test": "test"}


class Karpathy(DataSource):
    """`images[].filename/filepath/split/sentences[].raw`, with `restval` counted as train.

    An image's id is its `cocoid` where it has one, so that results fit COCO's, else its `imgid`.
    missing: `error` or `skip`, for listed images that are not below `images`.
    Raises: InputError, a path is not given, or the first thing wrong in the file.
    """

    def __init__(self, annotations: str | Path | None, images: str | Path | None, missing: str = "error") -> None:
        for key, value in (("annotations", annotations), ("images", images)):
            if not value:
                raise InputError(f"data.{key} is not set; give the {'dataset_*.json file' if key == 'annotations' else 'folder of images'}")
        self.annotations, self.images, self.missing = Path(str(annotations)).expanduser(), Path(str(images)).expanduser(), missing

    def splits(self) -> dict[str, CaptionSet]:
        record = read_json(self.annotations, "Karpathy's data set file")
        images = record.get("images") if isinstance(record, dict) else None
        if not isinstance(images, list):
            raise InputError(f"{self.annotations}: key `images` is missing or no list; expected one of Karpathy's dataset_*.json")
        if not images:
            raise InputError(f"{self.annotations}: `images` is empty")
        found: dict[str, list[tuple[str, ImageId, list[str]]]] = {}
        blank = 0
        for index, image in enumerate(images):
            split, entry = self._entry(f"{self.annotations}: images[{index}]", image)
            blank += len(image["sentences"]) - len(entry[2])
            if entry[2]:
                found.setdefault(split, []).append(entry)
            else:
                log.info("%s: images[%d] has no sentences and is left out", self.annotations, index)
        if blank:
            log.info("%s: %d blank captions are left out", self.annotations, blank)
        return {split: self._set(found[split]) for split in SPLITS if split in found}

    def _entry(self, where: str, image: Any) -> tuple[str, tuple[str, ImageId, list[str]]]:
        if not isinstance(image, dict):
            raise InputError(f"{where} must be an object")
        if not isinstance(image.get("filename"), str) or not image["filename"].strip():
            raise InputError(f"{where}.filename must be a string that is not empty")
        if not isinstance(image.get("split"), str) or image["split"] not in SPLIT_NAMES:
            raise InputError(f"{where}.split must be one of {', '.join(SPLIT_NAMES)}, found {image.get('split')!r}")
        image_id: Any = image.get("cocoid", image.get("imgid"))
        if image_key(image_id) is None:
            raise InputError(f"{where} has no id `cocoid` or `imgid`, a whole number or a string")
        sentences = image.get("sentences")
        if not isinstance(sentences, list):
            raise InputError(f"{where}.sentences must be a list")
        for number, sentence in enumerate(sentences):
            if not isinstance(sentence, dict) or not isinstance(sentence.get("raw"), str):
                raise InputError(f"{where}.sentences[{number}].raw must be a string")
        folder = image.get("filepath") or ""
        if not isinstance(folder, str):
            raise InputError(f"{where}.filepath must be a string")
        name = f"{folder.rstrip('/')}/{image['filename']}" if folder else image["filename"]
        return SPLIT_NAMES[image["split"]], (name, image_id, [sentence["raw"] for sentence in sentences if sentence["raw"].strip()])

    def _set(self, entries: list[tuple[str, ImageId, list[str]]]) -> CaptionSet:
        names, image_ids, captions = zip(*entries, strict=True)
        try:
            whole = CaptionSet(self.images, names, image_ids, captions)
        except ValueError as error:
            raise InputError(f"{self.annotations}: {error}") from None
        return match_files(whole, self.missing, self.annotations)
