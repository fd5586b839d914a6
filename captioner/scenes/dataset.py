"""The files of the drawn data set: pictures by several processes, and annotation files in COCO's layout."""

import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from captioner.atomic_files import write_atomically
from captioner.progress import progress
from captioner.scenes.example import Example, draw_chunk, file_name
from captioner.scenes.grammar import lexicon
from captioner.scenes.layout import KINDS

FIRST_ID = {"train": 1, "val": 1_000_001, "test": 2_000_001}
CHUNK = 250
"""Scenes that a process draws at a time."""


def draw_dataset(
    folder: Path, sizes: Mapping[str, int], seed: int, image_size: int, workers: int, version: str
) -> dict[str, list[Example]]:
    """Write the pictures and annotation files of all splits into `folder`, and return the examples by split."""
    chunks = [(split, first, min(CHUNK, size - first)) for split, size in sizes.items() for first in range(0, size, CHUNK)]
    for split in sizes:
        (folder / split).mkdir(parents=True)
    draw = partial(draw_chunk, folder=folder, seed=seed, image_size=image_size)
    examples: dict[str, list[Example]] = {split: [] for split in sizes}
    parts = progress(_map(draw, chunks, workers), "drawing scenes", len(chunks), "chunk")
    for (split, _, _), part in zip(chunks, parts, strict=True):
        examples[split].extend(part)
    _check_disjoint(examples)
    for split, of_split in examples.items():
        for name, record in _annotation_files(split, of_split, image_size, version).items():
            write_atomically(annotation_path(folder, name, split), json.dumps(record, separators=(",", ":")))
    return examples


def annotation_path(folder: Path, name: str, split: str) -> Path:
    """The file of a split; `name` is captions, instances, scenes or extra_captions."""
    return folder / "annotations" / f"{name}_{split}.json"


def _map(draw: Any, chunks: list[tuple[str, int, int]], workers: int) -> Iterator[list[Example]]:
    if workers == 1 or len(chunks) == 1:
        yield from map(draw, chunks)
        return
    with ProcessPoolExecutor(min(workers, len(chunks)), mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        yield from pool.map(draw, chunks)


def _end_with_parent() -> None:
    """Make a worker leave signals to its parent process, and end when the parent ends: an executor's worker would wait for ever."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def exit_after_parent() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()


def _check_disjoint(examples: Mapping[str, Sequence[Example]]) -> None:
    for one, other in combinations(examples, 2):
        if {example.key for example in examples[one]} & {example.key for example in examples[other]}:
            raise AssertionError(f"{one} and {other} share a scene")


def _annotation_files(split: str, examples: Sequence[Example], image_size: int, version: str) -> dict[str, Any]:
    """Name -> record of each annotation file of a split."""
    numbered = list(enumerate(examples, FIRST_ID[split]))
    info = {"description": "drawn scenes", "version": version}
    size = {"width": image_size, "height": image_size}
    images = [{"id": image, "file_name": file_name(split, index), **size} for index, (image, _) in enumerate(numbered)]
    captions = [{"image_id": image, "caption": caption} for image, example in numbered for caption in example.captions]
    objects = [{"image_id": image, **annotation} for image, example in numbered for annotation in example.annotations]
    categories = [{"id": number, "name": kind, "supercategory": "shape"} for number, kind in enumerate(KINDS, 1)]
    files: dict[str, Any] = {
        "captions": {"info": info, "images": images, "annotations": _with_ids(captions)},
        "instances": {"info": info, "images": images, "annotations": _with_ids(objects), "categories": categories},
        "scenes": {"lexicon": lexicon(), "scenes": {str(image): example.truth for image, example in numbered}},
    }
    if split != "train":
        files["extra_captions"] = [{"image_id": image, "caption": example.extra_caption} for image, example in numbered]
    return files


def _with_ids(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"id": number, **entry} for number, entry in enumerate(entries, 1)]
