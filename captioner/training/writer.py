"""What a run leaves behind: the model folder, generated captions and their scores, and the link to the newest run."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from captioner.atomic_files import atomic_link, folder_or_backup, write_atomically
from captioner.json_files import write_json

log = logging.getLogger(__name__)


class ModelWriter(Callback):
    """After a validation that beats all before: `model/`, `results/` in `folder`, and `latest` beside the runs."""

    def __init__(self, folder: str, latest: str | None = None, monitor: str = "val/CIDEr") -> None:
        self.folder, self.latest, self.monitor = Path(folder), latest, monitor
        self.best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The score to beat, if its model came along."""
        if folder_or_backup(self.folder / "model").is_dir():
            self.best = state_dict["best"]

    def reset_best(self) -> None:
        """The next validation's model is the best."""
        self.best = None

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero or self.monitor not in trainer.callback_metrics:
            return
        score = float(trainer.callback_metrics[self.monitor])
        if self.best is not None and not score > self.best:
            return
        self.best = score
        row = {name.removeprefix("val/"): float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
        scores = {**row, "images": len(pl_module.scores.captions), "epoch": trainer.current_epoch + 1}
        pl_module.captioner.save(self.folder / "model")
        write_results(self.folder / "results", pl_module.scores.captions, {**scores, "search": str(pl_module.search)})
        if self.latest:
            link_latest(Path(self.latest), self.folder)


def write_results(folder: Path, captions: Mapping[Any, str], scores: Mapping[str, Any], split: str = "val") -> None:
    """Captions in the COCO results format, and their scores as fractions and the search that found the captions."""
    results = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
    write_atomically(folder / f"captions_{split}.json", json.dumps(results, ensure_ascii=False, indent=0) + "\n")
    write_json(folder / f"scores_{split}.json", dict(scores))


def link_latest(link: Path, folder: Path) -> None:
    """Point `link` at a run, atomically; warn where links cannot be made, or where a real folder is in the way."""
    if link.exists() and not link.is_symlink():
        log.warning("%s is no link, so it does not lead to the newest run; move it away", link)
        return
    try:
        atomic_link(link, os.path.relpath(folder.resolve(), link.parent.resolve()))
    except OSError as error:
        log.warning("%s could not be made to lead to %s (%s)", link, folder, error)
