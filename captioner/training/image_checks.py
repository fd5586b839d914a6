"""Warnings, before training begins, of images that the encoder was not made for."""

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


def check_images(captioner: Captioner, encoder: Mapping[str, Any], init: str | None) -> None:
    """Run the encoder on an empty image, and warn of images that it was not made for. Raises: InputError, it refuses their size."""
    transform, images = captioner.transform, captioner.encoder.images or {}
    rows, cols = region_grid(captioner)
    size = images.get("size")
    height, width = (size, size) if isinstance(size, int) else size or (0, 0)
    if transform.height < height or transform.width < width:
        actual = f"{transform.height}x{transform.width}"
        log.warning(
            "transform.size: the encoder expects %dx%d pixels and gets %s: a grid of %dx%d regions; transform.size=%s is its own size",
            *(height, width, actual, rows, cols, height if height == width else f"[{height},{width}]"),
        )
    if backbone_config(encoder).get("weights") is None:
        learns = isinstance(captioner.encoder.backbone, SmallConv) and init is None and captioner.config[TRAINED_ON] == PHOTOGRAPHS
        if learns:
            log.info("the small encoder learns from nothing, which needs more photographs: encoder=mobilenet_v2 or resnet50 knows more")
        return
    for name in ("mean", "std"):
        own, trained = getattr(transform, name), images.get(name)
        if trained is not None and tuple(own) != tuple(trained):
            log.warning("transform.%s is %s, and the encoder's weights were trained with %s", name, list(own), list(trained))


def region_grid(captioner: Captioner) -> tuple[int, int]:
    """Rows and columns of the regions that the encoder makes of the transform's images. Its modes do not change."""
    encoder, transform = captioner.encoder, captioner.transform
    training = encoder.training
    encoder.eval()
    with torch.no_grad():
        regions = encoder(torch.zeros(1, 3, transform.height, transform.width))
    encoder.train(training)
    return grid_size(regions.cells)


def warn_of_other_pictures(before: Mapping[str, Any], pictures: str, init: str) -> None:
    """Warn where a model of drawn scenes (`before` is its configuration) goes on with photographs, or the other way round.

    There is no warning where the model does not say what it was trained on.
    """
    trained_on = before.get(TRAINED_ON)
    if trained_on not in (None, pictures):
        log.warning(
            "init=%s was trained on %s and goes on with %s, which its encoder has never seen and its words hardly fit; "
            "without init= a new model is trained",
            *(init, trained_on, pictures),
        )
