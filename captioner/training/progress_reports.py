"""What a run reports while it trains: a progress bar or logged lines, and rates."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from captioner.errors import ArgumentError, InputError
from captioner.progress import ProgressLog
from captioner.records import Batch
from captioner.training.accumulation import ends_step
from captioner.vocabulary import Vocabulary

log = logging.getLogger(__name__)

NUMBERS = {"loss": "loss {:.3f}", "words_per_second": "{:,.0f} words/s"}
"""Numbers in the logged lines of a training epoch, and how they are written."""


class ProgressDisplay(TQDMProgressBar):
    """A progress bar on a terminal; in a file or a pipe, a logged line every half minute.

    Both show the loss and the words per second. refresh: steps between updates of the bar. clock:
    returns seconds.
    """

    def __init__(self, refresh: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self.logs_lines = not sys.stdout.isatty()
        super().__init__(refresh_rate=0 if self.logs_lines else refresh)
        self.clock = clock
        self._training: ProgressLog | None = None
        self._validation: ProgressLog | None = None
        self._first = True

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        metrics = super().get_metrics(trainer, pl_module)
        return {name.removeprefix("train/"): value for name, value in metrics.items() if name != "v_num"}

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        super().on_train_epoch_start(trainer, *_)
        self._training = self._make_log(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}", trainer.num_training_batches)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *arguments)
        if self._training is not None:
            self._training.step(lambda: self._format_numbers(trainer, pl_module))

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        batches = sum(map(int, trainer.num_val_batches))
        self._validation = self._make_log(f"validation after epoch {trainer.current_epoch + 1}", batches)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any, **options: Any) -> None:
        super().on_validation_batch_end(trainer, pl_module, *arguments, **options)
        if self._validation is not None:
            self._validation.step()

    def _make_log(self, what: str, batches: float) -> ProgressLog | None:
        """None on a terminal, which has the bar. The first one of a run logs its first line
        soon."""
        first, self._first = self._first, False
        return ProgressLog(what, int(batches), "batch", self.clock, not first) if self.logs_lines else None

    def _format_numbers(self, trainer: Any, module: Any) -> str:
        metrics = self.get_metrics(trainer, module)
        return ", ".join(form.format(float(metrics[name])) for name, form in NUMBERS.items() if name in metrics)


class TrainingLog(Callback):
    """Logs words per second and the learning rate, and one line per epoch.

    It ends the run when the loss is not a finite number. Words are those that the loss counts, with
    `<end>`. Seconds are those of training batches, without validation. every: steps between two
    reports. Raises: ArgumentError, every is less than 1.
    """

    def __init__(self, every: int = 20) -> None:
        if every < 1:
            raise ArgumentError("every", f"is a number of steps and at least 1, not {every}")
        self.every = every

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._batch_start = time.perf_counter()
        self._words, self._seconds = 0, 0.0
        self._reported = (0, 0.0)
        """Words and seconds of the epoch at its last report."""
        self._loss_sum, self._loss_words = 0.0, 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        now = time.perf_counter()
        words = int((batch.captions[..., 1:] != Vocabulary.pad).sum())
        self._words, self._seconds = self._words + words, self._seconds + now - self._batch_start
        self._batch_start = now
        if ends_step(batch) and (trainer.global_step % self.every == 0 or trainer.is_last_batch):
            self._report(trainer, pl_module, float(outputs["mean"]), words)

    def _report(self, trainer: Trainer, module: Any, loss: float, words: int) -> None:
        if not np.isfinite(loss):
            raise InputError(f"the loss is {loss} at step {trainer.global_step}: lower optimizer.lr, or set trainer.precision=32-true")
        self._loss_sum, self._loss_words = self._loss_sum + loss * words, self._loss_words + words
        rate = (self._words - self._reported[0]) / max(self._seconds - self._reported[1], 1e-9)
        module.log("train/words_per_second", rate, prog_bar=True, batch_size=1)
        module.log("train/lr", trainer.optimizers[0].param_groups[-1]["lr"], batch_size=1)
        self._reported = (self._words, self._seconds)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        metrics = trainer.callback_metrics
        names = [name for name in ("BLEU-4", "ROUGE-L", "CIDEr") if f"val/{name}" in metrics]
        scores = "".join(f", {name} {100 * float(metrics[f'val/{name}']):.1f}" for name in names)
        loss = self._loss_sum / max(1, self._loss_words)
        rate = self._words / max(self._seconds, 1e-9)
        epochs = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        log.info("epoch %s: loss %.3f%s, %s words/s, %.0f s", epochs, loss, scores, f"{rate:,.0f}", self._seconds)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._batch_start = time.perf_counter()
