"""Some fuzzed inputs hold the law of every command (driver.py); `python tests/fuzz --cases 2000` runs more of them."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from driver import run_case
from targets import TARGETS, reproduction, share
from world import World, make_world

CASES = int(os.environ.get("CAPTIONER_FUZZ_CASES", "150"))
READ = "data has no split 'nothing'"
"""Ends a training, by validation.split=nothing, whose data were read whole."""
SEED = int(os.environ.get("CAPTIONER_FUZZ_SEED", "0"))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("fuzz") / "world")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_typed_or_read_ends_in_results_or_in_one_line_that_names_what_is_wrong(name: str, world: World) -> None:
    codes: Counter[int | None] = Counter()
    reached = 0
    for number in range(share(name, CASES)):
        outcome = run_case(name, TARGETS[name], world, SEED, number)
        codes[outcome.code] += 1
        reached += outcome.code != 2 or READ in outcome.err
        told = "\n".join(outcome.broken)
        assert not outcome.broken, f"{reproduction(name, SEED, number)}\n{outcome.words!r}\n{told}\n-- standard error\n{outcome.err}"
    assert codes.keys() <= {0, 1, 2}
    assert codes[2], "no case was refused: nothing was tried"
    assert reached, "every case was refused: little was reached"


def test_a_case_is_the_same_case_again_by_its_seed(world: World, tmp_path: Path) -> None:
    for name, make in TARGETS.items():
        found = []
        for attempt in ("one", "other"):
            outcome = run_case(name, make, world, SEED, 3, keep=tmp_path / f"{name}-{attempt}")
            found.append((outcome.words, outcome.code))
        assert found[0] == found[1]
