"""A running average of the model, which validates, is saved and is shipped instead of the last ones."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from captioner.errors import ArgumentError


class Averaging(Callback):
    """Exponential moving average of what learns:  a <- d a + (1 - d) w,  d = min(decay, (1 + n) / (10 + n)) after n steps.

    w are the parameters that learn, and with them the running means and variances of batch norms that see training batches: averaged
    weights make other activations than the last ones, and so need statistics of their own. Frozen parts stay as they are, and counters,
    which have no average. decay 0 switches it off. Validation sees the average; a checkpoint's `state_dict` is the average too, and what
    is in training lies beside it. Lightning's WeightAveraging has no such choice: it copies the whole module, averages counters and frozen
    parts as well, and takes the average away before `ModelWriter` has written it.
    Source: the warm-up of d is that of TensorFlow's ExponentialMovingAverage. Raises: ArgumentError, decay outside [0, 1).
    """

    def __init__(self, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError("decay", f"is a share in [0, 1), not {decay}")
        self.decay = decay
        self.steps = 0
        self._average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] | None = None
        """What is in training, while the module holds the average."""
        self._seen = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._seen = trainer.global_step
        self._average = {name: value.to(pl_module.device) for name, value in self._average.items()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step > self._seen:  # else gradients were only accumulated
            self._seen = trainer.global_step
            self.follow(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.put_in(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.take_out(pl_module)

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """One step of the average after the weights."""
        if not self.decay:
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, weight in _learning(module).items():
            if name in self._average:
                self._average[name].lerp_(weight.detach(), 1 - decay)
            else:
                self._average[name] = weight.detach().clone()

    def put_in(self, module: nn.Module) -> None:
        """Give the module the average, where there is one."""
        if self._average and self._trained is None:
            weights = _named(module)
            self._trained = {name: weights[name].detach().clone() for name in self._average}
            _fill(module, self._average)

    def take_out(self, module: nn.Module) -> None:
        """Give the module its own weights back."""
        if self._trained is not None:
            _fill(module, self._trained)
            self._trained = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self._average:
            return
        weights = self._trained or _named(pl_module)
        checkpoint["trained_weights"] = {name: weights[name].detach().clone() for name in self._average}
        checkpoint["averaged_steps"] = self.steps
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **{name: value.clone() for name, value in self._average.items()}}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        trained = checkpoint.get("trained_weights")
        if not trained:
            return
        if self.decay:
            self.steps = checkpoint["averaged_steps"]
            self._average = {name: checkpoint["state_dict"][name].to(pl_module.device).clone() for name in trained}
        _fill(pl_module, trained)


def _learning(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that get gradients, and the statistics of batch norms that follow the training batches."""
    found: dict[str, Tensor] = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    for prefix, part in module.named_modules():
        if isinstance(part, BatchNorm) and part.training and part.track_running_stats:
            found |= {f"{prefix}.{name}": value for name, value in part.named_buffers(recurse=False) if value.is_floating_point()}
    return found


def _named(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters()) | dict(module.named_buffers())


@torch.no_grad()
def _fill(module: nn.Module, values: dict[str, Tensor]) -> None:
    weights = _named(module)
    for name, value in values.items():
        weights[name].copy_(value)
