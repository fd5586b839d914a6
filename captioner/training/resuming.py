"""A resumed run: it goes on as if it had never stopped, except for the new values it gets."""

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from captioner.training.optimization import set_param_groups


class RandomStates(Callback):
    """Stores the states of all random generators in checkpoints, as tensors, and restores them."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None

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
        self._loaded = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if self._loaded is not None:
            restore_random_states(self._loaded)
            self._loaded = None


def restore_random_states(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    version, *numbers = state["python"].tolist()
    random.setstate((version, tuple(numbers), state["python_gauss"]))
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, state["numpy_gauss"]))  # noqa: NPY002


class ResumeOverrides(Callback):
    """Applies the values given beside `resume=`, after the checkpoint has restored the earlier
    ones.

    These are the optimizer's rates, decay and betas, the schedule, and the patience of early
    stopping. If an epoch has another number of steps than before, the schedule keeps its place in
    epochs. If no value changed, nothing changes, to the bit.
    """

    def __init__(self) -> None:
        self._patience: dict[int, int] = {}
        self._epoch_steps = 0

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        self._patience = {id(callback): callback.patience for callback in early_stoppings(trainer)}

    def state_dict(self) -> dict[str, Any]:
        return {"epoch_steps": self._epoch_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._epoch_steps = state_dict["epoch_steps"]

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        before, self._epoch_steps = self._epoch_steps, pl_module.epoch_steps()
        for callback in early_stoppings(trainer):
            callback.patience = self._patience[id(callback)]
        if trainer.ckpt_path is None:
            return
        configured = pl_module.make_optimizer(pl_module.captioner).param_groups
        schedule: Any = trainer.lr_scheduler_configs[0].scheduler
        if before and before != self._epoch_steps:
            schedule.last_epoch = round(schedule.last_epoch * self._epoch_steps / before)
        set_param_groups(trainer.optimizers[0], schedule, configured)


def early_stoppings(trainer: Any) -> list[EarlyStopping]:
    return [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]
