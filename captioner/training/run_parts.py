"""A run's configuration -> the parts of the run, each built and checked once, before any data are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar

from captioner.build import Maker, build
from captioner.data.source import DataSource
from captioner.decoders.decoder import Decoder
from captioner.errors import InputError, one_line
from captioner.objectives.objective import Objective
from captioner.records import Regions
from captioner.search.search import Search
from captioner.training.checkpoint_io import WholeCheckpoints
from captioner.training.data import CaptioningData
from captioner.training.image_checks import TRAINED_ON
from captioner.training.resuming import ResumeOverrides
from captioner.training.run_folder import check_places
from captioner.training.supervision import check_boxes
from captioner.training.value_checks import check_values
from captioner.training.weight_averaging import WeightAverage

LOADING = ("batch_size", "evaluation_batch_size", "captions_per_image", "max_words", "num_workers", "hold_in_memory")
"""Keys of `data` that are arguments of `CaptioningData`."""
PREPARING = ("minimum_count", "cache_features", "cache_folder", "limit")
"""Keys of `data` that are about the splits and the vocabulary; all others are of the data set itself."""
MODEL = ("encoder", "decoder", "transform", "search")
"""Sections that the trained model is built of, and keeps."""
NOT_FROZEN = "data.cache_features: only a frozen encoder's regions can be kept (encoder.frozen=true)"


class Parts(NamedTuple):
    """Everything that a run is made of, but for its trainer, which needs the run's folder."""

    source: DataSource
    model: Mapping[str, Any]
    """The configuration of the captioner, as `Captioner.from_config` takes it."""
    init: str | None
    minimum_count: int
    limit: int | None
    """So many images of each split; None, all."""
    missing: str | None
    """What happens where an image is missing or damaged; None, as the data set has it."""
    validation_split: str
    validation_images: int | None
    feature_folder: Path | None
    """Of cached regions; None where none are cached."""
    features_until: int | None
    """The epoch from which on the encoder learns, so that images are read again; None, it never does."""
    max_words: int | None
    make_data: Maker
    objective: Objective
    validation_search: Search
    final_search: Search | None
    """None where the best epoch's validation has searched in the same way, over the same images."""
    make_optimizer: Maker
    make_scheduler: Maker
    seed: int
    threads: int | None


def build_parts(config: Mapping[str, Any]) -> Parts:
    """Raises: InputError, begins with the key of the value at fault."""
    check_values(config)
    check_places(config)
    data, validation, source = config["data"], config["validation"], build_source(config)
    build(config["transform"], "transform")  # refuses bad values
    check_sizes(build(config["decoder"], "decoder", vocabulary_size=4), config)
    objective = build(config["objective"], "objective")
    if objective.needs_boxes:
        check_boxes(source)
    final_search, validation_search = build(config["search"], "search"), build(validation["search"], "validation.search")
    same_search = config["search"] == validation["search"] and validation["images"] is None
    make_optimizer, make_scheduler = build(config["optimizer"], "optimizer"), build(config["scheduler"], "scheduler")
    make_scheduler(make_optimizer(torch.nn.ModuleDict({"encoder": torch.nn.Linear(1, 1)})), epoch_steps=1)  # refuses bad values
    return Parts(
        source=source,
        model={**{name: config[name] for name in MODEL}, TRAINED_ON: source.pictures},
        init=config["init"],
        minimum_count=data["minimum_count"],
        limit=data["limit"],
        missing=data.get("missing"),
        validation_split=validation["split"],
        validation_images=validation["images"],
        feature_folder=Path(data["cache_folder"]) if data["cache_features"] and reading_epoch(config) != 0 else None,
        features_until=reading_epoch(config),
        max_words=data["max_words"],
        make_data=Maker(CaptioningData, {key: data[key] for key in LOADING}, "data"),
        objective=objective,
        validation_search=validation_search,
        final_search=None if same_search else final_search,
        make_optimizer=make_optimizer,
        make_scheduler=make_scheduler,
        seed=config["seed"],
        threads=config.get("threads"),
    )


def build_source(config: Mapping[str, Any]) -> DataSource:
    """The data set of a run, which reads nothing yet."""
    source: DataSource = build({key: value for key, value in config["data"].items() if key not in (*LOADING, *PREPARING)}, "data")
    return source


def check_sizes(decoder: Decoder, config: Mapping[str, Any]) -> None:
    """Take one step on one image. Raises: InputError, the decoder's layers do not fit each other or the encoder."""
    features = config["encoder"]["features"]
    cells = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    try:
        with torch.no_grad():
            memory, state = decoder.start(Regions(torch.zeros(1, len(cells), features), cells))
            decoder.step(memory, state, torch.zeros(1, 1, dtype=torch.long))
    except (RuntimeError, TypeError) as error:
        hint = "; init= keeps the trained model's sizes" if config["init"] else ""
        reason = one_line(error, 160)
        raise InputError(f"decoder: its sizes do not fit each other, or encoder.features={features} ({reason}){hint}") from error


def build_trainer(config: Mapping[str, Any]) -> Trainer:
    """With callbacks and loggers, which write into the run's folder. Raises: InputError, begins with the key of the value at fault."""
    callbacks = [*build_each(config, "callbacks"), ResumeOverrides()]
    callbacks.sort(key=lambda callback: isinstance(callback, WeightAverage))  # last: it takes the average out again, which the others need
    trainer: Trainer = build(
        config["trainer"],
        "trainer",
        precision=precision(config["trainer"]["precision"], config["trainer"]["accelerator"]),
        logger=build_each(config, "logger"),
        callbacks=callbacks,
        default_root_dir=config["run_folder"],
        enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in callbacks),
        plugins=[WholeCheckpoints()],
        reload_dataloaders_every_n_epochs=reading_epoch(config) or 0,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    return trainer


def reading_epoch(config: Mapping[str, Any]) -> int | None:
    """The epoch from which on images are read in the place of cached regions, since the encoder learns; None, never."""
    fine_tune = config["callbacks"].get("fine_tune") or {}
    epoch: int | None = fine_tune.get("epoch")
    return epoch if config["data"]["cache_features"] else None


def build_each(config: Mapping[str, Any], group: str) -> list[Any]:
    """The objects of a group's sections, without those that are null."""
    return [build(section, f"{group}.{name}") for name, section in (config[group] or {}).items() if section is not None]


def precision(setting: Any, accelerator: str) -> Any:
    """`auto`: bfloat16 where the GPU or the processor multiplies in it, else half floats on a GPU and float32 on a processor."""
    if setting != "auto":
        return setting
    if accelerator not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return "bf16-mixed" if has_bfloat16() else "32-true"
    torch.set_float32_matmul_precision("high")
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware: about twice as fast in the trunk (conf/encoder/small.yaml, measured)."""
    abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
