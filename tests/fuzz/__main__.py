"""Fuzzed command lines, annotations, tables, model folders and images: `python tests/fuzz --cases 2000 --seed 1`.

A line each half minute says how far it is; the end counts the cases by target and exit code. Exits with 1 where the law was broken
(driver.py tells it). One case again, with what it prints: `python tests/fuzz --target caption_tables --seed 1 --case 17 --keep FOLDER`.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from driver import Outcome, run_case
from targets import TARGETS, reproduction, share
from world import World, make_world


def main() -> int:
    asked = argparse.ArgumentParser("python tests/fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--cases", type=int, default=2000, help="of all targets together")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--target", choices=TARGETS, help="only this one")
    asked.add_argument("--case", type=int, help="only this number, and show what it prints")
    asked.add_argument("--keep", type=Path, help="with --case: leave its folder here")
    options = asked.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        (Path(folder) / "world").mkdir()
        world = make_world(Path(folder) / "world")
        if options.case is not None:
            return show(run_case(options.target, TARGETS[options.target], world, options.seed, options.case, options.keep))
        return run_all(world, [options.target] if options.target else list(TARGETS), options.cases, options.seed)


def show(outcome: Outcome) -> int:
    print(f"words: {outcome.words!r}\nexit code: {outcome.code}\n-- standard output\n{outcome.out}\n-- standard error\n{outcome.err}")
    print("\n".join(f"BROKEN: {what}" for what in outcome.broken))
    return bool(outcome.broken)


def run_all(world: World, targets: list[str], cases: int, seed: int) -> int:
    counts: Counter[tuple[str, str]] = Counter()
    said = began = time.monotonic()
    for name in targets:
        for number in range(cases if len(targets) == 1 else share(name, cases)):
            outcome = run_case(name, TARGETS[name], world, seed, number)
            counts[name, "BROKEN" if outcome.broken else str(outcome.code)] += 1
            for what in outcome.broken:
                print(f"{reproduction(name, seed, number)}\n  {outcome.words!r}\n  {what}", flush=True)
            if time.monotonic() - said > 30:
                said = time.monotonic()
                print(f"{said - began:.0f} s: {counts.total()} of {cases} cases, now {name}", flush=True)
    print(f"{counts.total()} cases, seed {seed}, {time.monotonic() - began:.0f} s")
    for name in targets:
        codes = ", ".join(f"{code}: {count}" for (target, code), count in sorted(counts.items()) if target == name)
        print(f"  {name:<18}exit codes {codes}")
    return int(any(code == "BROKEN" for _, code in counts))


if __name__ == "__main__":
    sys.exit(main())
