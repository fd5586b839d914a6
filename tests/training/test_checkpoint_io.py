"""A checkpoint takes its place only once it is whole."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.errors import UnwritableError
from captioner.training import checkpoint_io
from captioner.training.checkpoint_io import WholeCheckpoints


def test_a_disk_that_fills_up_is_one_line_and_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, checkpoints = tmp_path / "below" / "last.ckpt", WholeCheckpoints()
    checkpoints.save_checkpoint({"epoch": 1, "weights": torch.arange(3)}, path)

    def full(_: Any, file: Any) -> None:
        file.write(b"cut sho")
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904  as torch does

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_io.torch, "save", full)
        with pytest.raises(UnwritableError, match=r"last\.ckpt: cannot be written, for the disk of .*below is full"):
            checkpoints.save_checkpoint({"epoch": 2}, path)
    assert checkpoints.load_checkpoint(path)["epoch"] == 1
    assert [found.name for found in path.parent.iterdir()] == ["last.ckpt"]
    checkpoints.remove_checkpoint(path)
    checkpoints.remove_checkpoint(path)
    assert list(path.parent.iterdir()) == []


def test_only_errors_of_the_disk_are_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_io.torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("a mistake of ours")))
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        WholeCheckpoints().save_checkpoint({}, tmp_path / "last.ckpt")
