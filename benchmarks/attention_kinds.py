"""Kinds of attention on the drawn scenes: the demo's recipe, steps and seeds, one thing changed at a time; mean and spread over seeds.

python benchmarks/attention_kinds.py [--kinds soft,hard,local,sparse,multi_head] [--seeds 0,1,2] [--out outputs/kinds] [--together 1]

Every run is a folder named after the kind, the seed and a sum of the recipe; finished ones are kept and a stopped one goes on from its
last epoch, so that the command can be stopped and started again. The soft run of seed 0 is the demo's.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from captioner.atomic_files import write_atomically
from captioner.json_files import read_json

KINDS = {
    "soft": [],
    "hard": ["attention=hard", "objective=hard"],
    "moving_average": ["attention=hard", "objective=hard", "objective/baseline=moving_average"],
    "self_critical": ["attention=hard", "objective=hard", "objective/baseline=self_critical"],
    "local": ["attention/locality=gaussian_window"],
    "sparse": ["attention/distribution=sparsemax"],
    "multi_head": ["attention=multi_head"],
    "entmax": ["attention/distribution=entmax15"],
    "additive": ["attention/score=additive"],
    "everywhere": ["attention/locality=everywhere"],
    "top_k": ["attention/readout=top_k"],
    "gumbel": ["attention/readout=gumbel"],
    "adaptive": ["attention=adaptive"],
}
"""Words of the command line beside those of the demo."""
COLUMNS = {
    "BLEU-4": "BLEU-4",
    "CIDEr": "CIDEr",
    "true": "captions true of their scene",
    "peak": "highest cell of an object word's map in its object's box",
    "named": "the same, of words that name something in the scene",
    "entropy": "of a word's map, as a share of an even one's",
    "seconds": "of training with validation (not x 100)",
}
RECIPE = ("seed", "data", "transform", "encoder", "decoder", "objective", "optimizer", "scheduler")
PROGRAM = Path(__file__).resolve()
LAST = Path("checkpoints", "last.ckpt")


def main() -> int:
    options = parser().parse_args()
    kinds, seeds = chosen(options.kinds), [int(seed) for seed in options.seeds.split(",")]
    if options.score:
        return measure(options.score)
    runs = {(kind, seed): folder_of(kind, seed, options.out) for seed in seeds for kind in kinds}
    done = [run for run in runs if (runs[run] / "kind.json").is_file()]
    print(f"{len(runs)} runs, {len(done)} of them finished before; {options.together} at a time", file=sys.stderr, flush=True)
    lock = threading.Lock()

    def go(run: tuple[str, int]) -> None:
        perform(*run, runs[run], options.together, lock)

    with ThreadPoolExecutor(options.together) as pool:
        for _ in pool.map(go, [run for run in runs if run not in done]):
            pass
    found = {run: read_json(folder / "kind.json", "a run's numbers") for run, folder in runs.items()}
    print(table(kinds, seeds, found))
    if {"soft", "hard"} <= set(kinds):
        print(held(found, seeds))
    return 0


def parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = asked.add_argument
    add("--kinds", default="soft,hard,local,sparse,multi_head", help=f"of {', '.join(KINDS)} (default: %(default)s)")
    add("--seeds", default="0,1,2", help="default: %(default)s")
    add("--out", type=Path, default=Path("outputs/kinds"), help="the folder of all runs (default: %(default)s)")
    add("--together", type=int, default=1, metavar="N", help="runs at a time, the cores shared among them (default: %(default)s)")
    add("--score", type=Path, help=argparse.SUPPRESS)
    return asked


def chosen(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in KINDS:
            sys.exit(f"--kinds: there is no {name!r}; choose from {', '.join(KINDS)}")
    return names


def words(kind: str, seed: int) -> list[str]:
    return ["experiment=scenes", *KINDS[kind], f"seed={seed}"]


def mark(words: Sequence[str]) -> str:
    """Of all that decides what is learnt, so that a run of another recipe is never taken for this one's."""
    from captioner.training.configuration import compose_run, plain

    config = plain(compose_run(words))
    recipe = {name: config[name] for name in RECIPE} | {"epochs": config["trainer"]["max_epochs"]}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]


def folder_of(kind: str, seed: int, out: Path) -> Path:
    return out / f"{kind}_{seed}_{mark(words(kind, seed))}"


def kept(kind: str, seed: int, out: Path) -> Path:
    """The folder of a run, trained and measured now where that was not done before."""
    folder = folder_of(kind, seed, out)
    if not (folder / "kind.json").is_file():
        perform(kind, seed, folder, 1, threading.Lock())
    return folder


def perform(kind: str, seed: int, folder: Path, together: int, lock: threading.Lock) -> None:
    """Train (or go on), then measure in a process of its own."""
    resumed = (folder / LAST).is_file()
    began = time.perf_counter()
    train(words(kind, seed), folder, together)
    seconds = time.perf_counter() - began
    call([str(PROGRAM), "--score", str(folder)], folder, together)
    numbers = {**read_json(folder / "results" / "held.json", "a run's numbers"), "resumed": resumed}
    write_atomically(folder / "kind.json", json.dumps({**numbers, "seconds": round(seconds, 1)}, indent=1) + "\n")
    with lock:
        print(f"{kind} {seed}: CIDEr {100 * numbers['CIDEr']:.1f}, {seconds:.0f} s", file=sys.stderr, flush=True)


def train(words: Sequence[str], folder: Path, together: int) -> None:
    """Train into `folder` what `words` say, or go on from its last epoch, on this process's share of the cores."""
    command = [f"resume={folder / LAST}"] if (folder / LAST).is_file() else [*words, f"run_folder={folder}", "callbacks.writer.latest=null"]
    call(["-m", "captioner.cli.main", "train", *command], folder, together)


def call(command: Sequence[str], folder: Path, together: int) -> None:
    """Run Python with `command`; what it prints goes to a log beside `folder`. Raises: CalledProcessError, it failed."""
    settings = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // together))}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.log").open("a") as told:
        subprocess.run([sys.executable, *command], env=settings, stdout=told, stderr=told, check=True)


def measure(folder: Path) -> int:
    """Caption the validation scenes by a beam of 3 and hold captions and maps against what was drawn."""
    from captioner.cli.demo import drawn, held_to_truth
    from captioner.cli.train import configure
    from captioner.model import Captioner

    source = drawn(configure(["experiment=scenes"])[0])
    scored = held_to_truth(Captioner.load(folder), source.splits()["val"], source.scenes["val"], beam=3)
    numbers = {
        **scored.corpus,
        "true": scored.truth["true"],
        "peak": scored.pointing["peak"],
        "named": scored.named["peak"],
        "entropy": scored.health.entropy,
    }
    write_atomically(folder / "results" / "held.json", json.dumps(numbers, indent=1) + "\n")
    return 0


def spread(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan")


def table(kinds: Sequence[str], seeds: Sequence[int], found: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """A row a kind: mean and sample standard deviation over seeds, x 100 but for the seconds."""
    lines = [f"\nval, beam 3, mean ± standard deviation over {len(seeds)} seeds (x 100, seconds aside)"]
    lines.append(f"{'kind':<12}" + "".join(f"{column:>16}" for column in COLUMNS))
    for kind in kinds:
        cells = []
        for column in COLUMNS:
            scale = 1 if column == "seconds" else 100
            mean, deviation = spread([scale * float(found[kind, seed][column]) for seed in seeds])
            cells.append(f"{mean:8.1f} ± {deviation:5.1f}")
        lines.append(f"{kind:<12}" + "".join(cells))
    return "\n".join([*lines, *(f"  {column}: {meaning}" for column, meaning in COLUMNS.items() if column != meaning)])


def held(found: Mapping[tuple[str, int], Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """Hard beside soft, seed by seed averaged."""

    def mean(kind: str, column: str) -> float:
        return statistics.fmean(float(found[kind, seed][column]) for seed in seeds)

    return (
        f"\nhard beside soft: CIDEr {100 * mean('hard', 'CIDEr') / mean('soft', 'CIDEr'):.1f} % of soft's; "
        f"entropy {100 * mean('hard', 'entropy'):.1f} against {100 * mean('soft', 'entropy'):.1f}; "
        f"pointing {100 * (mean('hard', 'peak') - mean('soft', 'peak')):+.1f} points; "
        f"longest run {max(float(numbers['seconds']) for numbers in found.values()):.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
