"""Runs of the real command on pixels: what is frozen does not move, what should be in training is, cached regions are the live ones."""

import csv
from pathlib import Path
from typing import Any

import photos
import pytest
import timm_stand_in
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from captioner.cli.main import main
from captioner.encoders.timm import Timm
from captioner.encoders.trunk import Trunk
from captioner.training import run
from captioner.training.module import CaptioningModule

TRUNK = ["encoder=mobilenet_v3_small"]
LAYERS = ["encoder.features=8", "encoder.layers=1", "encoder.heads=2"]
WRAPPED = ["encoder=self_attention", "encoder@encoder.trunk=mobilenet_v3_small", *LAYERS]
STAND_IN = ["encoder=timm", "encoder.name=net", "encoder.features=7"]
REAL = ["encoder=timm", "encoder.name=resnet10t", "encoder.features=512"]
MOVED: dict[str, tuple[list[str], set[str]]] = {
    "frozen, averaged": ([*TRUNK, "callbacks.ema.decay=0.9"], set()),
    "partly, statistics move": ([*TRUNK, "encoder.finetune_from=12", "encoder.hold_statistics=false"], {"trunk.features.12"}),
    "wrapped, thawed": ([*WRAPPED, "callbacks.fine_tune.epoch=1"], set()),
    "timm, thawed, statistics move": (
        [*STAND_IN, "callbacks.fine_tune.epoch=1", "callbacks.fine_tune.stage='1'", "encoder.hold_statistics=false"],
        {"model.body"},
    ),
    "timm itself, partly": ([*REAL, "encoder.finetune_from=4"], set()),
}
"""Words -> the parts of the encoder whose buffers may move."""


def train(photo_folder: Path, *words: str) -> Path:
    given = ["data=folder", f"data.root={photo_folder}", *photos.NARROW, "transform.size=64", *words]
    assert main(["train", "run_folder=run", *given]) == 0
    return Path("run")


def final(folder: Path) -> dict[str, Tensor]:
    """The captioner's tensors after the last epoch."""
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name.removeprefix("captioner."): value for name, value in state.items()}


def first_weights(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """An encoder's state with statistics as of a trained one, written to weights.safetensors."""
    torch.manual_seed(0)
    if STAND_IN[1] in words:
        timm_stand_in.install(monkeypatch)
        body: nn.Module = Timm("net", 7, None).model
    elif REAL[1] in words:
        pytest.importorskip("timm", reason="the extra timm is not installed")
        body = Timm("resnet10t", 512, None).model
    else:
        body = Trunk("mobilenet_v3_small", 576, None).trunk
    for name, buffer in body.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.uniform_(-0.2, 0.2)
    state = {name: value.clone(memory_format=torch.contiguous_format) for name, value in body.state_dict().items()}
    save_file(state, "weights.safetensors")
    return state


@pytest.mark.parametrize("case", MOVED)
def test_a_run_on_pixels_moves_no_buffer_of_frozen_parts_or_of_fixed_statistics(
    case: str, photo_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, moving = MOVED[case]
    before = first_weights(words, monkeypatch)
    key, inside = ("encoder.trunk.weights", "trunk.") if words[0] == WRAPPED[0] else ("encoder.weights", "")
    inside += "model." if "encoder=timm" in words else "trunk."
    done = train(photo_folder, *words, f"{key}=weights.safetensors")
    for after in (load_file(done / "model" / "model.safetensors"), final(done)):
        moved = {f"{inside}{name}" for name in before if not torch.equal(after[f"encoder.{inside}{name}"], before[name])}
        buffers = {name for name in moved if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
        assert {name for name in buffers if not name.startswith(tuple(moving))} == set()
    assert bool(buffers) == bool(moving)
    assert bool(moved) == any("finetune_from" in word or "fine_tune" in word for word in words)


def test_cached_and_live_regions_give_the_same_losses(photo_folder: Path, here: Path) -> None:
    """Kept as half floats, so to a thousandth. In training mode this trunk drops out whole branches."""
    trunk = Trunk("efficientnet_b0", 1280, None).trunk
    for name, buffer in trunk.named_buffers():
        if name.endswith("var"):
            buffer.fill_(0.25)  # so that features are large and matter
    save_file({name: value.contiguous() for name, value in trunk.state_dict().items()}, "weights.safetensors")
    words = ["encoder=self_attention", "encoder@encoder.trunk=efficientnet_b0", *LAYERS, "encoder.trunk.weights=weights.safetensors"]
    losses: dict[str, list[float]] = {}
    for cached in ("true", "false"):
        done = train(
            photo_folder, *words, f"data.cache_features={cached}", "data.batch_size=2", "trainer.max_epochs=1", "optimizer.lr=0.01"
        )
        with (done / "metrics.csv").open() as file:
            losses[cached] = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        done.rename(f"cached_{cached}")
    assert len(losses["true"]) == 4
    assert losses["false"] == pytest.approx(losses["true"], rel=1e-3)


def test_an_encoder_that_learns_from_an_epoch_on_reads_cached_regions_until_then(photo_folder: Path, here: Path) -> None:
    """The losses are those of a run that reads pixels in every epoch, and the scores those of the model that was kept."""
    words = ["encoder=mobilenet_v3_small", "encoder.weights=weights.safetensors", "optimizer.encoder_lr=0.01", "optimizer.lr=0.01"]
    state = Trunk("mobilenet_v3_small", 576, None).trunk.state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, "weights.safetensors")
    rows: dict[str, list[tuple[float, str]]] = {}
    for cached in ("true", "false"):
        thawed = ["callbacks.fine_tune.epoch=1", "trainer.max_epochs=3", "data.batch_size=2", f"data.cache_features={cached}"]
        done = train(photo_folder, *words, *thawed)
        with (done / "metrics.csv").open() as file:
            rows[cached] = [(float(row["train/loss"]), row["epoch"]) for row in csv.DictReader(file) if row["train/loss"]]
        done.rename(f"cached_{cached}")
    assert len(rows["true"]) == 12
    assert [epoch for _, epoch in rows["true"]] == [epoch for _, epoch in rows["false"]]
    assert [loss for loss, _ in rows["false"]] == pytest.approx([loss for loss, _ in rows["true"]], rel=3e-3)
    captions = [Path(f"cached_{cached}/results/captions_val.json").read_text() for cached in rows]
    assert captions[0] == captions[1]


LEARNERS = [
    "encoder=self_attention",
    "encoder@encoder.trunk=small",
    *LAYERS,
    "encoder.trunk.channels=[5,7]",
    "encoder.trunk.features=17",
    "decoder.dropout=0.5",
]


def test_what_learns_is_in_training_mode_in_every_step_of_every_run(
    photo_folder: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun from nothing, gone on with, and begun from a model, even one that was left in evaluation mode; after validations too."""
    resting: list[list[str]] = []
    step, made = CaptioningModule.training_step, run.make_captioner

    def watched(module: CaptioningModule, *given: Any) -> Any:
        resting.append([name for name, part in module.captioner.named_modules() if not part.training])
        return step(module, *given)

    monkeypatch.setattr(CaptioningModule, "training_step", watched)
    train(photo_folder, *LEARNERS).rename("first")
    assert main(["train", "resume=first/checkpoints/last.ckpt", "run_folder=second", "trainer.max_epochs=3"]) == 0
    monkeypatch.setattr(run, "make_captioner", lambda *given: made(*given).eval())
    train(photo_folder, "init=first", "trainer.max_epochs=1")
    assert len(resting) == 6 + 3 + 3
    assert [names for names in resting if names] == []
