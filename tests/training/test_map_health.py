"""The health of the maps of a validation, the warnings where attention is dead, and the health of a
rollout's maps."""

import itertools
import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from captioner.caption import Caption
from captioner.maps.health import health
from captioner.records import Rollout, StepRecord
from captioner.training.map_health import MapHealth, rollout_health

UNIFORM, FIRST, FOURTH = np.full(6, 1 / 6, np.float32), np.eye(6, dtype=np.float32)[0], np.eye(6, dtype=np.float32)[3]


def caption_with(maps, words=None):
    alphas = np.array(maps, np.float32).reshape(-1, 1, 6)
    words = ["b"] * len(alphas) if words is None else words
    return Caption(" ".join(words), words, -2.0, [-1.0] * len(words), -1.0, -1.0, alphas)


def validate(callback, captions, epoch=0, words=()):
    """Run a validation with these maps (and words), one batch per caption; what was logged."""
    logged = {}
    trainer = SimpleNamespace(current_epoch=epoch, world_size=1)
    module = SimpleNamespace(log_dict=lambda values, **_: logged.update(values))
    callback.on_validation_epoch_start(trainer, module)
    for maps, text in itertools.zip_longest(captions, words):
        callback.on_validation_batch_end(trainer, module, {"captions": [caption_with(maps, text)]}, None, 0)
    callback.on_validation_epoch_end(trainer, module)
    callback.on_train_epoch_end(trainer, module)
    return logged


def test_a_validation_s_health_is_the_mean_over_its_captions_and_is_logged(caplog):
    caplog.set_level(logging.INFO)
    logged = validate(MapHealth(), [[FIRST, FOURTH], [FIRST, UNIFORM, FOURTH], []])
    parts = [health(np.array(maps)[:, None].astype(np.float32)) for maps in ([FIRST, FOURTH], [FIRST, UNIFORM, FOURTH])]
    for name in ("entropy", "change", "coverage", "dead", "peak"):
        assert logged[f"val/{name}"] == pytest.approx((getattr(parts[0], name) + getattr(parts[1], name)) / 2)
    assert [record.message for record in caplog.records] == ["maps: entropy 0.17, change 0.92, coverage 0.33, 17% dead"]


def test_dead_attention_is_warned_of_once_for_each_way_to_be_dead(caplog):
    callback = MapHealth(flat=0.9, still=0.1)
    validate(callback, [[FIRST, FOURTH]])
    assert not caplog.records
    validate(callback, [[FIRST, FIRST, FIRST]], epoch=1)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "after epoch 2" in record.message
    assert "same at every word" in record.message
    validate(callback, [[UNIFORM, UNIFORM], [UNIFORM]], epoch=2)
    assert "flat" in caplog.records[-1].message
    assert len(caplog.records) == 2
    validate(callback, [[UNIFORM, UNIFORM]], epoch=3)
    assert len(caplog.records) == 2


def test_where_nothing_was_said_nothing_is_logged_or_warned_of(caplog):
    assert validate(MapHealth(), [[]]) == {}
    assert not caplog.records


def test_a_validation_whose_captions_are_all_alike_is_a_warning_until_they_differ(caplog):
    callback, maps, alike, differ = MapHealth(), [[FIRST, FOURTH]] * 5, [["a", "c"]] * 5, [["a", "c"]] * 4 + [["a", "b"]]
    validate(callback, maps[:4], words=alike[:4])
    validate(callback, maps, words=differ)
    assert not caplog.records
    validate(callback, maps, epoch=1, words=alike)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.message.startswith("after epoch 2 all 5 validation captions are the same, 'a c': ")
    assert "optimizer.lr" in record.message
    validate(callback, maps, words=alike)
    assert len(caplog.records) == 1
    validate(callback, maps, words=differ)
    validate(callback, maps, words=alike)
    assert len(caplog.records) == 2


def test_a_rollout_is_measured_over_its_words_alone():
    torch.manual_seed(0)
    lengths = torch.tensor([[3, 0], [1, 2]])
    mask = lengths[..., None] > torch.arange(4)
    alphas = torch.rand(2, 2, 4, 5).softmax(-1)
    nothing = torch.zeros(2, 2, 4)
    measured = rollout_health(Rollout(nothing, nothing, mask, torch.zeros(2, 2, dtype=torch.long), StepRecord(alphas, nothing)))
    rows = [health(alphas[i, c, : lengths[i, c], None].numpy()) for i, c in ((0, 0), (1, 0), (1, 1))]
    assert math.isnan(rows[1].change)
    assert measured == pytest.approx(
        {
            "map_entropy": sum(row.entropy for row in rows) / 3,
            "map_change": (rows[0].change + rows[2].change) / 2,
            "map_peak": sum(row.peak for row in rows) / 3,
        }
    )


@pytest.mark.parametrize("name", ["flat", "still"])
def test_limits_outside_0_to_1_are_refused_by_name(name):
    with pytest.raises(ValueError, match=name):
        MapHealth(**{name: 1.5})
