"""A configuration of plain values -> a trained captioner and the files of its run."""

import contextlib
import hashlib
import itertools
import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from captioner import bundle
from captioner.build import build
from captioner.data.cache import FeatureStore, contents_hash, fingerprint, open_or_build, weights_hash
from captioner.data.captions import CaptionSet
from captioner.data.image_check import readable_images
from captioner.data.source import DataSource
from captioner.decoders.decoder import Decoder
from captioner.encoders.encoder import backbone_config, portable_config
from captioner.errors import ArgumentError, BrokenModelError, InputError
from captioner.json_files import read_json
from captioner.metrics.metric import CorpusScores
from captioner.model import Captioner
from captioner.processes import is_first_process
from captioner.processor import set_threads
from captioner.progress import progress
from captioner.records import Regions
from captioner.saved_models import read_model_of_checkpoint
from captioner.training.checkpoint_io import WholeCheckpoints
from captioner.training.checks import check_values
from captioner.training.configuration import plain
from captioner.training.data import CaptioningData
from captioner.training.ending import Ending, ended, lost
from captioner.training.folder import begin_folder, check_places, claimed
from captioner.training.images import TRAINED_ON, check_images, warn_of_other_pictures
from captioner.training.module import CaptioningModule
from captioner.training.recorded import history
from captioner.training.resuming import ResumeOverrides
from captioner.training.supervision import check_boxes, training_boxes
from captioner.training.transfer import carry_over, same_base
from captioner.training.weight_averaging import WeightAverage
from captioner.training.writer import link_latest, rescore, write_results
from captioner.vocabulary import Vocabulary, count_tokens

log = logging.getLogger(__name__)

LOADING = ("batch_size", "evaluation_batch_size", "captions_per_image", "max_words", "num_workers", "hold_in_memory")
PREPARING = ("minimum_count", "cache_features", "cache_folder", "limit")
PARTS = ("encoder", "decoder", "transform", "search")
"""What of a run's configuration the trained model keeps."""
MANY_UNKNOWN = 0.2
"""From this share of `<unk>` among the training captions' words on, training begins with a warning."""
IN_WORKER = "Caught InputError in DataLoader worker process"


class Outcome(NamedTuple):
    folder: Path
    scores: dict[str, Any]
    """As in results/scores_val.json; empty where no epoch was validated."""
    interrupted: bool


def train(composed: DictConfig, resume: Path | None = None) -> Outcome:
    """Run a composed configuration to its end, or on from a checkpoint. Raises: InputError, one line that names key or file."""
    config = plain(composed)
    with clear_errors():
        try_out(config)
    with clear_errors(), claimed(composed, resume) as folder:
        config = plain(composed)  # the folder may have another name now
        recorded = {**plain_values(composed), "threads": set_threads(config.get("threads"))}
        seed_everything(config["seed"], verbose=False)
        trainer = make_trainer(config)
        with make_source(config).in_use():
            return train_in(folder, config, recorded, trainer, resume)


def train_in(folder: Path, config: Mapping[str, Any], recorded: dict[str, Any], trainer: Trainer, resume: Path | None) -> Outcome:
    splits = read_splits(config)
    captioner = make_captioner(config, splits["train"], resume)
    check_images(captioner, config)
    module = make_module(config, captioner, splits["val"], recorded)
    log.info("%s", summary(splits, captioner))
    data = make_data(config, splits, captioner, module.objective.needs_boxes)
    if is_first_process():
        before = "" if resume is None else history(resume, recorded)
        begin_folder(folder, before + OmegaConf.to_yaml(recorded), resume)
    ending = Ending(folder, resume, config["trainer"]["max_epochs"])
    with ended(trainer, ending):
        interrupted = fit(trainer, module, data, config, resume, ending)
        return Outcome(folder, finish(folder, config, data, module, trainer, interrupted), interrupted)


def plain_values(composed: DictConfig) -> dict[str, Any]:
    """The configuration as it is recorded, its interpolations kept."""
    recorded = OmegaConf.to_container(composed)
    assert isinstance(recorded, dict)
    return {str(key): value for key, value in recorded.items()}


def try_out(config: Mapping[str, Any]) -> None:
    """Build what is quickly built, so that a bad value ends the run before data are read or drawn."""
    check_values(config)
    check_places(config)
    transform = built(config, "transform")
    check_fit(built(config, "decoder", vocabulary_size=4), config)
    if built(config, "objective").needs_boxes:
        check_boxes(make_source(config), transform)
    built(config, "search")
    built(config, "validation.search")
    optimizer = built(config, "optimizer")(torch.nn.ModuleDict({"encoder": torch.nn.Linear(1, 1)}))
    built(config, "scheduler")(optimizer, epoch_steps=1)


def check_fit(decoder: Decoder, config: Mapping[str, Any]) -> None:
    """Say one word of one image. Raises: InputError, the decoder's layers do not fit each other or the encoder."""
    features = config["encoder"]["features"]
    cells = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    try:
        with torch.no_grad():
            memory, state = decoder.start(Regions(torch.zeros(1, len(cells), features), cells))
            decoder.step(memory, state, torch.zeros(1, 1, dtype=torch.long))
    except (RuntimeError, TypeError) as error:
        hint = "; init= keeps the trained model's sizes" if config["init"] else ""
        told = _told(error)[:160]
        raise InputError(f"decoder: its sizes do not fit each other, or encoder.features={features} ({told}){hint}") from error


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """What Lightning, a missing package, a worker process or a full memory makes of a configuration is one line for the user."""
    try:
        yield
    except BrokenModelError:
        raise
    except InputError as error:
        raise InputError(own_words(error)) from error
    except (MisconfigurationException, ModuleNotFoundError) as error:
        raise InputError(_told(error)) from error
    except torch.OutOfMemoryError as error:
        raise InputError(
            "the GPU's memory is too small for this: lower data.batch_size (and raise trainer.accumulate_grad_batches)"
        ) from error


def own_words(error: InputError) -> str:
    """A complaint without the traceback that a worker process wraps it in."""
    told = str(error)
    return told.rpartition(f"{InputError.__module__}.InputError: ")[2].strip() if told.startswith(IN_WORKER) else told


def _told(error: BaseException) -> str:
    missing = "tensorboard" if "tensorboard" in str(error).lower() else "wandb" if "wandb" in str(error).lower() else ""
    if isinstance(error, ModuleNotFoundError) and missing:
        return f'logger={missing} needs an extra that is not installed: pip install "captioner[{missing}]"'
    return " ".join(str(error).split())


def built(config: Mapping[str, Any], key: str, **late: Any) -> Any:
    """Build the section at a dotted key. Raises: InputError, with the key of the value at fault."""
    section: Any = config
    for name in key.split("."):
        section = section[name]
    return build(section, key, **late)


def make_each(config: Mapping[str, Any], group: str) -> list[Any]:
    """What each section of a group describes; those that are null are left out."""
    return [built(config, f"{group}.{name}") for name, section in (config[group] or {}).items() if section is not None]


def make_source(config: Mapping[str, Any]) -> DataSource:
    """The data set of a run. Raises: InputError, the section describes none."""
    section = {key: value for key, value in config["data"].items() if key not in (*LOADING, *PREPARING)}
    source = build(section, "data")
    if not isinstance(source, DataSource):
        raise InputError(f"data._target_: {section.get('_target_')} is no data set")
    return source


def read_splits(config: Mapping[str, Any]) -> dict[str, CaptionSet]:
    """`train` and `val` as the run uses them, every image looked at. Raises: InputError, no such split, or an image cannot be read."""
    splits = make_source(config).splits()
    validation = config["validation"]
    for split in ("train", validation["split"]):
        if split not in splits:
            raise InputError(f"data has no split {split!r}, only {', '.join(splits) or 'none'}; training needs train and validation.split")
    for name in sorted(splits.keys() - {"train", validation["split"]}):
        log.info("%s", set_aside(name, splits[name]))
    limit, missing = config["data"]["limit"], config["data"].get("missing")
    taken = {"train": splits["train"], "val": splits[validation["split"]]}
    taken = {name: captions.select(range(min(limit, len(captions)))) if limit else captions for name, captions in taken.items()}
    return {name: readable_images(captions, name, missing) for name, captions in taken.items()}


def set_aside(split: str, captions: CaptionSet, shown: int = 3) -> str:
    """What is said of a split that the run does not use: how many images, and the names of the first few."""
    names = ", ".join(captions.path(index).name for index in range(min(shown, len(captions))))
    more = f" and {len(captions) - shown:,} more" if len(captions) > shown else ""
    return f"{len(captions):,} images of the split {split} are set aside, neither trained nor validated on: {names}{more}"


def make_captioner(config: Mapping[str, Any], captions: CaptionSet, resume: Path | None) -> Captioner:
    """From nothing, from `init` or from a checkpoint."""
    pictures = make_source(config).pictures
    parts = {**{part: config[part] for part in PARTS}, TRAINED_ON: pictures}
    if resume is not None:
        _, _, words, tensors = read_model_of_checkpoint(resume)
        captioner = Captioner.from_config(without_weights(parts), Vocabulary.from_json(words))
        bundle.load_state(captioner, tensors, resume)
        return captioner
    minimum_count, counts = config["data"]["minimum_count"], count_tokens(captions.tokens())
    if config["init"] is None:
        vocabulary = Vocabulary.count(counts, minimum_count)
        warn_of_unknown(vocabulary, counts, minimum_count)
        return Captioner.from_config(parts, vocabulary)
    before = Captioner.load(config["init"], "cpu")
    warn_of_other_pictures(before.config, pictures, config["init"])
    vocabulary = before.vocabulary.extended(counts, minimum_count)
    warn_of_unknown(vocabulary, counts, minimum_count)
    captioner = Captioner.from_config(without_weights(parts) if same_base(before.config, parts) else parts, vocabulary)
    for line in carry_over(before, captioner, captions).lines():
        log.info("init=%s: %s", config["init"], line)
    return captioner


def warn_of_unknown(vocabulary: Vocabulary, counts: Counter[str], minimum_count: int) -> None:
    """A line where a fifth or more of what the training captions say is lost."""
    lost = vocabulary.unknown_share(counts)
    if lost >= MANY_UNKNOWN:
        log.warning(
            "data.minimum_count=%d leaves %s words: %.0f %% of what the training captions say becomes <unk>; data.minimum_count=1 keeps "
            "every word (a word is what stands between spaces)",
            *(minimum_count, f"{len(vocabulary) - 4:,}", 100 * lost),
        )


def without_weights(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The same parts without the trunk's first weights: others will be filled in."""
    return {**parts, "encoder": portable_config(parts["encoder"])}


def summary(splits: Mapping[str, CaptionSet], captioner: Captioner) -> str:
    images = ", ".join(f"{len(captions):,} {split} images" for split, captions in splits.items())
    learning = sum(parameter.numel() for parameter in captioner.parameters() if parameter.requires_grad)
    held = sum(parameter.numel() for parameter in captioner.parameters()) - learning
    return f"{images}; {len(captioner.vocabulary):,} words; {learning:,} parameters to learn" + (f", {held:,} held" if held else "")


def make_data(
    config: Mapping[str, Any], splits: Mapping[str, CaptionSet], captioner: Captioner, needs_boxes: bool = False
) -> CaptioningData:
    """Loaders over the splits, of cached regions where wanted, with boxes of words where the objective needs them."""
    section = config["data"]
    boxes = None
    if needs_boxes:
        boxes = training_boxes(make_source(config), splits["train"], captioner.transform, section["max_words"])
    features = cached_features(config, splits, captioner) if section["cache_features"] else {}
    loading = {key: section[key] for key in LOADING}
    try:
        return CaptioningData(
            splits,
            captioner.vocabulary,
            captioner.transform,
            features,
            seed=config["seed"],
            validation_images=config["validation"]["images"],
            boxes=boxes,
            **loading,
        )
    except ArgumentError as error:
        raise InputError(f"data.{error.name}: {error}") from None


def cached_features(config: Mapping[str, Any], splits: Mapping[str, CaptionSet], captioner: Captioner) -> dict[str, FeatureStore]:
    """Each split's regions, from disk or computed now. Raises: InputError, the encoder learns."""
    if not captioner.encoder.backbone.frozen or (config["callbacks"].get("fine_tune") or {}).get("epoch") is not None:
        raise InputError(
            "data.cache_features: only a frozen encoder's regions can be kept (encoder.frozen=true callbacks.fine_tune.epoch=null)"
        )
    transform, device = captioner.transform, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = captioner.encoder.backbone.to(device).eval()
    described = {key: value for key, value in backbone_config(config["encoder"]).items() if key not in ("weights", "images")}
    weights = weights_hash(encoder.state_dict())
    stores = {}
    for split, captions in splits.items():
        views = 2 if split == "train" and transform.augment and transform.flip > 0 else 1
        files = contents_hash(captions)
        facts = fingerprint(captions, transform, described, weights, views, files)
        folder = Path(config["data"]["cache_folder"]) / hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        log.info("regions of the %s images, known by the contents of their files: %s", split, folder)
        made_by = described, weights, views
        stores[split] = open_or_build(folder, captions, transform, lambda pixels: encoder(pixels.to(device)), *made_by, files=files)
    encoder.cpu()
    return stores


def make_module(config: Mapping[str, Any], captioner: Captioner, validation: CaptionSet, recorded: Any) -> CaptioningModule:
    watched = config["validation"]["images"]
    if watched is not None:
        validation = validation.select(range(min(watched, len(validation))))
    return CaptioningModule(
        captioner,
        built(config, "objective"),
        built(config, "validation.search"),
        CorpusScores(validation.references),
        built(config, "optimizer"),
        built(config, "scheduler"),
        recorded,
    )


def make_trainer(config: Mapping[str, Any]) -> Trainer:
    callbacks = [*make_each(config, "callbacks"), ResumeOverrides()]
    callbacks.sort(key=lambda callback: isinstance(callback, WeightAverage))  # it takes the average away again: after all that look at it
    return built(
        config,
        "trainer",
        precision=precision(config["trainer"]["precision"], config["trainer"]["accelerator"]),
        logger=make_each(config, "logger"),
        callbacks=callbacks,
        default_root_dir=config["run_folder"],
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        plugins=[WholeCheckpoints()],
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def precision(wanted: Any, accelerator: str) -> Any:
    """`auto`: bfloat16 where the GPU or the processor multiplies in it, else half floats on a GPU and float32 on a processor."""
    if wanted != "auto":
        return wanted
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return "bf16-mixed" if has_bfloat16() else "32-true"
    torch.set_float32_matmul_precision("high")
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware: about twice as fast in the trunk (conf/encoder/small.yaml, measured)."""
    abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def fit(
    trainer: Trainer, module: CaptioningModule, data: CaptioningData, config: Mapping[str, Any], resume: Path | None, ending: Ending
) -> bool:
    """Train; true where the user ended it early. Raises: InputError, with the key of the part that refused."""
    trainer.callbacks.append(ending)  # type: ignore[attr-defined]
    interrupted = False
    try:
        with clear_errors():
            trainer.fit(module, datamodule=data, ckpt_path=None if resume is None else str(resume), weights_only=True)
    except BrokenModelError:
        lower = "lower optimizer.lr, or set trainer.precision=32-true"
        raise InputError(f"the weights overflowed by step {trainer.global_step} (nothing they say has a probability): {lower}") from None
    except (KeyboardInterrupt, SystemExit):
        interrupted = bool(trainer.interrupted)
        if not interrupted:
            raise
    except RuntimeError as error:
        interrupted = ending.asked is not None and (ending.lonely(error) or "DataLoader worker" in str(error))
        if not interrupted:
            raise
    ending.end()
    if interrupted:
        ending.kill_children()
        log.warning("%s", lost(ending.folder, resume, ending.epochs))
    elif trainer.current_epoch < config["trainer"]["max_epochs"]:
        log.info("ended after epoch %d of %d: early stopping or max_time", trainer.current_epoch, config["trainer"]["max_epochs"])
    return interrupted


def finish(
    folder: Path, config: Mapping[str, Any], data: CaptioningData, module: CaptioningModule, trainer: Trainer, interrupted: bool
) -> dict[str, Any]:
    """The best model's scores by the final search over the whole split; without any validation, the last model and no scores.

    On several devices every process captions its share; interrupted, they keep the scores of the best epoch's validation.
    """
    path = folder / "results" / "scores_val.json"
    if interrupted and trainer.world_size > 1:
        return read_json(path, "scores") if path.is_file() else {}
    trainer.strategy.barrier()
    if not path.is_file():
        if trainer.is_global_zero and trainer.current_epoch > 0:  # else the model has not learnt for a whole epoch
            bundle.check_finite(module.captioner.state_dict(), "the trained model")
            module.captioner.save(folder / "model")
            latest = (config["callbacks"].get("writer") or {}).get("latest")
            if latest:
                link_latest(Path(latest), folder)
        return {}
    found = read_json(path, "scores")
    if config["search"] == config["validation"]["search"] and config["validation"]["images"] is None:
        return found
    search = built(config, "search")
    scores = CorpusScores(data.splits["val"].references)
    batches, limit = data.loader("val"), trainer.limit_val_batches
    wanted = min(len(batches), limit if isinstance(limit, int) else math.ceil(limit * len(batches)))
    shown = progress(itertools.islice(batches, wanted), f"final scores by {search}", wanted, "batch")
    row = rescore(Captioner.load(folder / "model", trainer.strategy.root_device), shown, search, scores)
    found = {**row, "search": str(search), "epoch": found["epoch"]}
    if trainer.is_global_zero:
        write_results(folder / "results", scores.captions, found)
    return found
