"""Values that Lightning or a callback would fail by later are refused at the start, by their keys."""

import copy
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from captioner.errors import InputError
from captioner.training.configuration import compose_run, keys_of, plain
from captioner.training.recorded import override_run
from captioner.training.run import clear_errors
from captioner.training.run_parts import build_parts, build_trainer
from captioner.training.value_checks import check_values


@cache
def shipped() -> dict[str, Any]:
    return plain(compose_run(["experiment=scenes", "run_folder=run"]))


def with_value(key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(shipped())
    *sections, last = key.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[last] = value
    return config


GOOD = {
    "trainer.max_time": [None, "00:00:10:00", "1:00:00:00", {"minutes": 5}],
    "trainer.devices": [1, 2, -1, "auto", [0, 3], "0,1", "2", "0,"],
    "trainer.precision": ["auto", 32, "bf16-mixed", "16-true"],
    "trainer.accelerator": ["auto", "cpu", "gpu", "cuda", "mps"],
    "trainer.strategy": ["auto", "ddp", "ddp_find_unused_parameters_true"],
    "trainer.gradient_clip_val": [None, 0, 5.0],
    "trainer.limit_train_batches": [1, 1.0, 0.1, 400],
    "trainer.limit_val_batches": [0, 0.0, 1.0, 7],
    "callbacks.checkpoints.monitor": ["val/BLEU-4", "val/entropy", "train/loss"],
    "callbacks.early_stopping": [None],
}
BAD = {
    "trainer.log_every_n_steps": [0, -1, 1.5, None, True],
    "trainer.accumulate_grad_batches": [0, 0.5, "two"],
    "trainer.check_val_every_n_epoch": [0, 6, None],
    "trainer.max_time": ["10m", "10:00", "00:00:00:00", "00:99:00:00", 600],
    "trainer.devices": [0, -2, "two", [], [-1], [0, "x"], None, True, 1.5],
    "trainer.precision": ["bf61", 8, None],
    "trainer.accelerator": ["abacus", None, 1],
    "trainer.strategy": ["dpp", None],
    "trainer.gradient_clip_val": [-1, "five", float("nan"), True],
    "trainer.limit_train_batches": [0, 0.0, 1.5, -1, None, True, float("nan")],
    "trainer.limit_val_batches": [-2, 1.5, "all"],
    "callbacks.checkpoints.monitor": ["val/CIDER", "val_loss", None, ["val/CIDEr"]],
    "callbacks.writer.monitor": ["train/loss"],
    "callbacks.early_stopping.mode": ["best", None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in GOOD.items() for value in values])
def test_values_with_a_meaning_are_accepted(key: str, value: Any) -> None:
    check_values(with_value(key, value))


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_values_without_a_meaning_are_refused_with_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"^{key}: ") as caught:
        check_values(with_value(key, value))
    assert str(value) in str(caught.value)


@pytest.mark.parametrize("mistyped", ["val/CIDER", "val/cider", "val/Cidr"])
def test_a_similar_monitor_is_suggested_for_a_mistyped_one(mistyped: str) -> None:
    with pytest.raises(InputError, match="did you mean val/CIDEr"):
        check_values(with_value("callbacks.checkpoints.monitor", mistyped))


def test_a_run_may_have_no_validation_at_all() -> None:
    config = with_value("trainer.check_val_every_n_epoch", 99)
    config["trainer"]["limit_val_batches"] = 0
    check_values(config)


VALUES = ["0", "-1", "1", "2.5", "null", "x", "true", "[]", "[1,2]", "[a]", "{a:1}", "{}", "[null]"]
VALUES += ["1e400", "nan", "inf", "1e-400", "999999999999", "''", "${seed}", "???"]


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_value_of_any_key_builds_a_run_or_is_refused_in_one_line(data: st.DataObject) -> None:
    raw, keys = recorded()
    key, value = data.draw(st.sampled_from(keys)), data.draw(st.sampled_from(VALUES))
    try:
        config = plain(override_run(raw, [f"{key}={value}"], "rerun="))
        with clear_errors():
            build_parts(config)
            build_trainer(config)
    except InputError as error:
        message = str(error)
    else:
        return
    assert len(message) < 800
    assert "\n" not in message


@cache
def recorded() -> tuple[dict[str, Any], list[str]]:
    config = compose_run(["experiment=scenes", "run_folder=run", "objective=hard", "attention=hard"])
    raw: Any = OmegaConf.to_container(config)
    return raw, [key for key in keys_of(config) if not key.endswith("_")]
