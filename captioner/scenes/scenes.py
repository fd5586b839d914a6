"""The embedded data set: scenes drawn into a folder in COCO's layout, with their captions, masks and truth."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from captioner.atomic_files import atomic_folder, check_writable, restore_backup, write_atomically
from captioner.data.captions import CaptionSet, read_coco_captions
from captioner.data.source import DRAWN, SPLITS, DataSource
from captioner.errors import ArgumentError, InputError
from captioner.json_files import read_json
from captioner.locks import ORPHAN_SECONDS, Lock, LockedError, wait_for_lock
from captioner.scenes.dataset import annotation_path, draw_dataset
from captioner.scenes.summary import summarize

log = logging.getLogger(__name__)

FINGERPRINT = "scenes.json"
PATIENCE = 2.0
"""Seconds after which a process that only checks whether its scenes exist has released the lock."""


class Scenes(DataSource):
    """1 to 4 objects of 6 kinds x 8 colours x 2 sizes on a textured ground; five captions each; seeded and deterministic.

    The scenes are drawn into `root` when they are first needed, and again when the parameters or the drawing code changed.
    `train`, `val`, `test` are numbers of images; `image_size` is in pixels; `workers` is the number of processes that draw, and
    the result does not depend on it.

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
        return {split: read_coco_captions(path, self.root / split) for split, path in self._files("captions").items()}

    @property
    def instances(self) -> dict[str, Path]:
        return self._files("instances")

    @property
    def scenes(self) -> dict[str, Path]:
        return self._files("scenes")

    @property
    def extra_captions(self) -> dict[str, Path]:
        """Split -> one more drawn caption per image, in COCO results format.

        Its scores against the five references are those of a perfect speaker who words captions at random.
        """
        return self._files("extra_captions", ("val", "test"))

    def _files(self, name: str, splits: tuple[str, ...] = SPLITS) -> dict[str, Path]:
        return {split: annotation_path(self.root, name, split) for split in splits}

    def fingerprint(self) -> dict[str, Any]:
        return {"drawing": "scenes", "code": code_version(), "seed": self.seed, "image_size": self.image_size, **self.sizes}

    def draw(self) -> dict[str, Any]:
        """Draw the folder unless it exists, and return its summary (images, seconds, BLEU-4 of the references, share covered)."""
        with self.in_use():
            return self._read_summary() or {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Draw the folder unless it exists, and keep it: inside this context no process draws other scenes into it.

        Raises: InputError, another process uses the folder's scenes, and they are not these; the folder cannot be written.
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
        """Share the lock with others who use these scenes; first draw them, under a lock of our own, where they do not exist."""
        deadline = time.monotonic() + PATIENCE
        while True:
            if not lock.take(shared=True):
                log.info("%s: waiting for %s, which draws there", self.root, lock.holder())
                wait_for_lock(lock, shared=True)
                deadline = time.monotonic() + PATIENCE
            if self._read_summary() is not None:
                restore_backup(self.root)
                return
            lock.release()
            if lock.take():
                self._draw()
                lock.release()
            elif time.monotonic() > deadline + ORPHAN_SECONDS * lock.orphaned():
                raise LockedError(
                    f"{self.root}: {lock.holder()} uses other scenes there; wait until it is done, or give another data.root="
                )
            else:
                time.sleep(0.1)

    def _draw(self) -> None:
        """Draw the folder, unless another process has drawn it meanwhile."""
        restore_backup(self.root)
        if self._read_summary() is not None:
            return
        check_writable(self.root, "data.root")
        if self.root.exists() and any(self.root.iterdir()):
            log.info("%s holds scenes drawn with other settings or other code; drawing again", self.root)
        started = time.monotonic()
        with atomic_folder(self.root) as folder:
            examples = draw_dataset(folder, self.sizes, self.seed, self.image_size, self.workers, code_version())
            summary = {**summarize(examples, self.seed), "seconds": round(time.monotonic() - started, 2)}
            write_atomically(folder / FINGERPRINT, json.dumps({"fingerprint": self.fingerprint(), "summary": summary}, indent=1))
        log.info(
            "drew %d scenes in %.1f s; leave-one-out BLEU-4 of the references %.1f (val, x 100); objects' boxes cover %.1f %% of the image",
            *(sum(self.sizes.values()), summary["seconds"], 100 * summary["references_BLEU-4"], 100 * summary["covered"]),
        )

    def _read_summary(self) -> dict[str, Any] | None:
        """The summary of the folder if it holds these very scenes; None where it is empty or holds others, which may be replaced.

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


@cache
def code_version() -> str:
    """A digest of this room's sources: other code may draw other pixels, words or files."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
