"""What an encoder measures once on training images, before the first step."""

import logging
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from captioner.data.cache import FeatureStore
from captioner.data.captions import CaptionSet
from captioner.data.images import open_image
from captioner.model import Captioner
from captioner.records import Regions

log = logging.getLogger(__name__)

IMAGES = 512
"""So many training images, evenly spaced, are measured: 100,000 regions of a 14x14 grid."""
AT_ONCE = 16


def learn_region_statistics(captioner: Captioner, splits: Mapping[str, CaptionSet], features: Mapping[str, FeatureStore]) -> None:
    """Let the encoder measure training images where it needs to: a new model does, one that was trained before does not."""
    if not captioner.encoder.needs_statistics:
        return
    captions = splits["train"]
    chosen = np.unique(np.linspace(0, len(captions) - 1, min(IMAGES, len(captions))).astype(int))
    log.info("regions are standardised by those of %d training images", len(chosen))
    captioner.eval()
    captioner.encoder.learn_statistics(_regions(captioner, captions, features.get("train"), chosen))


@torch.no_grad()
def _regions(captioner: Captioner, captions: CaptionSet, store: FeatureStore | None, chosen: np.ndarray) -> Iterator[Regions]:
    for start in range(0, len(chosen), AT_ONCE):
        images = chosen[start : start + AT_ONCE]
        if store is not None:
            yield store.regions(images)
        else:
            yield captioner.prepare([open_image(captions.path(index)) for index in images.tolist()])[0]
