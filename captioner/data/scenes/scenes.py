"""The embedded data set: scenes drawn into a folder in COCO's layout, with their captions, masks and truth."""

import hashlib
import io
import json
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from captioner.atomic_files import atomic_folder, check_writable, restore_backup, write_atomically
from captioner.data.captions import CaptionSet, read_coco_captions
from captioner.data.scenes.draw import draw_scene
from captioner.data.scenes.grammar import TRIES, caption, lexicon
from captioner.data.scenes.layout import KINDS, Scene, sample_scene, scene_key, unseen_combinations
from captioner.data.scenes.summary import leave_one_out_bleu
from captioner.data.source import DRAWN, SPLITS, DataSource
from captioner.errors import ArgumentError, InputError
from captioner.json_files import read_json
from captioner.locks import ORPHAN_SECONDS, Lock, LockedError, wait_for_lock
from captioner.progress import progress

log = logging.getLogger(__name__)

FINGERPRINT = "scenes.json"
FIRST_ID = {"train": 1, "val": 1_000_001, "test": 2_000_001}
CAPTIONS = 5
CHUNK = 250
PATIENCE = 2.0
"""Seconds in which a process that only looks whether its scenes are there lets go of the lock."""


class Drawn(NamedTuple):
    """One scene, ready to be listed."""

    key: str
    captions: list[str]
    """Five, and a sixth."""
    truth: dict[str, Any]
    annotations: list[dict[str, Any]]
    covered: float
    """Share of the image in the union of its objects' boxes."""


class Scenes(DataSource):
    """1 to 4 objects of 6 kinds x 8 colours x 2 sizes on a textured ground, five captions each, seeded and deterministic.

    Drawn into `root` when first asked for, and again when the parameters or the drawing changed. `train`, `val`, `test` are numbers
    of images; `image_size` in pixels; `workers` processes draw, and the result does not depend on how many.

    Train, val and test share no scene (equal objects on a grid of 4 px count as equal). Every test scene shows a combination of
    kind and colour that train and val never show.

    Raises: ArgumentError, a size out of range. InputError, `root` holds other files.
    """

    pictures = DRAWN

    def __init__(
        self, root: str | Path, train: int = 20000, val: int = 1000, test: int = 1000, seed: int = 0, image_size: int = 96, workers: int = 2
    ) -> None:
        for split, images in (("train", train), ("val", val), ("test", test)):
            if not 1 <= images < 1_000_000:
                raise ArgumentError(split, f"is a number of images from 1 to 999999, not {images}")
        if not 80 <= image_size <= 512:
            raise ArgumentError("image_size", f"is in pixels, 80 to 512, not {image_size}")
        if workers < 1:
            raise ArgumentError("workers", f"is a number of processes, at least 1, not {workers}")
        self.root = Path(root)
        self.sizes = {"train": train, "val": val, "test": test}
        self.seed, self.image_size, self.workers = seed, image_size, workers

    def splits(self) -> dict[str, CaptionSet]:
        self.draw()
        return {split: read_coco_captions(self._listed("captions", split), self.root / split) for split in SPLITS}

    @property
    def instances(self) -> dict[str, Path]:
        return {split: self._listed("instances", split) for split in SPLITS}

    @property
    def scenes(self) -> dict[str, Path]:
        return {split: self._listed("scenes", split) for split in SPLITS}

    @property
    def sixth(self) -> dict[str, Path]:
        """Split -> a sixth drawn caption an image in COCO results format: what a perfect but random speaker scores against the five."""
        return {split: self._listed("sixth", split) for split in ("val", "test")}

    def _listed(self, what: str, split: str) -> Path:
        return self.root / "annotations" / f"{what}_{split}.json"

    def fingerprint(self) -> dict[str, Any]:
        return {"drawing": "scenes", "code": code_version(), "seed": self.seed, "image_size": self.image_size, **self.sizes}

    def draw(self) -> dict[str, Any]:
        """Draw the folder unless it is there, and return its summary (images, seconds, BLEU-4 of the references, share covered)."""
        with self.in_use():
            return self._found() or {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Draw the folder unless it is there, and keep it: while this is entered, no process draws other scenes into it.

        Raises: InputError, another process uses the scenes that are there, and they are not these; the folder cannot be written.
        """
        if not self.root.exists():
            check_writable(self.root, "data.root")
            self.root.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.root.with_name(f".{self.root.name}.lock"))
        try:
            self._share(lock)
            yield
        finally:
            lock.release()

    def _share(self, lock: Lock) -> None:
        """Take the lock with others who use these scenes, having drawn them alone where they were not there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            if not lock.take(shared=True):
                log.info("%s: waiting for %s, which draws there", self.root, lock.holder())
                wait_for_lock(lock, shared=True)
                deadline = time.monotonic() + PATIENCE
            if self._found() is not None:
                restore_backup(self.root)
                return
            lock.release()
            if lock.take():
                if self._found() is None:
                    self._draw()
                lock.release()
            elif time.monotonic() > deadline + ORPHAN_SECONDS * lock.orphaned():
                raise LockedError(
                    f"{self.root}: {lock.holder()} uses other scenes there; wait until it is done, or give another data.root="
                )
            else:
                time.sleep(0.1)

    def _draw(self) -> None:
        restore_backup(self.root)
        if self._found() is None:
            check_writable(self.root, "data.root")
            if self.root.exists() and any(self.root.iterdir()):
                log.info("%s holds scenes drawn otherwise; drawing again", self.root)
            with atomic_folder(self.root) as beside:
                self._draw_into(beside)

    def _found(self) -> dict[str, Any] | None:
        """The summary of the folder that was asked for; None where there is none, or one drawn otherwise, which may be replaced.

        Raises: InputError, the folder holds anything that was not drawn here.
        """
        if not self.root.exists():
            return None
        if not self.root.is_dir():
            raise InputError(f"{self.root}: is a file; give a folder to draw scenes into as data.root")
        if not any(self.root.iterdir()):
            return None
        path = self.root / FINGERPRINT
        record = read_json(path, "fingerprint of drawn scenes") if path.is_file() else {}
        fingerprint = record.get("fingerprint") if isinstance(record, dict) else None
        if not isinstance(fingerprint, dict) or fingerprint.get("drawing") != "scenes":
            raise InputError(f"{self.root}: holds something other than drawn scenes; give an empty or a new folder as data.root")
        if fingerprint == self.fingerprint():
            return record["summary"]
        foreign = sorted(entry.name for entry in self.root.iterdir() if entry.name not in (*SPLITS, "annotations", FINGERPRINT))
        if foreign:
            raise InputError(f"{self.root}: must be drawn again, but also holds {foreign[0]}; move it or give another data.root")
        return None

    def _draw_into(self, folder: Path) -> dict[str, Any]:
        started = time.monotonic()
        drawn: dict[str, list[Drawn]] = {split: [] for split in SPLITS}
        chunks = [(split, first, min(CHUNK, number - first)) for split, number in self.sizes.items() for first in range(0, number, CHUNK)]
        for split in SPLITS:
            (folder / split).mkdir(parents=True)
        for (split, _, _), scenes in zip(chunks, progress(self._run(chunks, folder), "drawing scenes", len(chunks), "chunk"), strict=True):
            drawn[split].extend(scenes)
        self._check_apart(drawn)
        for split, scenes in drawn.items():
            self._write_annotations(folder / "annotations", split, scenes)
        covered = [scene.covered for scenes in drawn.values() for scene in scenes]
        references = [scene.captions[:CAPTIONS] for scene in drawn["val"]]
        bleu, share, seconds = leave_one_out_bleu(references), float(np.mean(covered)), time.monotonic() - started
        summary = {
            "images": self.sizes,
            "unseen_combinations": sorted(f"{colour} {kind}" for kind, colour in unseen_combinations(self.seed)),
            "seconds": round(seconds, 2),
            "references_BLEU-4": round(bleu, 4),
            "covered": round(share, 4),
        }
        log.info(
            "drew %d scenes in %.1f s; leave-one-out BLEU-4 of the references %.1f (val, x 100); objects' boxes cover %.1f %% of the image",
            *(len(covered), seconds, 100 * bleu, 100 * share),
        )
        write_atomically(folder / FINGERPRINT, json.dumps({"fingerprint": self.fingerprint(), "summary": summary}, indent=1))
        return summary

    def _run(self, chunks: list[tuple[str, int, int]], folder: Path) -> Iterator[list[Drawn]]:
        work = partial(draw_chunk, folder=folder, seed=self.seed, image_size=self.image_size)
        if self.workers == 1 or len(chunks) == 1:
            yield from map(work, chunks)
            return
        with ProcessPoolExecutor(min(self.workers, len(chunks)), mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
            yield from pool.map(work, chunks)

    def _check_apart(self, drawn: dict[str, list[Drawn]]) -> None:
        keys = {split: {scene.key for scene in scenes} for split, scenes in drawn.items()}
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            if keys[one] & keys[other]:
                raise AssertionError(f"{one} and {other} share a scene")

    def _write_annotations(self, folder: Path, split: str, scenes: list[Drawn]) -> None:
        info = {"description": "drawn scenes", "version": code_version()}
        images = [
            {"id": FIRST_ID[split] + i, "file_name": file_name(split, i), "width": self.image_size, "height": self.image_size}
            for i in range(len(scenes))
        ]
        captions: list[dict[str, Any]] = []
        objects: list[dict[str, Any]] = []
        for image, scene in zip(images, scenes, strict=True):
            for said in scene.captions[:CAPTIONS]:
                captions.append({"id": len(captions) + 1, "image_id": image["id"], "caption": said})
            for annotation in scene.annotations:
                objects.append({"id": len(objects) + 1, "image_id": image["id"], **annotation})
        categories = [{"id": i, "name": kind, "supercategory": "shape"} for i, kind in enumerate(KINDS, 1)]
        files: dict[str, Any] = {
            "captions": {"info": info, "images": images, "annotations": captions},
            "instances": {"info": info, "images": images, "annotations": objects, "categories": categories},
            "scenes": {"lexicon": lexicon(), "scenes": {str(image["id"]): s.truth for image, s in zip(images, scenes, strict=True)}},
        }
        if split != "train":
            files["sixth"] = [{"image_id": image["id"], "caption": s.captions[CAPTIONS]} for image, s in zip(images, scenes, strict=True)]
        for what, record in files.items():
            write_atomically(folder / f"{what}_{split}.json", json.dumps(record, separators=(",", ":")))


@cache
def code_version() -> str:
    """A digest of this room's sources: other code may draw other pixels, words or files."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def file_name(split: str, index: int) -> str:
    return f"{split}_{index:06d}.png"


def end_with_parent() -> None:
    """A worker leaves signals to the process that began it, and ends when that one is gone: the executor's own would wait for ever."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def draw_chunk(chunk: tuple[str, int, int], folder: Path, seed: int, image_size: int) -> list[Drawn]:
    """Draw `number` scenes of a split from index `first` on; each has a seed of its own."""
    split, first, number = chunk
    unseen = unseen_combinations(seed)
    drawn = []
    for index in range(first, first + number):
        rng = random.Random(f"{seed}/{split}/{index}")
        scene, captions = told(rng, split, unseen, image_size)
        picture = Image.fromarray(draw_scene(scene, rng, image_size))
        data = io.BytesIO()
        picture.save(data, "PNG", compress_level=1)
        (folder / split / file_name(split, index)).write_bytes(data.getvalue())
        drawn.append(describe(scene, captions, image_size))
    return drawn


def told(rng: random.Random, split: str, unseen: frozenset[tuple[str, str]], image_size: int) -> tuple[Scene, list[str]]:
    """A scene of which enough can be said, and its captions."""
    while True:
        scene = sample_scene(rng, split, unseen, image_size)
        captions = different(rng, scene, image_size)
        if captions is not None:
            return scene, captions


def different(rng: random.Random, scene: Scene, image_size: int) -> list[str] | None:
    """Five captions worded differently, and a sixth that may repeat one. None where a scene allows too few."""
    captions: list[str] = []
    for _ in range(TRIES):
        said = caption(rng, scene, image_size)
        if said is None:
            return None
        if len(captions) == CAPTIONS:
            return [*captions, said]
        if said not in captions:
            captions.append(said)
    return None


def describe(scene: Scene, captions: list[str], image_size: int) -> Drawn:
    """The annotations and the truth of a scene."""
    annotations, objects = [], []
    boxes = np.zeros((image_size, image_size), bool)
    codes = coco_masks.encode(np.asfortranarray(scene.masks.transpose(1, 2, 0).astype(np.uint8)))
    areas, corners = coco_masks.area(codes).tolist(), coco_masks.toBbox(codes).astype(int).tolist()
    for depth, (thing, code, area, (left, top, width, height)) in enumerate(zip(scene.things, codes, areas, corners, strict=True)):
        boxes[top : top + height, left : left + width] = True
        annotations.append(
            {
                "category_id": KINDS.index(thing.kind) + 1,
                "bbox": [left, top, width, height],
                "area": area,
                "iscrowd": 0,
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                "attributes": {"colour": thing.colour, "size": thing.size},
            }
        )
        place = {"x": round(thing.x, 2), "y": round(thing.y, 2), "box": [left, top, width, height], "depth": depth}
        objects.append({"kind": thing.kind, "colour": thing.colour, "size": thing.size, **place})
    truth = {"width": image_size, "height": image_size, "objects": objects, "in_front": [list(pair) for pair in scene.in_front]}
    return Drawn(scene_key(scene.things), captions, truth, annotations, float(boxes.mean()))
