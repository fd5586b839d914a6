"""Learning rates and weight decay: per group of parameters, and over the steps of a run."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from captioner.encoders.encoder import Encoder
from captioner.errors import ArgumentError

MAXIMUM_LR = 1e36
"""Learning rates are below this, so that the steps of every optimizer are finite in 32 bits."""


def build_optimizer(
    captioner: nn.Module, optimizer: Callable[..., Optimizer], lr: float, encoder_lr: float, weight_decay: float = 0.0
) -> Optimizer:
    """An optimizer over four groups: matrices (which decay) and vectors, of the encoder and of the
    rest.

    Only an encoder's `backbone` counts as the encoder: layers on top of it, which are trained from
    random weights, learn as the decoder does.

    `optimizer` is called with the groups; `lr` and `encoder_lr` are the highest learning rates. A
    frozen parameter is in its group, gets no gradient, and may be unfrozen later.
    Raises: ArgumentError, a rate that is not positive or a negative decay.
    """
    for name, value in (("lr", lr), ("encoder_lr", encoder_lr)):
        if not 0 < value < MAXIMUM_LR:
            raise ArgumentError(name, f"is a learning rate and must be positive, and below {MAXIMUM_LR:g}, not {value}")
    if weight_decay < 0:
        raise ArgumentError("weight_decay", f"must not be negative, not {weight_decay}")
    whole = captioner.get_submodule("encoder")
    encoder = list((whole.backbone if isinstance(whole, Encoder) else whole).parameters())
    inside = set(map(id, encoder))
    others = [parameter for parameter in captioner.parameters() if id(parameter) not in inside]
    groups = []
    for parameters, rate in ((encoder, encoder_lr), (others, lr)):
        groups.append({"params": [one for one in parameters if one.dim() > 1], "lr": rate, "weight_decay": weight_decay})
        groups.append({"params": [one for one in parameters if one.dim() <= 1], "lr": rate, "weight_decay": 0.0})
    return optimizer([group for group in groups if group["params"]])


def warmup_cosine(optimizer: Optimizer, epoch_steps: int, epochs: int, warmup: float = 0.05, floor: float = 0.01) -> LambdaLR:
    """Linear from zero over the first `warmup` steps, then half a cosine down to `floor`.

    `warmup` is a share of all steps, `floor` a share of the highest rate. `epochs` is the horizon:
    a run that will be resumed needs its final number of epochs from the start. With a floor of 1
    the rate is constant after its warm-up.
    Source: Loshchilov and Hutter 2017, eq. 5, without restarts. Raises: ArgumentError, a share
    outside [0, 1] or a horizon below one step.
    """
    for name, value in (("epoch_steps", epoch_steps), ("epochs", epochs)):
        if value < 1:
            raise ArgumentError(name, f"must be at least 1, not {value}")
    for name, share in (("warmup", warmup), ("floor", floor)):
        if not 0 <= share <= 1:
            raise ArgumentError(name, f"is a share in [0, 1], not {share}")
    steps = epoch_steps * epochs
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)


def set_param_groups(optimizer: Optimizer, schedule: LambdaLR, configured: Sequence[Mapping[str, Any]]) -> None:
    """Give the groups the `configured` numbers, and the rates of the schedule's present step.

    lr = highest rate * schedule's factor at `last_epoch`
    """
    schedule.base_lrs = [group["lr"] for group in configured]
    for group, new, factor in zip(optimizer.param_groups, configured, schedule.lr_lambdas, strict=True):
        numbers = {name: value for name, value in new.items() if name != "params"}
        group.update(numbers, initial_lr=new["lr"], lr=new["lr"] * factor(schedule.last_epoch))
