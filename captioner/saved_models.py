"""Reading saved models: a `model/` folder, a run's folder, a training checkpoint, or a model that comes with the package."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from captioner import bundle
from captioner.atomic_files import folder_or_backup
from captioner.errors import InputError
from captioner.formats import upgraded

Built = TypeVar("Built")
PREFIX = "captioner."
"""Of the captioner's tensors in a checkpoint; its configuration and vocabulary are JSON strings under `captioner`."""


PRETRAINED = Path(__file__).parent / "pretrained"
"""A folder per model that comes with the package; its name is the model's."""


def pretrained_names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.name for path in PRETRAINED.iterdir() if (path / bundle.CONFIG).is_file()) if PRETRAINED.is_dir() else []


def example_photos() -> list[Path]:
    """Photographs that come with the package; CREDITS.md beside them says whose they are."""
    return sorted((PRETRAINED / "photos").glob("*.jpg"))


def model_path(model: str | Path) -> Path:
    """The folder of a model that comes with the package, where `model` is its name; else the path itself. What lies at the path wins."""
    path = Path(model)
    return path if path.exists() or str(model) not in pretrained_names() else PRETRAINED / path


class SavedModel(NamedTuple):
    """What a saved model consists of, in the present format."""

    path: Path
    """The `model/` folder, or the checkpoint."""
    config: dict[str, Any]
    vocabulary: dict[str, Any]
    tensors: dict[str, Tensor]

    def build(self, file: str, make: Callable[..., Built], *arguments: Any) -> Built:
        """`make(*arguments)`; the message of a refusal names that file of the folder, or the checkpoint."""
        try:
            return make(*arguments)
        except InputError as error:
            raise InputError(f"{self.path / file if self.path.is_dir() else self.path}: {error}") from error


def read_saved_model(path: Path) -> SavedModel:
    """Raises: InputError, the model is missing, damaged or of an unknown format."""
    path = model_path(path)
    if path.suffix == ".ckpt" and not path.is_dir():
        return read_model_of_checkpoint(path)
    folder = path / "model" if folder_or_backup(path / "model").is_dir() else path
    tensors, config, vocabulary = bundle.load(folder)
    return SavedModel(folder, config, vocabulary, tensors)


def read_model_of_checkpoint(path: Path) -> SavedModel:
    """Of a Lightning checkpoint that holds `captioner: {config, vocabulary}` as JSON strings."""
    checkpoint = bundle.read_checkpoint(path)
    try:
        record = checkpoint["captioner"]
        config, vocabulary = upgraded(json.loads(record["config"])), json.loads(record["vocabulary"])
        tensors = {name.removeprefix(PREFIX): value for name, value in checkpoint["state_dict"].items() if name.startswith(PREFIX)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a checkpoint of this captioner ({type(error).__name__}: {error})") from None
    return SavedModel(path, config, vocabulary, tensors)


def build_without_memory(make: Callable[..., Built], *arguments: Any) -> Built | None:
    """`make(*arguments)` with tensors that take no memory; None where it refuses, or needs numbers."""
    try:
        with torch.device("meta"):
            return make(*arguments)
    except (InputError, NotImplementedError, RuntimeError):
        return None
