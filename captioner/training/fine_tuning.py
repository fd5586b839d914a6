"""From some epoch on the encoder is trained too."""

import logging
from typing import Any

from lightning.pytorch import Callback, Trainer

from captioner.encoders.encoder import Encoder
from captioner.errors import ArgumentError, InputError

log = logging.getLogger(__name__)


class FineTuning(Callback):
    """Unfreezes the encoder at `epoch` (the first is 0; None: never), from `stage` (None: the
    lowest) upwards.

    Its parameters are in the optimizer from the start, with the rate `encoder_lr`. Lightning's
    BaseFinetuning (2.6) adds them as new parameter groups when they are unfrozen, and a LambdaLR
    that was built before cannot step with these (ValueError).
    Raises: InputError, several devices (their gradients would not be shared), or an encoder without
    stages.
    """

    def __init__(self, epoch: int | None = None, stage: int | str | None = None) -> None:
        if epoch is not None and epoch < 0:
            raise ArgumentError("epoch", f"counts from 0, so it is not {epoch}")
        self.epoch, self.stage = epoch, stage
        self._done = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Refuse what cannot work now, not hours later when the epoch begins."""
        if self.epoch is None:
            return
        encoder: Encoder = pl_module.captioner.encoder
        stages = encoder.stages
        if not stages:
            raise InputError(f"callbacks.fine_tune.epoch: {type(encoder).__name__} has no stages to unfreeze; it learns all the time")
        try:
            encoder.stage_number(0 if self.stage is None else self.stage)
        except ArgumentError:
            choices = f"one of {', '.join(stages)}, or its number from 0"
            raise InputError(f"callbacks.fine_tune.stage: {choices}, not {self.stage!r}") from None
        if trainer.world_size > 1:
            raise InputError("callbacks.fine_tune.epoch works on one device; on several, start another run with init= encoder.frozen=false")
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.epoch is None or self._done or trainer.current_epoch < self.epoch:
            return
        encoder = pl_module.captioner.encoder
        encoder.unfreeze(0 if self.stage is None else self.stage)
        self._done = True
        learning = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
        log.info("from epoch %d on the encoder learns too: %s of its parameters", trainer.current_epoch + 1, f"{learning:,}")
