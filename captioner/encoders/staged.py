"""Encoders of stages: what is frozen, what learns from where on, and the mode that each part is therefore in."""

from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from captioner.encoders.encoder import Encoder
from captioner.errors import ArgumentError


class Staged(Encoder):
    """An encoder whose parameters lie in `stages`, counted from the pixels: all frozen, or trained from one of them up.

    A part in which no parameter learns is in evaluation mode, from construction on and whatever `train` is told: neither its weights nor
    its statistics move, and nothing in it is dropped out. So are the batch norms of trained stages where `hold_statistics` is true (their
    weights still learn). What has no parameters goes with the smallest part around it that has.
    """

    stages: tuple[str, ...]
    hold_statistics: bool

    def arrange(
        self, body: str, stages: Mapping[str, Sequence[str]], frozen: bool, finetune_from: str | int | None, hold_statistics: bool
    ) -> None:
        """Say what the stages are, once all parameters are there: names of modules or parameters of the module called `body`.

        `finetune_from` trains that stage and all above it; where it is None, `frozen` says for all. Raises: ArgumentError, no such stage.
        """
        self.stages = tuple(stages)
        self.hold_statistics = hold_statistics
        self._parts_of = {stage: tuple(f"{body}.{part}." for part in parts) for stage, parts in stages.items()}
        self.requires_grad_(False)
        if finetune_from is not None or not frozen:
            self.unfreeze(0 if finetune_from is None else finetune_from)
        self.train(self.training)

    def unfreeze(self, stage: str | int) -> list[nn.Parameter]:
        """Train `stage` and all above it from now on; what was trained before stays so. Returns the parameters that it frees.

        Raises: ArgumentError, no such stage.
        """
        parts = tuple(part for name in self.stages[self._number(stage) :] for part in self._parts_of[name])
        freed = [parameter for name, parameter in self.named_parameters() if not parameter.requires_grad and f"{name}.".startswith(parts)]
        for parameter in freed:
            parameter.requires_grad_(True)
        self.train(self.training)
        return freed

    def _number(self, stage: str | int) -> int:
        if str(stage) in self.stages:
            return self.stages.index(str(stage))
        if isinstance(stage, int) and 0 <= stage < len(self.stages):
            return stage
        raise ArgumentError("finetune_from", f"must be a stage ({', '.join(self.stages)}) or its number from 0, not {stage!r}")

    def train(self, mode: bool = True) -> "Staged":
        """As ever, but what is frozen, and the batch norms whose statistics are held, stay in evaluation mode."""
        super().train(mode)
        for child in self.children():
            _hold(child, self.hold_statistics)
        return self


def _hold(part: nn.Module, statistics: bool) -> None:
    """Put what nothing learns in, and with `statistics` every batch norm, in evaluation mode."""
    learning = [parameter.requires_grad for parameter in part.parameters()]
    if (learning and not any(learning)) or (statistics and isinstance(part, _BatchNorm)):
        part.eval()
    elif learning:
        for child in part.children():
            _hold(child, statistics)
