"""Captions of systems (results files, models), which images are scored, and how two systems compare."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captioner.errors import InputError
from captioner.ids import ImageKey, image_key
from captioner.json_files import json_type, read_json
from captioner.metrics.bootstrap import differences, intervals
from captioner.metrics.scores import first_few
from captioner.metrics.statistics import ImageStatistics, corpus_scores

log = logging.getLogger(__name__)


class System(NamedTuple):
    """The captions of one system.

    `about` describes it in the file of scores; `failed` are images that it could not caption.
    """

    name: str
    captions: dict[ImageKey, str]
    about: dict[str, Any]
    failed: list[ImageKey]


def read_system(path: Path) -> System:
    """A system of which there is a results file. Raises: InputError, see `read_results`."""
    return System(str(path), read_results(path), {"results": str(path)}, [])


def read_results(path: Path) -> dict[ImageKey, str]:
    """Image -> caption from a file in the COCO results format. Raises: InputError, the first thing wrong, by file and key."""
    record = read_json(path, "caption results")
    if not isinstance(record, list):
        raise InputError(f'{path}: expected a list [{{"image_id": 1, "caption": "..."}}, ...], found {json_type(record)}')
    if not record:
        raise InputError(f"{path}: the list of results is empty")
    captions: dict[ImageKey, str] = {}
    for index, entry in enumerate(record):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: entry [{index}] must be an object with `image_id` and `caption`, found {json_type(entry)}")
        for name in ("image_id", "caption"):
            if name not in entry:
                raise InputError(f"{path}: entry [{index}] has no `{name}`")
        key = image_key(entry["image_id"])
        if key is None:
            raise InputError(f"{path}: [{index}].image_id must be an id, a whole number or a string, found {json_type(entry['image_id'])}")
        if not isinstance(entry["caption"], str):
            raise InputError(f"{path}: [{index}].caption must be a string, found {json_type(entry['caption'])}")
        if key in captions:
            raise InputError(f"{path}: [{index}].image_id is {entry['image_id']!r}, which has a caption already; give one caption an image")
        captions[key] = entry["caption"]
    return captions


def drop_images(system: System, images: frozenset[ImageKey], annotations: Path) -> System:
    """The system without its captions of `images`, whose references in `annotations` are all left out."""
    dropped = [image for image in system.captions if image in images]
    if not dropped:
        return system
    log.info(
        "%s: %d captions are of images whose references in %s are all left out, and are not scored", system.name, len(dropped), annotations
    )
    return system._replace(captions={image: caption for image, caption in system.captions.items() if image not in images})


def common_images(
    systems: Sequence[System], references: Mapping[ImageKey, Sequence[str]], annotations: Path, partial: bool
) -> list[ImageKey]:
    """The images to score, in the references' order: all of them, or where images may be missing those that every system captions."""
    for system in systems:
        unknown = [image for image in system.captions if image not in references]
        if unknown:
            raise InputError(f"{system.name}: images without a reference in {annotations}: {first_few(unknown)} of {len(system.captions)}")
        failed = set(system.failed)
        missing = [image for image in references if image not in system.captions and image not in failed]
        if missing and not partial:
            without = f"{first_few(missing)} of {len(references)}"
            raise InputError(f"{system.name}: images without a caption: {without}; --partial scores the others")
    images = [image for image in references if all(image in system.captions for system in systems)]
    if not images:
        raise InputError(f"{' and '.join(system.name for system in systems)} caption no image in common")
    if len(images) < len(references):
        log.warning("%d of %d images have a caption and are scored", len(images), len(references))
    return images


def warn_of_empty_captions(system: System, images: Sequence[ImageKey]) -> None:
    if images:
        log.warning("%s: captions without a word, which score 0: images %s", system.name, first_few(images))


def score_record(parts: Sequence[ImageStatistics], images: int, resamples: int, seed: int) -> dict[str, Any]:
    """Scores, how many images they are of, and their intervals (none without resamples or with one image)."""
    record: dict[str, Any] = corpus_scores(parts) | {"images": images}
    if resamples and images > 1:
        record["intervals"] = {name: list(ends) for name, ends in intervals(parts, resamples, seed).items()}
        record["bootstrap"] = {"resamples": resamples, "seed": seed, "level": 0.95}
    return record


def compare_systems(
    ours: Sequence[ImageStatistics], theirs: Sequence[ImageStatistics], resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """The differences of the scores that both systems have: a metric of another program may have failed for one of them.

    Raises: InputError, there is one image only.
    """
    both = {part.names for part in ours} & {part.names for part in theirs}
    if not both:
        return {}
    if len(ours[0].rows) < 2:
        raise InputError("--compare: one image does not tell two systems apart; give two or more")
    ours, theirs = ([part for part in parts if part.names in both] for parts in (ours, theirs))
    return {name: difference._asdict() for name, difference in differences(ours, theirs, resamples, seed).items()}
