"""Kill a small training at random moments, look at what is left, go on, and compare with the run that was never killed.

    python benchmarks/kills.py --kills 1000

Each trial is a fork of this process, which has imported everything: it draws scenes, computes features, and trains three epochs.
SIGKILL comes at a moment drawn at random. Every second trial has its temporary folder on another file system (/dev/shm). Then:

- what had been written before is still there: checkpoints of that epoch or a later one, the model, every row of metrics.csv
- every file that has a name is whole: checkpoints and the model hold to their checksums, JSON and YAML can be read
- the run that goes on (resume= where there is a checkpoint, the same words again where there is none) ends bit for bit as the one
  that was never killed: weights, moments of the optimizer, model, captions, scores, rows but for their times
- no temporary file is left after it

Exit code 1 where one of these does not hold.
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

from captioner import bundle
from captioner.cli import train
from captioner.cli.main import main as command
from captioner.data.cache import FeatureStore, open_or_build
from captioner.data.captions import CaptionSet
from captioner.data.transforms import Transform
from captioner.records import Regions
from captioner.training import run  # noqa: F401  everything that a run imports
from captioner.training.checkpoint_io import WholeCheckpoints
from captioner.training.folder import STAMP
from captioner.training.metrics_file import MetricsFile
from captioner.training.writer import ModelWriter

WORDS = [
    *("data=scenes", "data.root=scenes", "data.train=9", "data.val=3", "data.test=2", "data.image_size=80", "data.workers=1"),
    *("data.minimum_count=1", "data.batch_size=3", "data.captions_per_image=1", "data.num_workers=0"),
    *("encoder.channels=[5,7]", "encoder.features=7", "encoder.coordinates=false", "encoder.blocks=[0,1]"),
    *("decoder.embedding_size=8", "decoder.hidden_size=12", "attention.score.attention_size=10", "transform.size=24"),
    *("trainer.accelerator=cpu", "trainer.log_every_n_steps=1", "search.beams=2"),
    *("callbacks.early_stopping=null", "callbacks.progress=null", "threads=1"),
]
ENDED = "not killed, for the run was over"
CELLS = torch.zeros(3, 2)
ELSEWHERE = Path("/dev/shm")


def note(line: str) -> None:
    """Remember, past a kill, what had been written."""
    handle = os.open("noted", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{line}\n".encode())
    os.close(handle)


def noting(kind: type, method: str, line: Any) -> None:
    """After each call of the method, note what `line` makes of its arguments."""
    called = getattr(kind, method)

    def call(*given: Any, **named: Any) -> Any:
        found = called(*given, **named)
        if told := line(*given):
            note(told)
        return found

    setattr(kind, method, call)


def begin(folder: Path, temporary: Path, work: Callable[[], int]) -> int:
    """Fork a run in `folder`; its process id."""
    child = os.fork()
    if child:
        return child
    os.chdir(folder)
    os.environ["TMPDIR"] = str(temporary)
    tempfile.tempdir = None
    log = os.open("log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    noting(WholeCheckpoints, "save_checkpoint", lambda _, checkpoint, path: f"checkpoint {Path(path).name} {checkpoint['epoch']}")
    noting(ModelWriter, "on_validation_end", lambda *_: "model")
    noting(MetricsFile, "save", lambda file: f"row {file._row['step']}" if file._row else "")
    code = 3
    try:
        features()
        code = work()
    finally:
        sys.stdout.flush()
        os._exit(code)


def features() -> None:
    """Regions of a few photos, computed once and kept."""
    for number in range(3):
        Image.new("RGB", (8, 8), (number * 40, 10, 20)).save(f"{number}.png")
    captions = CaptionSet(".", [f"{number}.png" for number in range(3)], range(3), [["x"]] * 3)
    open_or_build("outputs/features/store", captions, Transform(8), lambda pixels: Regions(pixels.flatten(2), CELLS), {}, "")


def anew(composed: DictConfig) -> Callable[[], int]:
    """A run from its beginning. The command line is read once for all of them, which takes as long as the run."""

    def work() -> int:
        os.environ[STAMP] = composed.run_folder.rpartition("/")[2]
        return train.run(composed, None)

    return work


def end(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_of(folder: Path) -> Path | None:
    """The newest run that was begun there."""
    runs = sorted(path for path in (folder / "outputs" / "scenes").glob("*") if (path / "config.yaml").is_file())
    return runs[-1] if runs else None


def rows(found: Path) -> list[dict[str, str]]:
    with (found / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if "second" not in name} for row in csv.DictReader(file)]


def look(folder: Path) -> list[str]:
    """What is wrong with the files that a kill left."""
    wrong = []
    noted = [line.split() for line in (folder / "noted").read_text().splitlines()] if (folder / "noted").is_file() else []
    found = run_of(folder)
    if found is None:
        return ["nothing is there of a run that wrote"] if noted else []
    OmegaConf.load(found / "config.yaml")
    epochs = {path.name: bundle.read_checkpoint(path)["epoch"] for path in found.glob("checkpoints/[!.]*.ckpt")}
    for name, epoch in [(line[1], int(line[2])) for line in noted if line[0] == "checkpoint"]:
        if epochs.get(name, -1) < epoch:
            wrong.append(f"{name} of epoch {epoch} is lost")
    steps = {row["step"] for row in rows(found)} if (found / "metrics.csv").is_file() else set()
    wrong += [f"the row of step {line[1]} is lost" for line in noted if line[0] == "row" and line[1] not in steps]
    if ["model"] in noted or (found / "model").exists():
        bundle.load(found / "model")
    if ["model"] in noted:
        json.loads((found / "results" / "captions_val.json").read_text())
        json.loads((found / "results" / "scores_val.json").read_text())
    for store in (folder / "outputs" / "features").glob("[!.]*"):
        FeatureStore(store)
    if (folder / "scenes").exists():
        for path in (folder / "scenes" / "annotations").iterdir():
            json.loads(path.read_text())
    return wrong


def state(found: Path) -> dict[str, Any]:
    """All that two runs that are the same have in common."""
    held: dict[str, Any] = {"rows": rows(found), "model": (found / "model" / "model.safetensors").read_bytes()}
    for name in ("captions_val.json", "scores_val.json"):
        held[name] = (found / "results" / name).read_text()
    for name in ("best", "last"):
        checkpoint = bundle.read_checkpoint(found / "checkpoints" / f"{name}.ckpt")
        held[f"{name} epoch"] = checkpoint["epoch"]
        for key, value in checkpoint["state_dict"].items():
            held[f"{name} {key}"] = value
        for index, moments in checkpoint["optimizer_states"][0]["state"].items():
            held |= {f"{name} {index} {key}": value for key, value in moments.items()}
    return held


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else bool(a == b)

    return [key for key in one.keys() | other.keys() if key not in one or key not in other or not same(one[key], other[key])]


def trial(folder: Path, temporary: Path, moment: float, composed: DictConfig, straight: dict[str, Any]) -> tuple[str, list[str]]:
    """(when the kill came, what was wrong)."""
    child = begin(folder, temporary, anew(composed))
    time.sleep(moment)
    os.kill(child, signal.SIGKILL)
    killed = end(child) == -signal.SIGKILL
    try:
        wrong = look(folder)
    except Exception as error:  # whatever a file that is not whole makes its reader raise
        return "and left a file that is not whole", [f"{type(error).__name__}: {error}"]
    found = run_of(folder)
    last = None if found is None else found / "checkpoints" / "last.ckpt"
    if last is not None and last.is_file():
        epoch = bundle.read_checkpoint(last)["epoch"] + 1
        when = f"after epoch {epoch}" if killed else ENDED
        words = ["train", f"resume={last.relative_to(folder)}", f"run_folder={found.relative_to(folder)}"]
        code = end(begin(folder, temporary, lambda: command(words)))
    else:
        when = "in epoch 1" if found else "before epoch 1"
        code = end(begin(folder, temporary, anew(composed)))
    if code:
        return when, [*wrong, f"going on ended with exit code {code}: {(folder / 'log').read_text()[-400:]}"]
    after = run_of(folder)
    assert after is not None
    wrong += [f"not as without a kill: {key}" for key in differing(straight, state(after))[:3]]
    hidden = [str(path.relative_to(folder)) for path in folder.rglob(".*")]
    return when, wrong + [f"left over: {name}" for name in hidden] + [f"left over: {path.name}" for path in temporary.iterdir()]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--kills", type=int, default=1000)
    asked.add_argument("--epochs", type=int, default=3)
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()
    torch.set_num_threads(1)
    rng, when, failed = random.Random(options.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        (here / "straight").mkdir()
        os.chdir(here)
        composed, _ = train.configure([*WORDS, f"trainer.max_epochs={options.epochs}"])
        began = told = time.monotonic()
        assert end(begin(here / "straight", here, anew(composed))) == 0, (here / "straight" / "log").read_text()
        lasts = time.monotonic() - began
        found = run_of(here / "straight")
        assert found is not None
        straight = state(found)
        print(f"a run takes {lasts:.1f} s", flush=True)
        number = killed = 0
        while killed < options.kills:
            number += 1
            base = str(ELSEWHERE) if number % 2 and ELSEWHERE.is_dir() else scratch
            with tempfile.TemporaryDirectory(dir=scratch) as folder, tempfile.TemporaryDirectory(dir=base) as temporary:
                moment, wrong = trial(Path(folder), Path(temporary), rng.uniform(0.0, lasts), composed, straight)
            when[moment] += 1
            killed += moment != ENDED
            lasts *= 0.9 if moment == ENDED else 1.01  # a machine that others use too is not always as quick
            failed += bool(wrong)
            for line in wrong:
                print(f"trial {number}, killed {moment}: {line}", flush=True)
            if time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{killed} of {options.kills} kills, {failed} with something wrong", flush=True)
    print(f"{killed} kills, {failed} with something wrong; " + ", ".join(f"{count} {name}" for name, count in sorted(when.items())))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
