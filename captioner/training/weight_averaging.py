"""A running average of the weights, which is validated and saved in place of the last ones."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from captioner.errors import ArgumentError
from captioner.records import Batch
from captioner.training.accumulation import ends_step


class WeightAverage(Callback):
    """Exponential moving average of what learns.

        a <- d a + (1 - d) w,    d = min(decay, (1 + n) / (10 + n)) after n steps

    w are the parameters that get gradients, and the running means and variances of those batch
    norms that are in training mode: averaged weights produce other activations than the last
    weights, and need the statistics of these. Frozen parts and counters are not averaged. decay 0
    switches the average off. Validation uses the average. A checkpoint's `state_dict` is the
    average too; the weights in training lie beside it.
    Lightning's WeightAveraging (2.6) cannot leave out frozen parts and counters: it copies and
    averages every tensor of the module, or no buffer at all. It also puts the trained weights back
    before `ModelWriter` saves the model.
    Source: the warm-up of d is that of TensorFlow's ExponentialMovingAverage.
    Raises: ArgumentError, decay is outside [0, 1).
    """

    def __init__(self, decay: float = 0.0) -> None:
        if not 0 <= decay < 1:
            raise ArgumentError("decay", f"is a share in [0, 1), not {decay}")
        self.decay = decay
        self.steps = 0
        self._average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] | None = None
        """The weights in training, while the module holds the average."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if ends_step(batch):
            self.update(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.use_average(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.restore_trained(pl_module)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average one step towards the weights."""
        if not self.decay:
            return
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, weight in _learning_tensors(module).items():
            average = self._average.get(name)
            self._average[name] = (
                weight.detach().clone() if average is None else average.to(weight.device).lerp_(weight.detach(), 1 - decay)
            )

    def use_average(self, module: nn.Module) -> None:
        """Put the average, if there is one, into the module."""
        if self._average and self._trained is None:
            self._trained = self._copy_trained(module)
            module.load_state_dict(self._average, strict=False)

    def restore_trained(self, module: nn.Module) -> None:
        """Put the weights in training back into the module."""
        if self._trained is not None:
            module.load_state_dict(self._trained, strict=False)
            self._trained = None

    def _copy_trained(self, module: nn.Module) -> dict[str, Tensor]:
        weights = self._trained or module.state_dict()
        return {name: weights[name].clone() for name in self._average}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._average:
            checkpoint["trained_weights"] = self._copy_trained(pl_module)
            checkpoint["averaged_steps"] = self.steps
            checkpoint["state_dict"] = {**checkpoint["state_dict"], **{name: value.clone() for name, value in self._average.items()}}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        trained = checkpoint.get("trained_weights")
        if not trained:
            return
        if self.decay:
            self.steps = checkpoint["averaged_steps"]
            self._average = {name: checkpoint["state_dict"][name].clone() for name in trained}
        pl_module.load_state_dict(trained, strict=False)


def _learning_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that get gradients, and the running statistics of batch norms in training mode."""
    tensors: dict[str, Tensor] = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    for prefix, part in module.named_modules():
        if isinstance(part, BatchNorm) and part.training and part.track_running_stats:
            tensors |= {f"{prefix}.{name}": value for name, value in part.named_buffers(recurse=False) if value.is_floating_point()}
    return tensors
