"""The end of a run: the best model's final scores, or the last model where nothing was validated."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from captioner import bundle
from captioner.captioning import FAMILIAR, UNFAMILIAR_SHARE
from captioner.json_files import read_json
from captioner.metrics.metric import CorpusScores
from captioner.model import Captioner
from captioner.progress import progress
from captioner.records import map_tensors
from captioner.search.search import Search
from captioner.training.data import CaptioningData
from captioner.training.module import CaptioningModule
from captioner.training.writer import ModelWriter, link_latest, write_results


def finish(
    folder: Path, search: Search | None, data: CaptioningData, module: CaptioningModule, trainer: Trainer, interrupted: bool
) -> dict[str, Any]:
    """The best model's scores by the final search over the whole split; without any validation, the last model and no scores.

    On several devices every process captions its share. Where training was interrupted there, or where there is no final search, the
    scores are those of the best epoch's validation.
    """
    path = folder / "results" / "scores_val.json"
    if interrupted and trainer.world_size > 1:
        return read_json(path, "scores") if path.is_file() else {}
    trainer.strategy.barrier()
    if not path.is_file():
        if trainer.is_global_zero and trainer.current_epoch > 0:  # else the model has not learnt for a whole epoch
            save_last_model(folder, module, trainer)
        return {}
    validated = read_json(path, "scores")
    if search is None:
        return validated
    scores = CorpusScores(data.splits["val"].references)
    batches, limit = data.loader("val", epoch=validated["epoch"] - 1), trainer.limit_val_batches
    count = min(len(batches), limit if isinstance(limit, int) else math.ceil(limit * len(batches)))
    best = Captioner.load(folder / "model", trainer.strategy.root_device)
    log_probs: list[float] = []
    row = score_captions(
        best, progress(itertools.islice(batches, count), f"final scores by {search}", count, "batch"), search, scores, log_probs
    )
    final = {**row, "search": str(search), "epoch": validated["epoch"]}
    if trainer.is_global_zero:
        write_results(folder / "results", scores.captions, final)
        remember_familiar(best, log_probs)
        best.save(folder / "model")
    return final


def remember_familiar(captioner: Captioner, log_probs: Sequence[float]) -> None:
    """Keep in the model how probable captions of images like those of its training are; `log_probs`: `mean_log_prob` of each."""
    if log_probs:
        captioner.config[FAMILIAR] = float(np.quantile(log_probs, UNFAMILIAR_SHARE))


def save_last_model(folder: Path, module: CaptioningModule, trainer: Trainer) -> None:
    bundle.check_finite(module.captioner.state_dict(), "the trained model")
    module.captioner.save(folder / "model")
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelWriter) and callback.latest:
            link_latest(Path(callback.latest), folder)


@torch.no_grad()
def score_captions(
    captioner: Captioner, batches: Any, search: Search, scores: CorpusScores, log_probs: list[float] | None = None
) -> dict[str, Any]:
    """Caption every batch by a search; `scores` then holds the captions, and `log_probs` the mean log p of each."""
    captioner.eval()
    scores.reset()
    for batch in batches:
        images = map_tensors(lambda tensor: tensor.to(captioner.device), batch.images)
        found = captioner.generate(images, search)
        scores.update(scores.ids(batch.indices), [captions[0].text for captions in found])
        if log_probs is not None:
            log_probs += [captions[0].mean_log_prob for captions in found]
    return scores.compute()
