"""Whether a model looks and tells images apart: the health of its maps beside the loss, and warnings in words where it does not."""

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from lightning.pytorch import Callback

from captioner.errors import ArgumentError
from captioner.maps.health import FLAT, STILL, Health, health, mean_health
from captioner.model import Hypothesis
from captioner.records import Rollout
from captioner.vocabulary import Vocabulary

log = logging.getLogger(__name__)

ENOUGH = 5
"""Images of a validation from which it says something that all have the same caption."""


class Watch(Callback):
    """The health of the maps of all captions that a validation found: logged, said in a line after the epoch's, and watched.

    Where all captions that a validation found are the same, that is a warning, too, once until they differ again.

    flat: mean entropy (a share of an even look's) from which attention is dead; still: mean change between words (0 to 1) up to which it
    is. Each is warned of once a run. A word's map counts as dead by the same numbers. Raises: ArgumentError, a number outside [0, 1].
    """

    def __init__(self, flat: float = FLAT, still: float = STILL) -> None:
        for name, value in (("flat", flat), ("still", still)):
            if not 0 <= value <= 1:
                raise ArgumentError(name, f"is a share in [0, 1], not {value}")
        self.flat, self.still = flat, still
        self._found: list[Health] = []
        self._said: Counter[tuple[int, ...]] = Counter()
        self._line = ""
        self._warned: set[str] = set()

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._found = []
        self._said = Counter()

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        best: list[Hypothesis] = [hypotheses[0] for hypotheses in outputs["found"]]
        self._said.update(tuple(hypothesis.words) for hypothesis in best)
        records = [hypothesis.record for hypothesis in best if hypothesis.record is not None]  # there is none where no image got a word
        self._found += [health(record.alphas[:, None], self.flat, self.still) for record in records]

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        found = mean_health(self._found)
        known = {name: value for name, value in found._asdict().items() if not np.isnan(value)}
        pl_module.log_dict({f"val/{name}": value for name, value in known.items()}, batch_size=1, sync_dist=trainer.world_size > 1)
        self._line = f"maps: entropy {found.entropy:.2f}, change {found.change:.2f}, coverage {found.coverage:.2f}, {found.dead:.0%} dead"
        self.warn(found, trainer.current_epoch + 1)
        self.warn_of_one_caption(pl_module.captioner.vocabulary, trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if self._line:
            log.info("%s", self._line)
        self._line = ""

    def warn(self, found: Health, epoch: int) -> None:
        """Say once what is dead. What is flat is still as well, which need not be said."""
        if found.entropy >= self.flat:
            self._once("flat", epoch, f"its maps are flat (entropy {found.entropy:.3f} of a uniform map's), so no word chooses a place")
        elif found.change <= self.still:
            self._once("still", epoch, f"its maps are the same at every word (change {found.change:.3f}), so they explain no word")

    def warn_of_one_caption(self, vocabulary: Vocabulary, epoch: int) -> None:
        """Say where every image has the same caption, of enough images that this is no chance."""
        alike = len(self._said) == 1 and self._said.total() >= ENOUGH
        if alike and "alike" not in self._warned:
            (words,) = self._said
            log.warning(
                "after epoch %d all %s validation captions are the same, %r: the model does not tell images apart; if it stays so, try "
                "more epochs or a lower optimizer.lr, and check that captions belong to their images and that transform.* suits these",
                epoch,
                f"{self._said.total():,}",
                " ".join(vocabulary.decode(words)),
            )
        (self._warned.add if alike else self._warned.discard)("alike")

    def _once(self, name: str, epoch: int, words: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            hint = "more epochs or another optimizer.lr may help; the limit of this warning is callbacks.watch"
            log.warning("attention is dead after epoch %d: %s; %s.%s", epoch, words, hint, name)


def rollout_health(rollout: Rollout) -> dict[str, float]:
    """Entropy, change and peak of the maps of given captions, as `map_entropy` and so on."""
    alphas = rollout.record.alphas.detach().float().cpu().numpy()
    lengths = rollout.mask.sum(-1).cpu().numpy()
    found = mean_health(health(alphas[place][: lengths[place], None]) for place in _places(lengths))
    return {f"map_{name}": value for name in ("entropy", "change", "peak") if not np.isnan(value := getattr(found, name))}


def _places(lengths: np.ndarray) -> Iterable[tuple[int, ...]]:
    """Of the captions that are some."""
    return zip(*np.nonzero(lengths), strict=True)
