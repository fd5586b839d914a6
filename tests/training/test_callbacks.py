"""Random states, the metrics file, the link to the newest run, and what `init=` carries over."""

import random
from pathlib import Path

import numpy as np
import torch
from kinds import lstm
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import nn

from captioner.data.captions import CaptionSet
from captioner.data.transforms import Transform
from captioner.encoders.small import SmallConv
from captioner.model import Captioner
from captioner.training.callbacks import Progress, RandomStates, restore_random_states
from captioner.training.loggers import MetricsFile, carry_rows, read_rows
from captioner.training.transfer import Carried, carry_over
from captioner.training.writer import link_latest
from captioner.vocabulary import Vocabulary


def test_random_states_come_back_from_a_file_that_holds_plain_values_only(tmp_path: Path) -> None:
    torch.save(RandomStates().state_dict(), tmp_path / "states")
    drawn = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))  # noqa: NPY002
    restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert drawn == (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))  # noqa: NPY002


def test_a_metrics_file_grows_rows_and_columns_and_keeps_what_was_there(tmp_path: Path) -> None:
    first = MetricsFile(str(tmp_path))
    first.log_metrics({"loss": 3.0, "epoch": 0}, step=1)
    first.log_metrics({"loss": 2.0, "epoch": 0}, step=2)
    first.log_metrics({"score": 0.5, "epoch": 0}, step=2)
    first.finalize("success")
    again = MetricsFile(str(tmp_path))
    again.log_metrics({"loss": 1.0, "epoch": 1}, step=3)
    again.finalize("success")
    found = read_rows(tmp_path / "metrics.csv")
    assert [(row["step"], row["loss"], row["score"]) for row in found] == [("1", "3.0", ""), ("2", "2.0", "0.5"), ("3", "1.0", "")]
    carry_rows(tmp_path / "metrics.csv", tmp_path / "new" / "metrics.csv", steps=3)
    assert read_rows(tmp_path / "new" / "metrics.csv") == found[:2]


def test_a_step_s_row_is_in_the_file_when_the_step_is_over_and_later_numbers_join_it(tmp_path: Path) -> None:
    file = MetricsFile(str(tmp_path))
    for step in (1, 2):
        file.log_metrics({"loss": 3.0 / step, "epoch": 0}, step=step)
        file.save()
        assert [row["loss"] for row in read_rows(file.path)] == ["3.0", "1.5"][:step]
    for name, value in (("score", 0.5), ("loss", 1.0)):  # a new column, and a number that was there
        file.log_metrics({name: value}, step=2)
        file.save()
    file.log_metrics({"loss": 0.5, "epoch": 1}, step=3)
    file.save()
    found = [(row["step"], row["epoch"], row["loss"], row["score"]) for row in read_rows(file.path)]
    assert found == [("1", "0", "3.0", ""), ("2", "0", "1.0", "0.5"), ("3", "1", "0.5", "")]


def test_a_row_cut_short_by_a_kill_is_dropped_by_the_reader_and_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,loss\n0,1,2.5\n0,2,1.")
    assert [row["step"] for row in read_rows(path)] == ["1"]
    again = MetricsFile(str(tmp_path))
    again.log_metrics({"loss": 1.25, "epoch": 0}, step=2)
    again.save()
    assert [(row["step"], row["loss"]) for row in read_rows(path)] == [("1", "2.5"), ("2", "1.25")]
    carry_rows(path, path, steps=0)
    assert read_rows(path) == []


def test_latest_leads_to_the_newest_run_and_replaces_no_real_folder(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        link_latest(tmp_path / "latest", tmp_path / "runs" / name)
        assert (tmp_path / "latest").resolve() == (tmp_path / "runs" / name).resolve()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "runs"]
    (tmp_path / "runs" / "latest").mkdir()
    link_latest(tmp_path / "runs" / "latest", tmp_path / "runs" / "one")
    assert not (tmp_path / "runs" / "latest").is_symlink()


def captioner(words: str) -> Captioner:
    encoder = SmallConv(channels=(4, 7), kernels=(6, 3), strides=(4, 2), blocks=(0, 0), coordinates=False)
    vocabulary = Vocabulary(list(words))
    return Captioner(encoder, lstm(len(vocabulary)), vocabulary, Transform(24))


def test_what_is_carried_over_is_all_that_fits_and_the_rest_is_named() -> None:
    captions = CaptionSet("nowhere", ["1.png"], [1], [["a d", "e c"]])
    source, target = captioner("abc"), captioner("abcde")
    new = target.decoder.output.weight[7:].clone()
    carried = carry_over(source, target, captions)
    assert carried == Carried(3, ("d", "e"), ("b",), (), ())
    assert carried.lines() == ["3 words kept, 2 added (d, e), 1 not in the new captions (b)"]
    theirs = dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        assert torch.equal(parameter[: len(theirs[name])], theirs[name]), name
    assert torch.equal(target.decoder.output.weight[7:], new)


def test_tensors_of_another_shape_stay_as_they_were_and_are_named() -> None:
    captions = CaptionSet("nowhere", ["1.png"], [1], [["a b c"]])
    source, target = captioner("abc"), captioner("abc")
    target.decoder.hidden_output = nn.Linear(5, 4, bias=False)
    carried = carry_over(source, target, captions)
    assert carried.left == carried.fresh == ("decoder.hidden_output.weight",)
    assert "decoder.hidden_output.weight" in carried.lines()[1]


class Loop:
    """As much of a trainer as a progress bar reads."""

    current_epoch, max_epochs, num_training_batches, num_val_batches = 1, 3, 400, [90]
    sanity_checking = False

    def __init__(self) -> None:
        self.progress_bar_metrics = {"train/loss": 2.3456, "train/words_per_second": 15600.4}
        self.loggers: list[object] = []


def test_in_a_file_an_epoch_and_its_validation_have_a_line_every_half_minute_and_the_first_one_soon(caplog, monkeypatch):
    now = [0.0]
    bar, loop = Progress(clock=lambda: now[0]), Loop()
    monkeypatch.setattr(TQDMProgressBar, "get_metrics", lambda self, trainer, module: trainer.progress_bar_metrics)
    monkeypatch.setattr(TQDMProgressBar, "on_train_epoch_start", lambda *_: None)
    for name in ("on_train_batch_end", "on_validation_batch_end"):
        monkeypatch.setattr(TQDMProgressBar, name, lambda *_, **named: None)
    with caplog.at_level("INFO", "captioner"):
        bar.on_train_epoch_start(loop)
        for number in range(loop.num_training_batches):
            now[0] += 0.25
            bar.on_train_batch_end(loop, None, None, None, number)
        training = [record.getMessage() for record in caplog.records]
        bar.on_validation_epoch_start(loop, None)
        for number in range(90):
            now[0] += 0.5
            bar.on_validation_batch_end(loop, None, None, None, number)
    assert training[1] == "epoch 2 of 3: 128 of 400 batches (32 %), 4.0 a second, 1:08 left, loss 2.346, 15,600 words/s"
    assert len(training) == 5
    assert training[-1] == "epoch 2 of 3: 400 batches in 1:40"
    assert [record.getMessage() for record in caplog.records[5:]] == [
        "validation after epoch 2: 60 of 90 batches (66 %), 2.0 a second, 0:15 left",
        "validation after epoch 2: 90 batches in 0:45",
    ]
