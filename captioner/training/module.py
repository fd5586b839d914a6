"""The Lightning module: it connects a captioner, an objective, a search and a scorer."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from captioner.captioning import DrawableCaption
from captioner.metrics.metric import CorpusScores
from captioner.model import Captioner
from captioner.objectives.objective import Objective
from captioner.records import AccumulationShares, Batch
from captioner.search.hypotheses import SearchResult
from captioner.training.map_health import rollout_health


class CaptioningModule(LightningModule):
    """Trains by an objective, and validates by free search.

    make_optimizer: captioner -> optimizer.
    make_scheduler: (optimizer, epoch_steps) -> scheduler, which is stepped after every optimizer
        step.
    configuration: of the run; it is stored in every checkpoint as a JSON string.
    """

    def __init__(
        self,
        captioner: Captioner,
        objective: Objective,
        search: Callable[..., SearchResult],
        scores: CorpusScores,
        make_optimizer: Callable[..., Optimizer],
        make_scheduler: Callable[..., LRScheduler],
        configuration: dict[str, Any],
    ) -> None:
        super().__init__()
        self.captioner = captioner
        self.objective = objective
        self.search = search
        self.scores = scores
        self.make_optimizer, self.make_scheduler = make_optimizer, make_scheduler
        self.configuration = configuration

    def on_fit_start(self) -> None:
        """A loaded model is in evaluation mode, which Lightning would keep."""
        self.train()

    def training_step(self, batch: Batch, _: int) -> dict[str, Float[Tensor, ""]]:
        """`mean`: the batch's loss. `loss`: the same, or its part of the loss of its group."""
        collected = self.objective.collect(self.captioner, batch)
        images = len(batch.indices)
        if self.is_logging_step():
            statistics: dict[str, Any] = {**self.objective.statistics(collected), **rollout_health(collected.rollout)}
            self.log_dict({f"train/{name}": value for name, value in statistics.items()}, batch_size=images)
        terms = self.objective.losses(collected)
        loss = torch.stack(list(terms.values())).sum()
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=images)
        self.log("train/loss", loss, prog_bar=True, batch_size=images)
        return {"loss": self.group_loss(terms, batch.accumulation_shares, loss), "mean": loss.detach()}

    def group_loss(
        self, terms: Mapping[str, Float[Tensor, ""]], shares: AccumulationShares | None, loss: Float[Tensor, ""]
    ) -> Float[Tensor, ""]:
        """Of the loss of the batch's group, the part of the batch, times what Lightning divides
        by."""
        return loss if shares is None else self.objective.accumulated_loss(terms, shares) * self.trainer.accumulate_grad_batches

    def is_logging_step(self) -> bool:
        """Whether this step is logged; statistics that cost time are computed only then."""
        every = getattr(self.trainer, "log_every_n_steps", 0)
        return every > 0 and (self.global_step + 1) % every == 0

    def on_validation_epoch_start(self) -> None:
        self.scores.reset()

    def validation_step(self, batch: Batch, _: int) -> dict[str, list[DrawableCaption]]:
        captions = [best for best, *_ in self.captioner.generate(batch.images, self.search)]
        self.scores.update(self.scores.ids(batch.indices), [caption.text for caption in captions])
        return {"captions": captions}

    def on_validation_epoch_end(self) -> None:
        scores = {f"val/{name}": float(value) for name, value in self.scores.compute().items() if name != "images"}
        self.log_dict(scores, batch_size=1, rank_zero_only=False, sync_dist=False)

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.captioner)
        scheduler = self.make_scheduler(optimizer, epoch_steps=self.epoch_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def epoch_steps(self) -> int:
        """Per epoch. Lightning's estimate would start the workers before a resumed run has its
        epoch."""
        trainer: Any = self.trainer
        batches, limit = trainer.datamodule.train_batches(), trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        return max(1, math.ceil(batches / trainer.accumulate_grad_batches))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `Captioner.load` and `resume=` need, as JSON strings: only plain values and
        tensors are pickled."""
        record = {"config": self.captioner.config, "vocabulary": self.captioner.vocabulary.to_json()}
        checkpoint["captioner"] = {name: json.dumps(value) for name, value in record.items()}
        checkpoint["configuration"] = json.dumps(self.configuration)
