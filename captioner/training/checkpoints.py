"""The checkpoints of a run: the best one and the last one, and when a new best one is looked
for."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from captioner.atomic_files import atomic_file
from captioner.bundle import read_checkpoint
from captioner.errors import InputError
from captioner.records import Batch

log = logging.getLogger(__name__)


class Checkpoints(ModelCheckpoint):
    """Writes `best.ckpt`, by a validation score, and `last.ckpt`, after every epoch.

    keep_epochs: write a checkpoint per epoch too.
    A run that is resumed in another folder copies the best checkpoint so far, unless a later epoch
    has replaced it.
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
        """Lightning's `save_last` would follow only those epochs that were the best."""
        super().on_train_epoch_end(trainer, pl_module)
        names = ["last", *([f"epoch_{trainer.current_epoch + 1:03d}"] if self.keep_epochs else [])]
        for name in names:
            trainer.save_checkpoint(Path(str(self.dirpath)) / f"{name}.ckpt", weights_only=False)

    def reset_best(self) -> None:
        """Forget the best score: the next validation's model becomes the best one."""
        self.best_model_path = self.kth_best_model_path = ""
        self.best_model_score = self.current_score = None
        self.kth_value, self.best_k_models = worst_score(self.mode), {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the best score so far only together with the checkpoint that reached it."""
        best = Path(state_dict["best_model_path"])
        score = state_dict["best_model_score"]
        if score is None or not best.is_file() or not _has_score(best, score):
            log.info("the best checkpoint so far is not there any more; the best from here on is kept")
            return
        target = Path(str(self.dirpath)) / "best.ckpt"
        if target != best:
            with atomic_file(target) as temporary:
                shutil.copyfile(best, temporary)
        self.best_model_path = self.kth_best_model_path = str(target)
        self.best_model_score = self.current_score = self.kth_value = score
        self.best_k_models = {str(target): score}


class SamplingStart(Callback):
    """Resets the best score when hard attention begins to sample.

    That is after `objective.expectation_batches`. The best model before is one of soft attention:
    it may score higher for a while, but it is not the model that the run is meant to train.
    """

    def __init__(self) -> None:
        self._done = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        first = pl_module.objective.expectation_batches
        self._done = not pl_module.captioner.sampling_readouts or int(pl_module.objective.batches) > first or first == 0
        batches = pl_module.epoch_steps() * (trainer.max_epochs or 0)
        if not self._done and 0 < batches <= first:
            log.warning("objective.expectation_batches=%d covers the whole run, %d batches: no region is ever sampled", first, batches)

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if self._done or pl_module.objective.in_first_batches:
            return
        self._done = True
        log.info("from step %d on regions are sampled; the best model is chosen again from here on", trainer.global_step + 1)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, EarlyStopping):
                callback.best_score, callback.wait_count = worst_score(callback.mode), 0
            elif callable(reset := getattr(callback, "reset_best", None)):
                reset()


def worst_score(mode: str) -> Tensor:
    """A score that every other score beats."""
    return torch.tensor(torch.inf if mode == "min" else -torch.inf)


def _has_score(checkpoint: Path, score: Tensor) -> bool:
    """Whether this checkpoint is the one that reached `score`."""
    try:
        callbacks = read_checkpoint(checkpoint, mmap=True)["callbacks"]
    except (InputError, KeyError):  # damaged or gone
        return False
    return any(isinstance(state, dict) and state.get("best_model_score") == score for state in callbacks.values())
