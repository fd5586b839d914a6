"""The splits that a run trains and validates on, and the regions of their images that are computed once."""

import hashlib
import json
import logging
from collections.abc import Mapping

import torch

from captioner.data.cache import FeatureStore, contents_hash, fingerprint, open_or_build, weights_hash
from captioner.data.captions import CaptionSet
from captioner.data.image_check import readable_images
from captioner.encoders.encoder import backbone_config
from captioner.errors import InputError, listed
from captioner.model import Captioner
from captioner.training.run_parts import NOT_FROZEN, Parts

log = logging.getLogger(__name__)


def read_splits(parts: Parts) -> dict[str, CaptionSet]:
    """`train` and `val` as the run uses them, every image checked. Raises: InputError, no such split, or an image cannot be read."""
    splits = parts.source.splits()
    names = {"train": "train", "val": parts.validation_split}
    for split in names.values():
        if split not in splits:
            raise InputError(f"data has no split {split!r}, only {', '.join(splits) or 'none'}; training needs train and validation.split")
    for split in sorted(splits.keys() - set(names.values())):
        log.info("%s", unused_split_line(split, splits[split]))
    return {name: readable_images(first_images(splits[split], parts.limit), name, parts.missing) for name, split in names.items()}


def first_images(captions: CaptionSet, limit: int | None) -> CaptionSet:
    return captions.select(range(min(limit, len(captions)))) if limit else captions


def unused_split_line(split: str, captions: CaptionSet) -> str:
    """A line about a split that the run does not use: how many images, and the names of the first few."""
    names = [captions.path(index).name for index in range(len(captions))]
    return f"{len(captions):,} images of the split {split} are set aside, neither trained nor validated on: {listed(names)}"


def cached_features(parts: Parts, splits: Mapping[str, CaptionSet], captioner: Captioner) -> dict[str, FeatureStore]:
    """Each split's regions, from disk or computed now; none where the run caches none. Raises: InputError, the encoder learns."""
    if parts.feature_folder is None:
        return {}
    if not captioner.encoder.backbone.frozen:
        raise InputError(NOT_FROZEN)
    transform, device = captioner.transform, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = captioner.encoder.backbone.to(device).eval()
    described = {key: value for key, value in backbone_config(parts.model["encoder"]).items() if key not in ("weights", "images")}
    weights = weights_hash(encoder.state_dict())
    stores = {}
    for split, captions in splits.items():
        views = 2 if split == "train" and transform.augment and transform.flip > 0 else 1
        files = contents_hash(captions)
        facts = fingerprint(captions, transform, described, weights, views, files)
        folder = parts.feature_folder / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        log.info("regions of the %s images, identified by the contents of their files: %s", split, folder)
        made_by = described, weights, views
        stores[split] = open_or_build(folder, captions, transform, lambda pixels: encoder(pixels.to(device)), *made_by, files=files)
    encoder.cpu()
    return stores
