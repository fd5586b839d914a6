"""A composed configuration -> a run: its folder, its data and model, the training, and the final scores."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from captioner.data.captions import CaptionSet
from captioner.errors import BrokenModelError, InputError, one_line
from captioner.metrics.metric import CorpusScores
from captioner.model import Captioner
from captioner.processes import is_first_process
from captioner.processor import set_threads
from captioner.training.configuration import plain
from captioner.training.data import CaptioningData
from captioner.training.finish import finish
from captioner.training.image_checks import check_images
from captioner.training.initial_model import make_captioner
from captioner.training.interruption import ProcessWatcher, watch_processes, what_is_lost
from captioner.training.module import CaptioningModule
from captioner.training.recorded import history
from captioner.training.region_statistics import learn_region_statistics
from captioner.training.run_folder import begin_folder, claim_folder
from captioner.training.run_parts import Parts, build_parts, build_trainer
from captioner.training.splits import cached_features, read_splits
from captioner.training.supervision import training_boxes
from captioner.vocabulary import Vocabulary

log = logging.getLogger(__name__)

IN_WORKER = "Caught InputError in DataLoader worker process"


class Outcome(NamedTuple):
    folder: Path
    scores: dict[str, Any]
    """As in results/scores_val.json; empty where no epoch was validated."""
    interrupted: bool


def train(composed: DictConfig, resume: Path | None = None) -> Outcome:
    """Run a composed configuration to its end, or on from a checkpoint. Raises: InputError, one line that names key or file."""
    with clear_errors():
        parts = build_parts(plain(composed))
        with claim_folder(composed, resume) as folder:
            record: Any = OmegaConf.to_container(composed)
            record["threads"] = set_threads(parts.threads)
            seed_everything(parts.seed, verbose=False)
            trainer = build_trainer(plain(composed))  # the folder may have another name now
            with parts.source.in_use():
                return train_in(folder, parts, record, trainer, resume)


def train_in(folder: Path, parts: Parts, record: dict[str, Any], trainer: Trainer, resume: Path | None) -> Outcome:
    """`record` is the configuration as checkpoints and config.yaml have it, its interpolations unresolved."""
    splits = read_splits(parts)
    captioner = make_captioner(parts, splits["train"], resume)
    check_images(captioner, parts.model["encoder"], parts.init)
    module = make_module(parts, captioner, splits["val"], record)
    log.info("%s", summary(splits, captioner))
    data = make_data(parts, splits, captioner)
    if is_first_process():
        before = "" if resume is None else history(resume, record)
        begin_folder(folder, before + OmegaConf.to_yaml(record), resume)
    watcher = ProcessWatcher(folder, resume, trainer.max_epochs or 0)
    with watch_processes(trainer, watcher):
        interrupted = fit(trainer, module, data, watcher)
        return Outcome(folder, finish(folder, parts.final_search, data, module, trainer, interrupted), interrupted)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the errors of Lightning, of a missing package, of a worker process and of a full memory into one line for the user."""
    try:
        yield
    except InputError as error:
        if not str(error).startswith(IN_WORKER):
            raise
        raise InputError(str(error).rpartition(f"{InputError.__module__}.InputError: ")[2].strip()) from error  # without its traceback
    except (MisconfigurationException, ModuleNotFoundError) as error:
        extra = next((name for name in ("tensorboard", "wandb") if name in str(error).lower()), None)
        needs = f'logger={extra} needs an extra that is not installed: pip install "captioner[{extra}]"'
        raise InputError(needs if extra and isinstance(error, ModuleNotFoundError) else one_line(error)) from error
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the GPU's memory is too small for this: lower data.batch_size (and raise trainer.accumulate_grad_batches)"
        ) from error


def summary(splits: Mapping[str, CaptionSet], captioner: Captioner) -> str:
    images = ", ".join(f"{len(captions):,} {split} images" for split, captions in splits.items())
    learning = sum(parameter.numel() for parameter in captioner.parameters() if parameter.requires_grad)
    frozen = sum(parameter.numel() for parameter in captioner.parameters()) - learning
    return f"{images}; {len(captioner.vocabulary):,} words; {learning:,} parameters to learn" + (f", {frozen:,} frozen" if frozen else "")


def make_data(parts: Parts, splits: Mapping[str, CaptionSet], captioner: Captioner) -> CaptioningData:
    """Loaders over the splits, of cached regions where the run has them, with boxes of words where the objective needs them."""
    boxes = None
    if parts.objective.needs_boxes:
        boxes = training_boxes(parts.source, splits["train"], captioner.transform, parts.max_words)
    if parts.objective.needs_references:
        parts.objective.prepare(word_ids(splits["train"], captioner.vocabulary))
    features = cached_features(parts, splits, captioner)
    learn_region_statistics(captioner, splits, features)
    prepared = {"validation_images": parts.validation_images, "boxes": boxes, "seed": parts.seed, "features_until": parts.features_until}
    data: CaptioningData = parts.make_data(splits, captioner.vocabulary, captioner.transform, features, **prepared)
    return data


def word_ids(captions: CaptionSet, vocabulary: Vocabulary) -> list[list[list[int]]]:
    """The captions of each image, as word ids that end with `<end>`."""
    tokens = list(captions.tokens())
    first = captions.first.tolist()
    return [[vocabulary.encode(words)[1:] for words in tokens[start:stop]] for start, stop in pairwise(first)]


def make_module(parts: Parts, captioner: Captioner, validation: CaptionSet, record: dict[str, Any]) -> CaptioningModule:
    if parts.validation_images is not None:
        validation = validation.select(range(min(parts.validation_images, len(validation))))
    scores = CorpusScores(validation.references)
    makers = parts.make_optimizer, parts.make_scheduler
    return CaptioningModule(captioner, parts.objective, parts.validation_search, scores, *makers, record)


def fit(trainer: Trainer, module: CaptioningModule, data: CaptioningData, watcher: ProcessWatcher) -> bool:
    """Train; true where the user ended it early. Raises: InputError, with the key of the part that refused."""
    trainer.callbacks.append(watcher)  # type: ignore[attr-defined]
    interrupted = False
    resume = None if watcher.resume is None else str(watcher.resume)
    try:
        with clear_errors():
            trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    except BrokenModelError:
        lower = "lower optimizer.lr, or set trainer.precision=32-true"
        raise InputError(f"the weights overflowed by step {trainer.global_step} (no word has a probability): {lower}") from None
    except (KeyboardInterrupt, SystemExit):
        interrupted = bool(trainer.interrupted)
        if not interrupted:
            raise
    except RuntimeError as error:
        interrupted = watcher.signalled_at is not None and (watcher.is_of_lost_peer(error) or "DataLoader worker" in str(error))
        if not interrupted:
            raise
    watcher.accept_signals()
    if interrupted:
        watcher.kill_children()
        log.warning("%s", what_is_lost(watcher.folder, watcher.resume, watcher.epochs))
    elif trainer.current_epoch < watcher.epochs:
        log.info("ended after epoch %d of %d: early stopping or max_time", trainer.current_epoch, watcher.epochs)
    return interrupted
