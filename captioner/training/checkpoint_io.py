"""Checkpoints that are complete at any moment: written beside their place, flushed to disk, renamed."""

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from captioner.atomic_files import atomic_file
from captioner.bundle import read_checkpoint


class WholeCheckpoints(CheckpointIO):
    """Lightning's own class writes to the temporary folder and copies from there: a kill meanwhile leaves neither the old one nor the new.

    Reading compares the checksums, and loads tensors and plain values only.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None) -> None:
        """Raises: UnwritableError, the disk does not take it; the checkpoint before stays as it was."""
        with atomic_file(Path(path)) as temporary, temporary.open("wb") as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:  # torch hides the error of the disk
                raise disk_error(error) or error from None

    def load_checkpoint(self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        Path(path).unlink(missing_ok=True)


def disk_error(error: BaseException) -> OSError | None:
    """The error of the disk that caused another error."""
    cause = error.__cause__ or error.__context__
    return cause if isinstance(cause, OSError) else None if cause is None else disk_error(cause)
