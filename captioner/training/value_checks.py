"""Values that Lightning and others accept at first and fail by much later: refused at the start, by their keys."""

import re
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from captioner.errors import InputError
from captioner.maps.health import Health
from captioner.training.configuration import near

COUNTS = {
    "seed": 0,
    "trainer.max_epochs": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "data.batch_size": 1,
    "data.minimum_count": 1,
}
NULLABLE_COUNTS = {
    "threads": 1,
    "data.evaluation_batch_size": 1,
    "data.captions_per_image": 1,
    "data.max_words": 1,
    "data.num_workers": 0,
    "data.limit": 1,
    "validation.images": 1,
}
"""Dotted keys of whole numbers, and their least values. NULLABLE_COUNTS may be null."""
PRECISIONS = ("auto", "32-true", "32", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "64", "bf16", "16")
SCORES = tuple(f"val/{name}" for name in ("CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"))
MAPS = tuple(f"val/{name}" for name in Health._fields)
LOSS = "train/loss"


def check_values(config: Mapping[str, Any]) -> None:
    """Raises: InputError, names the key, what it accepts, and the value."""
    try:
        check_counts(config)
        check_trainer(config["trainer"])
        check_monitors(config["callbacks"])
    except KeyError as error:  # a recorded configuration that was edited
        raise InputError(f"{error.args[0]}: the configuration has no such key; put it back, or begin a new run") from None


def check_counts(config: Mapping[str, Any]) -> None:
    """Raises: InputError, a count is no whole number, or too small."""
    for key, least in {**COUNTS, **NULLABLE_COUNTS}.items():
        section, _, name = key.rpartition(".")
        value = (config[section] if section else config).get(name)
        if value is None and key in NULLABLE_COUNTS:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(f"{key}: a whole number and at least {least}, not {value}")
    if config["seed"] >= 2**32:
        raise InputError(f"seed: a whole number below 4294967296, not {config['seed']}")


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Raises: InputError, a value that Lightning's trainer has no meaning for."""
    clip, every, epochs = trainer["gradient_clip_val"], trainer["check_val_every_n_epoch"], trainer["max_epochs"]
    if clip is not None and not (is_number(clip) and clip >= 0):
        raise InputError(f"trainer.gradient_clip_val: the greatest norm of the gradient, a number not below 0, or null; not {clip}")
    for name, least in (("limit_train_batches", "above 0"), ("limit_val_batches", "0 or more")):
        check_limit(name, trainer[name], least)
    if every > epochs and trainer["limit_val_batches"] != 0:
        hint = "give a smaller one, or trainer.limit_val_batches=0 for no validation"
        raise InputError(f"trainer.check_val_every_n_epoch: {every} is more than trainer.max_epochs={epochs}, so none is validated; {hint}")
    check_word("trainer.precision", str(trainer["precision"]), PRECISIONS)
    check_word("trainer.accelerator", trainer["accelerator"], ("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())))
    check_word("trainer.strategy", trainer["strategy"], ("auto", *StrategyRegistry.available_strategies()))
    check_devices(trainer["devices"])
    check_time(trainer["max_time"])


def check_limit(name: str, value: Any, least: str) -> None:
    """A share of an epoch's batches where it is a fraction, a number of them where it is a whole number."""
    enough = is_number(value) and (value > 0 if least == "above 0" else value >= 0)
    if not enough or (isinstance(value, float) and value > 1):
        raise InputError(f"trainer.{name}: a share of the batches (up to 1.0) or a whole number of them, {least}; not {value}")


def check_word(key: str, value: Any, words: tuple[str, ...]) -> None:
    if value not in words:
        hint = near(str(value), words)
        raise InputError(f"{key}: {value} is not among {', '.join(words[:8])}{', ...' if len(words) > 8 else ''}{hint}")


def check_devices(value: Any) -> None:
    numbers = value if isinstance(value, list) else [value]
    whole = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
    listed = isinstance(value, list) and len(whole) == len(value) > 0 and min(whole) >= 0
    counted = value in ("auto", -1) or (whole == [value] and value >= 1)
    if not (listed or counted or (isinstance(value, str) and re.fullmatch(r"-1|[1-9]\d*|\d+(,\d+)+|\d+,", value))):
        raise InputError(f"trainer.devices: a number of devices from 1 on, a list of their numbers [0,1], or auto; not {value}")


def check_time(value: Any) -> None:
    if value is None or isinstance(value, dict):
        return
    if not isinstance(value, str) or not re.fullmatch(r"\d+:[0-5]?\d:[0-5]?\d:[0-5]?\d", value) or not re.search(r"[1-9]", value):
        raise InputError(f"trainer.max_time: days, hours, minutes and seconds as DD:HH:MM:SS, or null; not {value}")


def check_monitors(callbacks: Mapping[str, Any]) -> None:
    """A monitor has to be one of the numbers that a validation gives, or the loss."""
    for name, section in callbacks.items():
        if not isinstance(section, Mapping):
            continue
        if "monitor" in section:
            monitors = (*SCORES, *(MAPS if callbacks.get("map_health") is not None else ()), *(() if name == "writer" else (LOSS,)))
            if section["monitor"] not in monitors:
                hint = near(str(section["monitor"]), monitors)
                raise InputError(f"callbacks.{name}.monitor: {section['monitor']} is not among {', '.join(monitors)}{hint}")
        if section.get("mode", "max") not in ("max", "min"):
            raise InputError(f"callbacks.{name}.mode: max where a higher number is better, or min; not {section['mode']}")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
