"""A signal, or a process that is gone, ends a run in one line that says what is lost and how to go on."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from runs import SMALL, differing, draw_coco, small_run, train

from captioner.training.interruption import ProcessWatcher
from captioner.training.progress_reports import TrainingLog

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return draw_coco(tmp_path / "coco")


def signal_at(epoch: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process gets the signal at the first batch of that epoch, once."""
    ended, sent = TrainingLog.on_train_batch_end, list[int]()

    def batch_end(self: TrainingLog, trainer: Any, *rest: Any) -> None:
        ended(self, trainer, *rest)
        if trainer.current_epoch + 1 == epoch and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    monkeypatch.setattr(TrainingLog, "on_train_batch_end", batch_end)


def interruption_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an interruption."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "interrupted" in line]
    return line


def test_a_run_interrupted_in_its_first_epoch_leaves_latest_and_no_model(
    coco: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(coco, "outputs/coco/first", "trainer.max_epochs=1")
    before = os.readlink("outputs/latest")
    signal_at(1, signal.SIGTERM, monkeypatch)
    words = ["data=coco", f"data.root={coco}", *SMALL, "data.minimum_count=1", "data.batch_size=3", "run_folder=outputs/coco/second"]
    assert train(*words) == 130
    line = interruption_line(capsys)
    assert "in the first epoch: nothing was saved yet" in line
    assert line.endswith("begin again with: captioner train rerun=outputs/coco/second")
    assert os.readlink("outputs/latest") == before
    assert not Path("outputs/coco/second/model").exists()


def test_an_interrupted_run_says_how_to_go_on_and_so_becomes_the_run_that_never_stopped(
    coco: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = small_run(coco, "straight")
    words = ["data=coco", f"data.root={coco}", *SMALL, "data.minimum_count=1", "data.batch_size=3", "trainer.max_epochs=2"]
    signal_at(2, signal.SIGTERM, monkeypatch)
    assert train(*words, "run_folder=a run") == 130
    line = interruption_line(capsys)
    assert "interrupted in epoch 2 of 2: what it has learnt since epoch 1 is lost" in line
    assert Path("outputs/latest").resolve() == Path("a run").resolve()
    go_on = shlex.split(line.partition("captioner train ")[2])
    assert train(*go_on, "run_folder=on") == 0
    assert differing(straight / "checkpoints" / "last.ckpt", Path("on/checkpoints/last.ckpt")) == []


def test_a_killed_process_of_the_run_is_named_and_one_that_printed_its_reason_is_not(tmp_path: Path) -> None:
    watcher = ProcessWatcher(tmp_path / "run", None, 3)
    ways = {"import os; os.kill(os.getpid(), 9)": "by signal 9; begin again with"}
    ways |= {"raise SystemExit(1)": "with exit code 1", "raise SystemExit(2)": ""}
    for code, words in ways.items():
        watcher.children = [subprocess.Popen([sys.executable, "-S", "-c", code])]
        watcher.children[0].wait()
        exit_code, line = watcher.exit_code_and_line()
        assert exit_code == 2
        assert words in line
        assert bool(line) == bool(words)


def test_a_run_on_two_processes_ends_at_a_signal_in_one_line_and_leaves_none(coco: Path) -> None:
    words = ["data=coco", f"data.root={coco}", *SMALL, "data.minimum_count=1", "trainer.max_epochs=100000", "run_folder=run"]
    words += ["callbacks.early_stopping=null", "trainer.devices=2", "trainer.strategy=ddp"]
    words += ["data.num_workers=1", "data.hold_in_memory=false"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), *words]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not Path("run/checkpoints/last.ckpt").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in error
        assert error.splitlines()[-1].startswith("captioner: interrupted in epoch ")
        assert sum("interrupted" in line for line in error.splitlines()) == 1
        deadline = time.monotonic() + 60
        while group_lives(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not group_lives(process.pid), "a process of the run is left over"
    finally:
        process.kill()


def group_lives(group: int) -> bool:
    """Whether a process group still has a process; the last one may end a moment after the first."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
