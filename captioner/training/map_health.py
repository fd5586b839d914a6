"""The health of a model's maps: does it attend to different places, and tell images apart?"""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from lightning.pytorch import Callback

from captioner.caption import Caption
from captioner.errors import ArgumentError
from captioner.maps.health import FLAT, STILL, Health, health, mean_health
from captioner.records import Rollout

log = logging.getLogger(__name__)

MINIMUM_IMAGES = 5
"""Fewer images than this may have the same caption by chance."""


class MapHealth(Callback):
    """Logs the health of the maps of a validation's captions, and warns where attention is dead.

    flat: mean entropy (as a share of a uniform map's) from which on attention is dead.
    still: mean change between words (0 to 1) up to which it is dead.
    Each is warned about once per run; a word's map counts as dead by the same limits. There is also
    a warning when all captions of a validation are the same; it comes again only after they
    differed.
    Raises: ArgumentError, a limit outside [0, 1].
    """

    def __init__(self, flat: float = FLAT, still: float = STILL) -> None:
        for name, value in (("flat", flat), ("still", still)):
            if not 0 <= value <= 1:
                raise ArgumentError(name, f"is a share in [0, 1], not {value}")
        self.flat, self.still = flat, still
        self._healths: list[Health] = []
        self._captions: Counter[str] = Counter()
        self._line = ""
        self._warned: set[str] = set()

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._healths = []
        self._captions = Counter()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        captions: list[Caption] = outputs["captions"]
        self._captions.update(caption.text for caption in captions)
        self._healths += [health(caption.alphas, self.flat, self.still) for caption in captions]

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        mean, epoch = mean_health(self._healths), trainer.current_epoch + 1
        numbers = {f"val/{name}": value for name, value in mean._asdict().items() if not np.isnan(value)}
        pl_module.log_dict(numbers, batch_size=1, sync_dist=trainer.world_size > 1)
        self._line = f"maps: entropy {mean.entropy:.2f}, change {mean.change:.2f}, coverage {mean.coverage:.2f}, {mean.dead:.0%} dead"
        if mean.entropy >= self.flat:  # a flat map is still as well, which need not be said
            self._warn_once("flat", epoch, f"its maps are flat (entropy {mean.entropy:.3f} of a uniform map's), so no word chooses a place")
        elif mean.change <= self.still:
            self._warn_once("still", epoch, f"its maps are the same at every word (change {mean.change:.3f}), so they explain no word")
        self._warn_of_one_caption(epoch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the line after that of the epoch."""
        if self._line:
            log.info("%s", self._line)
        self._line = ""

    def _warn_once(self, name: str, epoch: int, reason: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            hint = "more epochs or another optimizer.lr may help; the limit of this warning is callbacks.map_health"
            log.warning("attention is dead after epoch %d: %s; %s.%s", epoch, reason, hint, name)

    def _warn_of_one_caption(self, epoch: int) -> None:
        same = len(self._captions) == 1 and self._captions.total() >= MINIMUM_IMAGES
        if same and "same" not in self._warned:
            (text,) = self._captions
            log.warning(
                "after epoch %d all %s validation captions are the same, %r: the model does not tell images apart; if it stays so, try "
                "more epochs or a lower optimizer.lr, and check that captions belong to their images and that transform.* suits these",
                epoch,
                f"{self._captions.total():,}",
                text,
            )
        (self._warned.add if same else self._warned.discard)("same")


def rollout_health(rollout: Rollout) -> dict[str, float]:
    """Mean entropy, change and peak of teacher-forced captions' maps, as `map_entropy` and so
    on."""
    alphas = rollout.record.alphas.detach().float().cpu().numpy()
    lengths = rollout.mask.sum(-1).cpu().numpy()
    captions: Iterable[tuple[int, ...]] = zip(*np.nonzero(lengths), strict=True)
    mean = mean_health(health(alphas[caption][: lengths[caption], None]) for caption in captions)
    return {f"map_{name}": value for name in ("entropy", "change", "peak") if not np.isnan(value := getattr(mean, name))}
