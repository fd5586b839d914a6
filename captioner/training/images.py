"""Whether a run's images are what its encoder was made for: said before training begins."""

import logging
from collections.abc import Mapping
from typing import Any

import torch

from captioner.data.source import PHOTOGRAPHS
from captioner.encoders.encoder import backbone_config
from captioner.encoders.small import SmallConv
from captioner.model import Captioner
from captioner.records import grid_size

log = logging.getLogger(__name__)

TRAINED_ON = "trained_on"
"""In a model's configuration: the `pictures` of the data source that it was trained on last."""


def check_images(captioner: Captioner, config: Mapping[str, Any]) -> None:
    """Run the encoder on an empty image, and warn of images that it was not made for. Raises: InputError, it refuses their size."""
    transform, wanted = captioner.transform, captioner.encoder.images or {}
    rows, cols = seen_grid(captioner)
    own = wanted.get("size")
    height, width = (own, own) if isinstance(own, int) else own or (0, 0)
    if transform.height < height or transform.width < width:
        given = f"{transform.height}x{transform.width}"
        log.warning(
            "transform.size: the encoder wants %dx%d pixels and is given %s: a grid of %dx%d regions; transform.size=%s is its own size",
            *(height, width, given, rows, cols, height if height == width else f"[{height},{width}]"),
        )
    if backbone_config(config["encoder"]).get("weights") is None:
        small = isinstance(captioner.encoder.backbone, SmallConv)
        if small and config["init"] is None and captioner.config[TRAINED_ON] == PHOTOGRAPHS:
            log.info("the small encoder learns from nothing, which photographs are too few for: encoder=mobilenet_v2 or resnet50 sees more")
        return
    for name in ("mean", "std"):
        here, there = getattr(transform, name), wanted.get(name)
        if there is not None and tuple(here) != tuple(there):
            log.warning("transform.%s is %s, and the encoder's weights were trained with %s", name, list(here), list(there))


def seen_grid(captioner: Captioner) -> tuple[int, int]:
    """Rows and columns of the regions that the encoder makes of the transform's images. Its modes stay as they are."""
    encoder, transform = captioner.encoder, captioner.transform
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        regions = encoder(torch.zeros(1, 3, transform.height, transform.width))
    encoder.train(training)
    return grid_size(regions.cells)


def warn_of_other_pictures(before: Mapping[str, Any], pictures: str, init: str) -> None:
    """A line where a model of drawn scenes (`before` is its configuration) is to go on with photographs, or the other way round.

    A model that does not say what it was trained on is not warned of.
    """
    known = before.get(TRAINED_ON)
    if known not in (None, pictures):
        log.warning(
            "init=%s was trained on %s and goes on with %s, which its encoder has never seen and its words hardly fit; "
            "without init= training begins anew",
            *(init, known, pictures),
        )
