"""Kinds of attention on the drawn scenes: the demo's recipe with one thing changed; mean and
standard deviation over seeds.

python benchmarks/attention_kinds.py [--kinds soft,hard,local,sparse,multi_head] [--seeds 0,1,2]
                                     [--out outputs/kinds] [--parallel 1]

A run's folder is named after the kind, the seed and a hash of the recipe. Finished runs are kept,
and a stopped run goes on from its last epoch, so the command can be stopped and started again. The
soft run of seed 0 is the demo's.
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
"""Overrides in addition to those of the demo."""
COLUMNS = {
    "BLEU-4": "BLEU-4",
    "CIDEr": "CIDEr",
    "true": "captions true of their scene",
    "peak": "highest cell of an object word's map in its object's box",
    "named": "the same, of words that name something in the scene",
    "entropy": "of a word's map, as a share of a uniform map's",
    "seconds": "of training with validation (not x 100)",
}
RECIPE = ("seed", "data", "transform", "encoder", "decoder", "objective", "optimizer", "scheduler")
PROGRAM = Path(__file__).resolve()
LAST = Path("checkpoints", "last.ckpt")


def main() -> int:
    options = parser().parse_args()
    kinds, seeds = parse_kinds(options.kinds), [int(seed) for seed in options.seeds.split(",")]
    if options.score:
        return score_run(options.score)
    runs = {(kind, seed): run_folder(kind, seed, options.out) for seed in seeds for kind in kinds}
    done = [run for run in runs if (runs[run] / "kind.json").is_file()]
    print(f"{len(runs)} runs, {len(done)} of them finished before; {options.parallel} at a time", file=sys.stderr, flush=True)
    lock = threading.Lock()

    def train_and_score_run(run: tuple[str, int]) -> None:
        train_and_score(*run, runs[run], options.parallel, lock)

    with ThreadPoolExecutor(options.parallel) as pool:
        list(pool.map(train_and_score_run, [run for run in runs if run not in done]))
    numbers = {run: read_json(folder / "kind.json", "a run's numbers") for run, folder in runs.items()}
    print(table(kinds, seeds, numbers))
    if {"soft", "hard"} <= set(kinds):
        print(hard_beside_soft(numbers, seeds))
    return 0


def parser() -> argparse.ArgumentParser:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = program.add_argument
    add("--kinds", default="soft,hard,local,sparse,multi_head", help=f"some of {', '.join(KINDS)} (default: %(default)s)")
    add("--seeds", default="0,1,2", help="default: %(default)s")
    add("--out", type=Path, default=Path("outputs/kinds"), help="the folder of all runs (default: %(default)s)")
    add("--parallel", type=int, default=1, metavar="N", help="runs at a time, which share the cores (default: %(default)s)")
    add("--score", type=Path, help=argparse.SUPPRESS)
    return program


def parse_kinds(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in KINDS:
            sys.exit(f"--kinds: {name!r} is none of {', '.join(KINDS)}")
    return names


def overrides(kind: str, seed: int) -> list[str]:
    return ["experiment=scenes", *KINDS[kind], f"seed={seed}"]


def recipe_hash(words: Sequence[str]) -> str:
    """Of everything that decides what is learnt, so that a run of another recipe is never used for
    this one."""
    from captioner.training.configuration import compose_run, plain

    config = plain(compose_run(words))
    recipe = {name: config[name] for name in RECIPE} | {"epochs": config["trainer"]["max_epochs"]}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:8]


def run_folder(kind: str, seed: int, out: Path) -> Path:
    return out / f"{kind}_{seed}_{recipe_hash(overrides(kind, seed))}"


def finished_run(kind: str, seed: int, out: Path) -> Path:
    """The folder of a run, which is trained and scored now if that was not done before."""
    folder = run_folder(kind, seed, out)
    if not (folder / "kind.json").is_file():
        train_and_score(kind, seed, folder, 1, threading.Lock())
    return folder


def train_and_score(kind: str, seed: int, folder: Path, parallel: int, lock: threading.Lock) -> None:
    """Train (or go on), then score in another process."""
    resumed = (folder / LAST).is_file()
    began = time.perf_counter()
    train(overrides(kind, seed), folder, parallel)
    seconds = time.perf_counter() - began
    run_python([str(PROGRAM), "--score", str(folder)], folder, parallel)
    numbers = {**read_json(folder / "results" / "scene_scores.json", "a run's numbers"), "resumed": resumed}
    write_atomically(folder / "kind.json", json.dumps({**numbers, "seconds": round(seconds, 1)}, indent=1) + "\n")
    with lock:
        print(f"{kind} {seed}: CIDEr {100 * numbers['CIDEr']:.1f}, {seconds:.0f} s", file=sys.stderr, flush=True)


def train(words: Sequence[str], folder: Path, parallel: int) -> None:
    """Train the run of these overrides in `folder`, or go on from its last epoch, on this process's
    share of the cores."""
    command = [f"resume={folder / LAST}"] if (folder / LAST).is_file() else [*words, f"run_folder={folder}", "callbacks.writer.latest=null"]
    run_python(["-m", "captioner.cli.main", "train", *command], folder, parallel)


def run_python(command: Sequence[str], folder: Path, parallel: int) -> None:
    """Run Python with these arguments; its output goes to a log beside `folder`. Raises:
    CalledProcessError, it failed."""
    settings = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // parallel))}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.log").open("a") as output:
        subprocess.run([sys.executable, *command], env=settings, stdout=output, stderr=output, check=True)


def score_run(folder: Path) -> int:
    """Caption the validation scenes with a beam of 3, and compare captions and maps with what was
    drawn."""
    from captioner.cli.demo import scenes_source
    from captioner.cli.searching import with_beam_width
    from captioner.cli.train import configure
    from captioner.model import Captioner
    from captioner.scenes.scoring import score_split

    source = scenes_source(configure(["experiment=scenes"])[0])
    captioner = Captioner.load(folder)
    scored = score_split(captioner, source.splits()["val"], source.scenes["val"], with_beam_width(captioner.search, 3))
    numbers = {
        **scored.corpus,
        "true": scored.truth["true"],
        "peak": scored.pointing["peak"],
        "named": scored.named["peak"],
        "entropy": scored.health.entropy,
    }
    write_atomically(folder / "results" / "scene_scores.json", json.dumps(numbers, indent=1) + "\n")
    return 0


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan")


def table(kinds: Sequence[str], seeds: Sequence[int], numbers: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """One row per kind: mean and sample standard deviation over seeds, x 100, except the
    seconds."""
    lines = [f"\nval, beam 3, mean ± standard deviation over {len(seeds)} seeds (x 100, except the seconds)"]
    lines.append(f"{'kind':<12}" + "".join(f"{column:>16}" for column in COLUMNS))
    for kind in kinds:
        cells = []
        for column in COLUMNS:
            scale = 1 if column == "seconds" else 100
            mean, deviation = mean_and_deviation([scale * float(numbers[kind, seed][column]) for seed in seeds])
            cells.append(f"{mean:8.1f} ± {deviation:5.1f}")
        lines.append(f"{kind:<12}" + "".join(cells))
    return "\n".join([*lines, *(f"  {column}: {meaning}" for column, meaning in COLUMNS.items() if column != meaning)])


def hard_beside_soft(numbers: Mapping[tuple[str, int], Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """A line that compares the means of hard and soft attention over seeds."""

    def mean(kind: str, column: str) -> float:
        return statistics.fmean(float(numbers[kind, seed][column]) for seed in seeds)

    return (
        f"\nhard beside soft: CIDEr {100 * mean('hard', 'CIDEr') / mean('soft', 'CIDEr'):.1f} % of soft's; "
        f"entropy {100 * mean('hard', 'entropy'):.1f} and {100 * mean('soft', 'entropy'):.1f}; "
        f"pointing {100 * (mean('hard', 'peak') - mean('soft', 'peak')):+.1f} points; "
        f"longest run {max(float(run['seconds']) for run in numbers.values()):.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
