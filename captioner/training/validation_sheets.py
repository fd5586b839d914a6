"""Contact sheets of the same validation images after every validation: attention as it forms."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback
from PIL import Image

from captioner.atomic_files import atomic_file
from captioner.captioning import DrawableCaption
from captioner.data.images import UnreadableImageError, open_image
from captioner.errors import ArgumentError


class ValidationSheets(Callback):
    """Captions the first `images` validation images, and gives their sheets to TensorBoard and W&B.

    The search is that of the validation; without such a logger and a folder, nothing is captioned.
    folder: `epoch_01_1.png` (epoch, image) are written there too; None, they are not. The random
    numbers of training go on as if nothing had been drawn. Raises: ArgumentError, a number below 0.
    """

    def __init__(self, images: int = 4, folder: str | None = None) -> None:
        if images < 0:
            raise ArgumentError("images", f"is a number of validation images and not negative, not {images}")
        self.images, self.folder = images, None if folder is None else Path(folder)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        loggers = [logger for logger in trainer.loggers if takes_images(logger)]
        if trainer.sanity_checking or not trainer.is_global_zero or not self.images or not (loggers or self.folder):
            return
        epoch = trainer.current_epoch + 1
        for number, caption in enumerate(self.caption_images(trainer, pl_module), 1):
            sheet = caption.overlay(title=f"{caption.text or '(no word)'}   (epoch {epoch})")
            for logger in loggers:
                log_image(logger, f"val/attention_{number}", sheet, caption.text, trainer.global_step)
            if self.folder is not None:
                with atomic_file(self.folder / f"epoch_{epoch:02d}_{number}.png", durable=False) as temporary:
                    sheet.save(temporary)

    def caption_images(self, trainer: Any, module: Any) -> list[DrawableCaption]:
        """The captions of the same images every time."""
        split = trainer.datamodule.splits["val"]
        images = []
        for index in range(min(self.images, len(split))):
            with suppress(UnreadableImageError):  # validation has warned about it
                images.append(open_image(split.path(index)))
        with torch.random.fork_rng(), trainer.precision_plugin.val_step_context():
            return list(module.captioner.caption(images, search=module.search))


def takes_images(logger: Any) -> bool:
    return hasattr(logger, "log_image") or hasattr(getattr(logger, "experiment", None), "add_image")


def log_image(logger: Any, name: str, sheet: Image.Image, text: str, step: int) -> None:
    """W&B's logger takes images, TensorBoard's writer arrays (height, width, 3)."""
    if hasattr(logger, "log_image"):
        logger.log_image(key=name, images=[sheet], step=step, caption=[text])
    else:
        logger.experiment.add_image(name, np.asarray(sheet), step, dataformats="HWC")
