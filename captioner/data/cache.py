"""Region features computed once: memory-mapped half floats with a fingerprint of all that made them."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.atomic_files import atomic_folder, check_writable, restore_backup, write_atomically
from captioner.data.captions import CaptionSet
from captioner.data.images import open_image
from captioner.data.transforms import Transform
from captioner.errors import ArgumentError, InputError
from captioner.json_files import read_json
from captioner.locks import Lock, remove_stale_lock, wait_for_lock
from captioner.progress import progress
from captioner.records import Regions

log = logging.getLogger(__name__)

FORMAT = 2
VIEWS = ("features.npy", "mirrored.npy")


class FeatureStore:
    """An opened store: `features.npy` fp16 (images, regions, features), `mirrored.npy` the same of the images flipped left to right
    where `views` is 2, `cells.npy` (regions, 2), `fingerprint.json`.

    Raises: InputError, the folder is no whole store.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.fingerprint = read_json(self.folder / "fingerprint.json", "fingerprint of the feature store")
        try:
            self.views = int(self.fingerprint["views"])
            self._maps = [np.load(self.folder / name, mmap_mode="r") for name in VIEWS[: self.views]]
            self.cells: Float[Tensor, "regions 2"] = torch.from_numpy(np.load(self.folder / "cells.npy"))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{self.folder}: the feature store is damaged ({error}); delete the folder to have it built again") from None

    def __len__(self) -> int:
        return int(self._maps[0].shape[0])

    @property
    def features(self) -> int:
        """Numbers a region."""
        return int(self._maps[0].shape[2])

    def regions(self, images: Int[np.ndarray, " images"], mirrored: Bool[np.ndarray, " images"] | None = None) -> Regions:
        """The regions of these images in float32, of the mirrored view where `mirrored` says so (all plain when None)."""
        found = self._maps[0][images]
        if mirrored is not None and mirrored.any():
            if self.views < 2:
                raise ValueError(f"{self.folder} holds one view, so no image can be mirrored; build it with views=2")
            found[mirrored] = self._maps[1][images[mirrored]]
        return Regions(torch.from_numpy(found).float(), self.cells)


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of a state dict, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


def contents_hash(captions: CaptionSet) -> str:
    """BLAKE2 over the names and the contents of the images, in order; a file that is not there counts as such.

    Names, sizes and times of files may stay the same while the photos change. 7,000 photos of 14 KiB take 0.3 s on one core.
    """
    files = hashlib.blake2b(digest_size=32)
    for index, name in enumerate(progress(captions.names, "images' contents")):
        path = captions.path(index)
        of_file = hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else "absent"
        files.update(f"{name}\0{of_file}\n".encode("utf-8", "surrogatepass"))
    return files.hexdigest()


def fingerprint(
    captions: CaptionSet, transform: Transform, encoder: Mapping[str, Any], weights: str, views: int, files: str
) -> dict[str, Any]:
    """What a store depends on. files: `contents_hash` of the images; of the transform, what acts when nothing is random."""
    still = {key: value for key, value in transform.to_json().items() if key not in ("augment", "flip", "crop_scale", "crop_ratio")}
    made_of = {"encoder": dict(encoder), "weights": weights, "transform": still, "files": files, "images": len(captions)}
    return json.loads(json.dumps({"format": FORMAT, "views": views, **made_of}))


def open_or_build(
    folder: Path | str,
    captions: CaptionSet,
    transform: Transform,
    encode: Callable[[Float[Tensor, "images 3 height width"]], Regions],
    encoder: Mapping[str, Any],
    weights: str,
    views: int = 1,
    batch_size: int = 32,
    stale: str = "rebuild",
    files: str | None = None,
) -> FeatureStore:
    """The store in `folder`, built first where there is none.

    encode: prepared pixels -> regions; called without gradients, a batch at a time. encoder: its configuration, weights:
    `weights_hash` of it. stale: a store of something else is built again with a logged reason (`rebuild`) or refused (`error`).
    files: `contents_hash` of the images, where it is known already.
    Raises: InputError, a stale store is refused. ValueError, an unknown option.
    """
    folder = Path(folder)
    if views not in (1, 2) or batch_size < 1 or stale not in ("rebuild", "error"):
        raise ArgumentError("views", f"is 1 or 2, batch_size at least 1, stale rebuild or error, not {views}, {batch_size}, {stale!r}")
    wanted = fingerprint(captions, transform, encoder, weights, views, files or contents_hash(captions))
    if _why_not(folder, wanted) is not None:
        with _alone(folder):
            _build_again(folder, wanted, stale, lambda fresh: _build(fresh, captions, transform, encode, views, batch_size))
    else:
        remove_stale_lock(_lock_of(folder))
    return FeatureStore(folder)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process builds a store; others wait for it, for it may be theirs too."""
    check_writable(folder, "data.cache_folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = Lock(_lock_of(folder))
    if not lock.take():
        log.info("%s: waiting for %s, which computes regions there", folder, lock.holder())
        wait_for_lock(lock, shared=False)
    try:
        restore_backup(folder)
        yield
    finally:
        lock.release()


def _build_again(folder: Path, wanted: dict[str, Any], stale: str, build: Callable[[Path], None]) -> None:
    reason = _why_not(folder, wanted)
    if reason is None:
        return
    if folder.exists() and any(folder.iterdir()):
        if stale == "error":
            raise InputError(f"{folder}: the feature store does not fit: {reason}; delete the folder or give another")
        if not (folder / "fingerprint.json").exists():
            raise InputError(f"{folder}: is not empty and no feature store; give another folder")
        log.warning("%s: features are computed again: %s", folder, reason)
    with atomic_folder(folder) as fresh:
        build(fresh)
        write_atomically(fresh / "fingerprint.json", json.dumps(wanted, indent=1))


def _why_not(folder: Path, wanted: dict[str, Any]) -> str | None:
    if not (folder / "fingerprint.json").exists():
        return "there is none"
    try:
        found = read_json(folder / "fingerprint.json", "fingerprint of the feature store")
        FeatureStore(folder)
    except InputError as error:
        return str(error)
    differ = [key for key in wanted if not isinstance(found, dict) or found.get(key) != wanted[key]]
    return f"{', '.join(differ)} changed" if differ else None


def _build(
    folder: Path,
    captions: CaptionSet,
    transform: Transform,
    encode: Callable[[Float[Tensor, "images 3 height width"]], Regions],
    views: int,
    batch_size: int,
) -> None:
    maps: list[Any] = []
    starts = range(0, len(captions), batch_size)
    for start in progress(starts, "features", unit="batch"):
        images = range(start, min(start + batch_size, len(captions)))
        pixels = torch.stack([transform.pixels(open_image(captions.path(image)))[0] for image in images])
        for view in range(views):
            with torch.no_grad():
                regions = encode(transform.normalise(pixels.flip(-1) if view else pixels))
            if len(maps) == view:
                shape = (len(captions), *regions.features.shape[1:])
                maps.append(_reserved(folder / VIEWS[view], shape))
                np.save(folder / "cells.npy", regions.cells.float().cpu().numpy())
            maps[view][start : start + len(images)] = _half(regions, captions, start)
    for array in maps:
        array.flush()


def _reserved(path: Path, shape: tuple[int, ...]) -> Any:
    """A mapped array of zeros whose place on the disk is sure: to write where there is none left would kill the process."""
    found = np.lib.format.open_memmap(path, "w+", np.float16, shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return found


def _half(regions: Regions, captions: CaptionSet, start: int) -> Any:
    if regions.mask is not None:
        raise ValueError("encode gave regions with a mask, which a feature store does not keep")
    with np.errstate(over="ignore"):  # looked for below
        half = regions.features.float().cpu().numpy().astype(np.float16)
    if not np.isfinite(half).all():
        raise InputError(f"{captions.path(start)} or one of the {len(half) - 1} images after it: features beyond half precision (65504)")
    return half
