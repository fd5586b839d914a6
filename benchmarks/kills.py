"""Kill a small training at random moments, check what is left, go on, and compare with the run that
was never killed.

    python benchmarks/kills.py --kills 1000

Each trial is a fork of this process, which has imported everything: it draws scenes, computes
features, and trains three epochs. SIGKILL comes at a random moment. Every second trial has its
temporary folder on another file system (/dev/shm). Then:

- what had been written is still there: checkpoints of that epoch or a later one, the model, every
  row of metrics.csv
- every file with a final name is whole: checkpoints and the model agree with their checksums, JSON
  and YAML can be read
- the run that goes on (by resume= if there is a checkpoint, else by the same overrides again) ends
  bit for bit as the run that was never killed: weights, moments of the optimizer, model, captions,
  scores, rows except their times
- no temporary file is left after it

The exit code is 1 if one of these does not hold.
"""

import argparse
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image

import captioner.training.run  # noqa: F401  everything that a run imports
from captioner import bundle
from captioner.cli import train
from captioner.cli.main import main as command
from captioner.data.cache import FeatureStore, open_or_build
from captioner.data.captions import CaptionSet
from captioner.data.transforms import Transform
from captioner.records import Regions
from captioner.training.checkpoint_io import WholeCheckpoints
from captioner.training.metrics_file import MetricsFile
from captioner.training.run_folder import STAMP
from captioner.training.writer import ModelWriter

WORDS = [
    *("data=scenes", "data.root=scenes", "data.train=9", "data.val=3", "data.test=2", "data.image_size=80", "data.workers=1"),
    *("data.minimum_count=1", "data.batch_size=3", "data.captions_per_image=1", "data.num_workers=0"),
    *("encoder.channels=[5,7]", "encoder.features=7", "encoder.coordinates=false", "encoder.blocks=[0,1]"),
    *("decoder.embedding_size=8", "decoder.hidden_size=12", "attention.score.attention_size=10", "transform.size=24"),
    *("trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "search.beams=2"),
    *("callbacks.early_stopping=null", "callbacks.progress=null", "threads=1"),
]
ENDED = "not killed, because the run was over"
CELLS = torch.zeros(3, 2)
OTHER_FILE_SYSTEM = Path("/dev/shm")


def append_note(line: str) -> None:
    """Note on disk, where a kill does not reach it, what has been written."""
    handle = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def note_calls(kind: type, method: str, line: Any) -> None:
    """After each call of the method, note the line that `line` returns for its arguments."""
    original = getattr(kind, method)

    def call(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        if text := line(*arguments):
            append_note(text)
        return result

    setattr(kind, method, call)


def start_process(folder: Path, temporary: Path, work: Callable[[], int]) -> int:
    """Fork a process that does `work` in `folder`; return its id."""
    child = os.fork()
    if child:
        return child
    os.chdir(folder)
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    note_calls(WholeCheckpoints, "save_checkpoint", lambda _, checkpoint, path: f"checkpoint {Path(path).name} {checkpoint['epoch']}")
    note_calls(ModelWriter, "on_validation_end", lambda *_: "model")
    note_calls(MetricsFile, "save", lambda file: f"row {file._row['step']}" if file._row else "")
    code = 3
    try:
        compute_features()
        code = work()
    finally:
        sys.stdout.flush()
        os._exit(code)


def compute_features() -> None:
    """Store the regions of a few photos."""
    for number in range(3):
        Image.new("RGB", (8, 8), (number * 40, 10, 20)).save(f"{number}.png")
    captions = CaptionSet(".", [f"{number}.png" for number in range(3)], range(3), [["x"]] * 3)
    open_or_build("outputs/features/store", captions, Transform(8), lambda pixels: Regions(pixels.flatten(2), CELLS), {}, "")


def new_run(composed: DictConfig) -> Callable[[], int]:
    """A run from its beginning. The command line is parsed once for all runs, which takes as long
    as a run."""

    def work() -> int:
        os.environ[STAMP] = composed.run_folder.rpartition("/")[2]
        return train.run(composed, None)

    return work


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def newest_run(folder: Path) -> Path | None:
    runs = sorted(path for path in (folder / "outputs" / "scenes").glob("*") if (path / "config.yaml").is_file())
    return runs[-1] if runs else None


def metrics_rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if "second" not in name} for row in csv.DictReader(file)]


def find_damage(folder: Path) -> list[str]:
    """What is wrong with the files that a kill left."""
    wrong = []
    notes = [line.split() for line in (folder / "notes").read_text().splitlines()] if (folder / "notes").is_file() else []
    run = newest_run(folder)
    if run is None:
        return ["nothing is left of a run that wrote files"] if notes else []
    OmegaConf.load(run / "config.yaml")
    epochs = {path.name: bundle.read_checkpoint(path)["epoch"] for path in run.glob("checkpoints/[!.]*.ckpt")}
    for name, epoch in [(line[1], int(line[2])) for line in notes if line[0] == "checkpoint"]:
        if epochs.get(name, -1) < epoch:
            wrong.append(f"{name} of epoch {epoch} is lost")
    steps = {row["step"] for row in metrics_rows(run)} if (run / "metrics.csv").is_file() else set()
    wrong += [f"the row of step {line[1]} is lost" for line in notes if line[0] == "row" and line[1] not in steps]
    if ["model"] in notes or (run / "model").exists():
        bundle.load(run / "model")
    if ["model"] in notes:
        json.loads((run / "results" / "captions_val.json").read_text())
        json.loads((run / "results" / "scores_val.json").read_text())
    for store in (folder / "outputs" / "features").glob("[!.]*"):
        FeatureStore(store)
    if (folder / "scenes").exists():
        for path in (folder / "scenes" / "annotations").iterdir():
            json.loads(path.read_text())
    return wrong


def run_state(run: Path) -> dict[str, Any]:
    """Everything that is equal in two equal runs."""
    state: dict[str, Any] = {"rows": metrics_rows(run), "model": (run / "model" / "model.safetensors").read_bytes()}
    for name in ("captions_val.json", "scores_val.json"):
        state[name] = (run / "results" / name).read_text()
    for name in ("best", "last"):
        checkpoint = bundle.read_checkpoint(run / "checkpoints" / f"{name}.ckpt")
        state[f"{name} epoch"] = checkpoint["epoch"]
        for key, value in checkpoint["state_dict"].items():
            state[f"{name} {key}"] = value
        for index, moments in checkpoint["optimizer_states"][0]["state"].items():
            state |= {f"{name} {index} {key}": value for key, value in moments.items()}
    return state


def different_keys(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else bool(a == b)

    return [key for key in one.keys() | other.keys() if key not in one or key not in other or not same(one[key], other[key])]


def run_trial(folder: Path, temporary: Path, moment: float, composed: DictConfig, straight: dict[str, Any]) -> tuple[str, list[str]]:
    """(when the kill came, what was wrong)."""
    child = start_process(folder, temporary, new_run(composed))
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    killed = exit_code(child) == -signal.SIGKILL
    try:
        wrong = find_damage(folder)
    except Exception as error:  # any error, by which a reader refuses a file that is not whole
        return "and left a file that is not whole", [f"{type(error).__name__}: {error}"]
    run = newest_run(folder)
    last = None if run is None else run / "checkpoints" / "last.ckpt"
    if last is not None and last.is_file():
        epoch = bundle.read_checkpoint(last)["epoch"] + 1
        when = f"after epoch {epoch}" if killed else ENDED
        words = ["train", f"resume={last.relative_to(folder)}", f"run_folder={run.relative_to(folder)}"]
        code = exit_code(start_process(folder, temporary, lambda: command(words)))
    else:
        when = "in epoch 1" if run else "before epoch 1"
        code = exit_code(start_process(folder, temporary, new_run(composed)))
    if code:
        return when, [*wrong, f"going on ended with exit code {code}: {(folder / 'log').read_text()[-400:]}"]
    after = newest_run(folder)
    assert after is not None
    wrong += [f"other than without a kill: {key}" for key in different_keys(straight, run_state(after))[:3]]
    hidden = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    return when, wrong + [f"left over: {name}" for name in hidden] + [f"left over: {path.name}" for path in temporary.iterdir()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng, when, failed = random.Random(options.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        (here / "straight").mkdir()
        os.chdir(here)
        composed, _ = train.configure([*WORDS, f"trainer.max_epochs={options.epochs}"])
        began = reported = time.monotonic()
        assert exit_code(start_process(here / "straight", here, new_run(composed))) == 0, (here / "straight" / "log").read_text()
        duration = time.monotonic() - began
        run = newest_run(here / "straight")
        assert run is not None
        straight = run_state(run)
        print(f"a run takes {duration:.1f} s", flush=True)
        number = killed = 0
        while killed < options.kills:
            number += 1
            base = str(OTHER_FILE_SYSTEM) if number % 2 and OTHER_FILE_SYSTEM.is_dir() else scratch
            with tempfile.TemporaryDirectory(dir=scratch) as folder, tempfile.TemporaryDirectory(dir=base) as temporary:
                moment, wrong = run_trial(Path(folder), Path(temporary), rng.uniform(0.0, duration), composed, straight)
            when[moment] += 1
            killed += moment != ENDED
            duration *= 0.9 if moment == ENDED else 1.01  # a machine that others use too is not always equally fast
            failed += bool(wrong)
            for line in wrong:
                print(f"trial {number}, killed {moment}: {line}", flush=True)
            if time.monotonic() - reported > 30:
                reported = time.monotonic()
                print(f"{killed} of {options.kills} kills, {failed} with something wrong", flush=True)
    print(f"{killed} kills, {failed} with something wrong; " + ", ".join(f"{count} {name}" for name, count in sorted(when.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
