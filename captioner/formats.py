"""The format of saved models, and how the configuration of an earlier format is read. Standard library only."""

from collections.abc import Mapping
from typing import Any

FORMAT, PACKED_FORMAT = 2, 3
"""Of models whose tensors have all their bits, and of those whose tensors are packed into fewer (`packing`)."""
READABLE = (1, FORMAT, PACKED_FORMAT)
KEYS = {
    "at_rest": "eval_mode",
    "draws": "samples",
    "draws_begin": "sampling_start",
    "expect": "expectation_probability",
    "expect_first": "expectation_batches",
    "pace": "training_log",
    "to_go": "reward_to_go",
    "watch": "map_health",
}
"""Keys that an earlier format spells in another way."""
VALUES = {"eval_mode": {"expect": "expectation", "peak": "argmax", "draw": "sample"}}
"""Values of a key that an earlier format spells in another way."""
TARGETS = {
    "captioner.data.files.CaptionFiles": "captioner.data.caption_files.CaptionFiles",
    "captioner.data.scenes.scenes.Scenes": "captioner.scenes.scenes.Scenes",
    "captioner.training.averaging.Averaging": "captioner.training.weight_averaging.WeightAverage",
    "captioner.training.callbacks.Checkpoints": "captioner.training.checkpoints.Checkpoints",
    "captioner.training.callbacks.DrawsBegin": "captioner.training.checkpoints.SamplingStart",
    "captioner.training.callbacks.FineTune": "captioner.training.fine_tuning.FineTuning",
    "captioner.training.callbacks.Pace": "captioner.training.progress_reports.TrainingLog",
    "captioner.training.callbacks.Progress": "captioner.training.progress_reports.ProgressDisplay",
    "captioner.training.callbacks.RandomStates": "captioner.training.resuming.RandomStates",
    "captioner.training.loggers.MetricsFile": "captioner.training.metrics_file.MetricsFile",
    "captioner.training.optimization.grouped": "captioner.training.optimization.build_optimizer",
    "captioner.training.pictures.Pictures": "captioner.training.validation_sheets.ValidationSheets",
    "captioner.training.watch.Watch": "captioner.training.map_health.MapHealth",
}
"""Classes that an earlier format finds in another module."""
DOT, BILINEAR = "captioner.attention.score.Dot", "captioner.attention.score.Bilinear"
"""A dot product of two sizes, which an earlier format allows, has the matrix of a bilinear score."""


def upgraded(config: Any, key: str = "") -> Any:
    """The configuration with today's names in the place of those of earlier formats.

    The names of earlier formats are used by no later one, so that a configuration of this format
    stays as it is: a checkpoint, which holds no format number, needs none.
    """
    if isinstance(config, Mapping):
        renamed = {KEYS.get(str(name), str(name)): value for name, value in config.items()}
        if renamed.get("_target_") == DOT and renamed.get("features") != renamed.get("hidden_size"):
            renamed["_target_"] = BILINEAR
        return {name: upgraded(value, name) for name, value in renamed.items()}
    if isinstance(config, list):
        return [upgraded(item) for item in config]
    if isinstance(config, str):
        return TARGETS.get(config, config) if key == "_target_" else VALUES.get(key, {}).get(config, config)
    return config
