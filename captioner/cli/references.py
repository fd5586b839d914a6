"""`predict --annotations`: which image of an annotation file each path is, what the file says of it, and how a caption compares."""

import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from captioner.errors import InputError
from captioner.ids import ImageId, ImageKey, image_key
from captioner.json_files import read_json
from captioner.metrics import ngrams
from captioner.metrics.cider import Cider
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.rouge import rouge_l
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)

WANTED = frozenset(("images", "annotations", "id", "file_name", "image_id", "caption", "is_rejected", "is_precanned"))
"""What is kept of the file while it is parsed: polygons, sizes and addresses, most of it, are not."""
COUNTED = 5_000
"""The captions of so many images, the first ones, weigh CIDEr's n-grams: as many as validation sets have."""


class References:
    """Image ids, and captions where there are any, of the paths that are captioned.

    A listed `file_name` is of the path that ends in it, folders included; where several fit, the longest is meant. A name that fits two
    paths, and a path that fits two images, have no id: `why_not` says so.
    """

    def __init__(self, annotations: Path, paths: Sequence[str]) -> None:
        """Read a file in COCO's format: `images` with `id` and `file_name`. Raises: InputError, missing or of another shape."""
        content = read_json(annotations, "annotations", keep=WANTED)
        images = content.get("images") if isinstance(content, dict) else None
        if not isinstance(images, list) or not all(isinstance(image, dict) and {"id", "file_name"} <= image.keys() for image in images):
            raise InputError(f"{annotations}: 'images' must be a list of objects with 'id' and 'file_name'")
        wrong = next((index for index, image in enumerate(images) if image_key(image["id"]) is None), None)
        if wrong is not None:
            raise InputError(f"{annotations}: images[{wrong}].id must be a whole number or a string, not {images[wrong]['id']!r}")
        self.annotations = annotations
        self._ids, self._why_not = matched(images, paths)
        said = content.get("annotations")
        self._captions, self._others = self._heard(said if isinstance(said, list) else [])

    def _heard(self, annotations: Iterable[Any]) -> tuple[dict[ImageKey, list[str]], dict[ImageKey, list[str]]]:
        """(captions of the paths' images, of the first COUNTED images) by key; blank and rejected ones are left out."""
        asked = {key for image_id in self._ids.values() if (key := image_key(image_id)) is not None}
        ours: dict[ImageKey, list[str]] = {}
        first: dict[ImageKey, list[str]] = {}
        rejected = 0
        for annotation in annotations:
            caption = annotation.get("caption") if isinstance(annotation, dict) else None
            if not isinstance(caption, str) or not caption.strip():
                continue
            key = image_key(annotation.get("image_id"))
            if key is None:
                continue
            if annotation.get("is_rejected") or annotation.get("is_precanned"):
                rejected += 1
                continue
            if key in asked:
                ours.setdefault(key, []).append(caption.strip())
            if key in first or len(first) < COUNTED:
                first.setdefault(key, []).append(caption.strip())
        if rejected:
            log.info("%s: %d captions marked is_rejected or is_precanned are left out", self.annotations, rejected)
        return ours, first

    def image_id(self, path: str) -> ImageId | None:
        """As the file has it."""
        return self._ids.get(path)

    def why_not(self, path: str) -> str:
        """Why the path has no id."""
        return self._why_not.get(path, "--annotations does not list this file")

    def captions(self, path: str) -> list[str]:
        key = image_key(self._ids.get(path))
        return [] if key is None else self._captions.get(key, [])

    def scores(self, path: str, caption: str) -> dict[str, float]:
        """CIDEr and ROUGE-L (x 100) of one caption, if its image has references; n-grams weigh as among the first COUNTED images."""
        references = [[tokenize(reference) for reference in self.captions(path)]]
        if not references[0]:
            return {}
        said = [tokenize(caption)]
        cider = Cider(references, frequencies=self._frequencies).scores(said)
        return {"CIDEr": 100 * float(cider[0]), "ROUGE-L": 100 * float(rouge_l(said, references)[0])}

    @cached_property
    def _frequencies(self) -> DocumentFrequencies:
        return DocumentFrequencies.of(
            ngrams.References([[tokenize(caption) for caption in captions] for captions in self._others.values()])
        )


def matched(images: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> tuple[dict[str, ImageId], dict[str, str]]:
    """(id by path, why not by path)."""
    bases = {parts_of(os.path.abspath(path))[-1] for path in paths}
    listed: dict[str, list[tuple[tuple[str, ...], Mapping[str, Any]]]] = defaultdict(list)
    for image in images:
        parts = parts_of(str(image["file_name"]))
        if parts and parts[-1] in bases:
            listed[parts[-1]].append((parts, image))
    found: dict[str, tuple[tuple[str, ...], Mapping[str, Any]]] = {}
    why_not: dict[str, str] = {}
    for path in paths:
        whole = parts_of(os.path.abspath(path))
        known = listed[whole[-1]]
        fitting = [entry for entry in known if entry[0] == whole[-len(entry[0]) :]]
        best = [entry for entry in fitting if len(entry[0]) == max(len(parts) for parts, _ in fitting)]
        if len({image_key(image["id"]) for _, image in best}) > 1:
            one, other, *_ = (f"{image['file_name']!r} (id {image['id']})" for _, image in best)
            why_not[path] = f"--annotations lists both {one} and {other} for it"
        elif best:
            found[path] = best[0]
        elif known:
            why_not[path] = f"--annotations lists {known[0][1]['file_name']!r}, which is not the end of this path"
    fits = Counter(parts for parts, _ in found.values())
    for path, (parts, image) in list(found.items()):
        if fits[parts] > 1:
            other = next(twin for twin, (its, _) in found.items() if its == parts and twin != path)
            why_not[path] = f"--annotations lists {image['file_name']!r}, which may be this file or {other}"
    return {path: image["id"] for path, (_, image) in found.items() if path not in why_not}, why_not


def parts_of(path: str) -> tuple[str, ...]:
    """The names of folders and file; backslashes are slashes, and an accent is of its letter however it is written."""
    plain = unicodedata.normalize("NFC", path.replace("\\", "/"))
    return tuple(part for part in plain.split("/") if part not in ("", ".", ".."))
