"""What happens beside the loop: the bar, words a second, random states, unfreezing, checkpoints that move with a run."""

import logging
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, TQDMProgressBar
from torch import Tensor

from captioner.atomic_files import atomic_file
from captioner.bundle import read_checkpoint
from captioner.encoders.encoder import Encoder
from captioner.errors import ArgumentError, InputError
from captioner.progress import ProgressLog
from captioner.records import Batch
from captioner.training.optimization import set_groups
from captioner.vocabulary import Vocabulary

log = logging.getLogger(__name__)


class Progress(TQDMProgressBar):
    """Loss and words a second: a bar on a terminal, a logged line every half minute in a file or a pipe. `clock`: seconds."""

    def __init__(self, refresh: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        self.logs = not sys.stdout.isatty()
        super().__init__(refresh_rate=0 if self.logs else refresh)
        self.clock = clock
        self._training: ProgressLog | None = None
        self._validating: ProgressLog | None = None
        self._told = False

    def get_metrics(self, trainer: Any, pl_module: Any) -> dict[str, Any]:
        shown = super().get_metrics(trainer, pl_module)
        return {name.removeprefix("train/"): value for name, value in shown.items() if name != "v_num"}

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        super().on_train_epoch_start(trainer, *_)
        self._training = self._ticker(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}", trainer.num_training_batches)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *given: Any) -> None:
        super().on_train_batch_end(trainer, pl_module, *given)
        if self._training is not None:
            self._training.step(lambda: self._numbers(trainer, pl_module))

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        epoch = trainer.current_epoch + 1
        self._validating = self._ticker(f"validation after epoch {epoch}", sum(map(int, trainer.num_val_batches)))

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *given: Any, **named: Any) -> None:
        super().on_validation_batch_end(trainer, pl_module, *given, **named)
        if self._validating is not None:
            self._validating.step()

    def _ticker(self, what: str, batches: float) -> ProgressLog | None:
        """None on a terminal, which has the bar."""
        again, self._told = self._told, True
        return ProgressLog(what, int(batches), "batch", self.clock, again) if self.logs else None

    def _numbers(self, trainer: Any, module: Any) -> str:
        shown = self.get_metrics(trainer, module)
        numbers = {"loss": "{:.3f}", "words_per_second": "{:,.0f} words/s"}
        found = {name: form.format(float(shown[name])) for name, form in numbers.items() if name in shown}
        return ", ".join(f"loss {said}" if name == "loss" else said for name, said in found.items())


class Pace(Callback):
    """Words a second and the learning rate beside the other numbers, one logged line an epoch, and a clear end when the loss is no number.

    Words are those that are learnt from, with `<end>`; the seconds are of training batches, without validation. `every`: steps.
    Raises: ArgumentError, fewer than 1.
    """

    def __init__(self, every: int = 20) -> None:
        if every < 1:
            raise ArgumentError("every", f"is a number of steps and at least 1, not {every}")
        self.every = every
        self._words, self._seconds, self._began = 0, 0.0, 0.0
        self._epoch_words, self._epoch_seconds, self._losses = 0, 0.0, [0.0, 0.0]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._began = time.perf_counter()
        self._words, self._seconds = 0, 0.0
        self._epoch_words, self._epoch_seconds, self._losses = 0, 0.0, [0.0, 0.0]

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        now = time.perf_counter()
        words = int((batch.captions[..., 1:] != Vocabulary.pad).sum())
        self._words, self._seconds = self._words + words, self._seconds + now - self._began
        self._epoch_words, self._epoch_seconds = self._epoch_words + words, self._epoch_seconds + now - self._began
        self._began = now
        stepped = batch.shares is None or batch.shares.last
        if stepped and (trainer.global_step % self.every == 0 or trainer.is_last_batch):
            self._report(trainer, pl_module, float(outputs["mean"]), words)

    def _report(self, trainer: Trainer, module: Any, loss: float, words: int) -> None:
        if not np.isfinite(loss):
            raise InputError(f"the loss is {loss} at step {trainer.global_step}: lower optimizer.lr, or set trainer.precision=32-true")
        self._losses = [self._losses[0] + loss * words, self._losses[1] + words]
        module.log("train/words_per_second", self._words / max(self._seconds, 1e-9), prog_bar=True, batch_size=1)
        module.log("train/lr", trainer.optimizers[0].param_groups[-1]["lr"], batch_size=1)
        self._words, self._seconds = 0, 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        found = trainer.callback_metrics
        scores = "".join(
            f", {name} {100 * float(found[f'val/{name}']):.1f}" for name in ("BLEU-4", "ROUGE-L", "CIDEr") if f"val/{name}" in found
        )
        loss = self._losses[0] / max(1.0, self._losses[1])
        rate = self._epoch_words / max(self._epoch_seconds, 1e-9)
        epochs = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
        log.info("epoch %s: loss %.3f%s, %s words/s, %.0f s", epochs, loss, scores, f"{rate:,.0f}", self._epoch_seconds)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._began = time.perf_counter()


class RandomStates(Callback):
    """Random states as tensors in every checkpoint, put back when training goes on from one."""

    def __init__(self) -> None:
        self._found: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        version, numbers, gauss = random.getstate()
        numpy_state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
        _, keys, position, has_gauss, cached = numpy_state
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "python": torch.tensor([version, *numbers], dtype=torch.int64),
            "python_gauss": gauss,
            "numpy": torch.tensor([*keys.tolist(), int(position), int(has_gauss)], dtype=torch.int64),
            "numpy_gauss": float(cached),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._found = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self._found is not None:
            restore_random_states(self._found)
            self._found = None


def restore_random_states(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    version, *numbers = state["python"].tolist()
    random.setstate((version, tuple(numbers), state["python_gauss"]))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, state["numpy_gauss"]))  # noqa: NPY002


class AsConfigured(Callback):
    """What is asked for beside `resume=` acts: after a checkpoint was restored, with its old numbers, the configuration's hold again.

    That is the optimizer's rates, decay and betas, the schedule, and early stopping's patience. Where an epoch has another number of
    steps than before, the schedule stands where it stood, in epochs. Where nothing changed, nothing changes, to the bit.
    """

    def __init__(self) -> None:
        self._patience: dict[int, int] = {}
        self._steps = 0

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        stopping = [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]  # type: ignore[attr-defined]
        self._patience = {id(callback): callback.patience for callback in stopping}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch_steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._steps = state_dict["epoch_steps"]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        before, self._steps = self._steps, pl_module.epoch_steps()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.patience = self._patience[id(callback)]
        if trainer.ckpt_path is None:
            return
        fresh = pl_module.make_optimizer(pl_module.captioner).param_groups
        schedule: Any = trainer.lr_scheduler_configs[0].scheduler
        if before and before != self._steps:
            schedule.last_epoch = round(schedule.last_epoch * self._steps / before)
        set_groups(trainer.optimizers[0], schedule, fresh)


class FineTune(Callback):
    """From `epoch` on (the first is 0; None: never) the encoder learns too, from `stage` (None: the lowest) up, at the rate `encoder_lr`.

    Raises: InputError, several devices (their gradients would not be shared), or an encoder without stages.
    """

    def __init__(self, epoch: int | None = None, stage: int | str | None = None) -> None:
        if epoch is not None and epoch < 0:
            raise ArgumentError("epoch", f"counts from 0, so it is not {epoch}")
        self.epoch, self.stage = epoch, stage
        self._done = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self.epoch is None:
            return
        self._check(pl_module.captioner.encoder)
        if trainer.world_size > 1:
            raise InputError("callbacks.fine_tune.epoch works on one device; on several, start another run with init= encoder.frozen=false")
        self._unfreeze(trainer, pl_module)

    def _check(self, encoder: Encoder) -> None:
        """Now, not hours later when the epoch comes."""
        stages = encoder.stages
        if not stages:
            raise InputError(f"callbacks.fine_tune.epoch: {type(encoder).__name__} has no stages to unfreeze; it learns all the time")
        if self.stage is not None and self.stage not in stages and self.stage not in range(len(stages)):
            raise InputError(f"callbacks.fine_tune.stage: one of {', '.join(stages)}, or its number from 0, not {self.stage!r}")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._unfreeze(trainer, pl_module)

    def _unfreeze(self, trainer: Trainer, module: Any) -> None:
        if self.epoch is None or self._done or trainer.current_epoch < self.epoch:
            return
        encoder = module.captioner.encoder
        encoder.unfreeze(0 if self.stage is None else self.stage)
        self._done = True
        learning = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
        log.info("from epoch %d on the encoder learns too: %s of its parameters", trainer.current_epoch + 1, f"{learning:,}")


class Checkpoints(ModelCheckpoint):
    """`best.ckpt` by a validation score and `last.ckpt`, both written at an epoch's end; with `keep_epochs` each epoch's too.

    A run that was resumed into another folder takes the best checkpoint so far along, unless that was overwritten by a later epoch's.
    """

    def __init__(self, folder: str, monitor: str = "val/CIDEr", mode: str = "max", keep_epochs: bool = False) -> None:
        super().__init__(
            dirpath=folder,
            filename="best",
            monitor=monitor,
            mode=mode,
            save_top_k=1,
            save_last=False,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.keep_epochs = keep_epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Lightning's own `save_last` follows only epochs that were the best."""
        super().on_train_epoch_end(trainer, pl_module)
        names = ["last", *([f"epoch_{trainer.current_epoch + 1:03d}"] if self.keep_epochs else [])]
        for name in names:
            trainer.save_checkpoint(Path(str(self.dirpath)) / f"{name}.ckpt", weights_only=False)

    def forget(self) -> None:
        """The next validation's model is the best."""
        self.best_model_path = self.kth_best_model_path = ""
        self.best_model_score = self.current_score = None
        self.kth_value, self.best_k_models = worst(self.mode), {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The score to beat comes along only with the checkpoint that has it."""
        best = Path(state_dict["best_model_path"])
        score = state_dict["best_model_score"]
        if score is None or not best.is_file() or not _holds(best, score):
            log.info("the best checkpoint so far is not there any more; the best from here on is kept")
            return
        target = Path(str(self.dirpath)) / "best.ckpt"
        if target != best:
            with atomic_file(target) as temporary:
                shutil.copyfile(best, temporary)
        self.best_model_path = self.kth_best_model_path = str(target)
        self.best_model_score = self.current_score = self.kth_value = score
        self.best_k_models = {str(target): score}


class DrawsBegin(Callback):
    """Where the first batches all look by expectation (`objective.expectation_batches`), the best model is found anew once looks are drawn.

    What was best before is a model of soft attention: it may score higher for a while, but it is not what was asked for.
    """

    def __init__(self) -> None:
        self._done = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        first = pl_module.objective.expectation_batches
        self._done = not pl_module.captioner.sampling_readouts or int(pl_module.objective.batches) > first or first == 0
        batches = pl_module.epoch_steps() * (trainer.max_epochs or 0)
        if not self._done and 0 < batches <= first:
            log.warning("objective.expectation_batches=%d covers the whole run, %d batches: no look is ever drawn", first, batches)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if self._done or pl_module.objective.first:
            return
        self._done = True
        log.info("from step %d on looks are drawn; the best model is found anew", trainer.global_step + 1)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.best_score, callback.wait_count = worst(callback.mode), 0
            elif callable(forget := getattr(callback, "forget", None)):
                forget()


def worst(mode: str) -> Tensor:
    """What every score beats."""
    return torch.tensor(torch.inf if mode == "min" else -torch.inf)


def _holds(checkpoint: Path, score: Tensor) -> bool:
    """Whether that checkpoint is the one that reached `score`."""
    try:
        callbacks = read_checkpoint(checkpoint, mmap=True)["callbacks"]
    except (InputError, KeyError):  # damaged or gone: then it does not
        return False
    return any(isinstance(state, dict) and state.get("best_model_score") == score for state in callbacks.values())
