"""Commands set OpenMP's waiting before torch is loaded, and use the cores that are free."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from captioner import processor
from captioner.processor import CpuTimes, core_limit, default_threads, free_cores, set_threads

ROOT = Path(__file__).resolve().parent.parent
COMMAND = """
import os, sys, types
stand_in = types.ModuleType("captioner.cli.evaluate")
stand_in.main = lambda arguments: print("torch" in sys.modules, os.environ["OMP_WAIT_POLICY"])
sys.modules["captioner.cli.evaluate"] = stand_in
from captioner.cli.main import main
main(["evaluate"])
"""
LIBRARY = "import os, captioner, captioner.model, captioner.cli.main; print(os.environ.get('OMP_WAIT_POLICY'))"


def run(program: str, **setting: str) -> str:
    others = {name: value for name, value in os.environ.items() if name not in (*processor.ENVIRONMENT, *processor.MALLOC_VARIABLES)}
    environment = {**others, "PYTHONPATH": str(ROOT), **setting}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_a_command_makes_waiting_threads_sleep_before_torch_is_loaded() -> None:
    assert run(COMMAND) == "False PASSIVE"


def test_the_setting_of_the_user_wins() -> None:
    assert run(COMMAND, OMP_WAIT_POLICY="ACTIVE") == "False ACTIVE"


def test_nothing_is_set_where_the_package_is_a_library() -> None:
    assert run(LIBRARY) == "None"


MEMORY = """
import resource
def faults_of_second_tensor():
    size, before = 2**26, 0
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        memory = bytearray(size)
        del memory
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
ASK_AGAIN = (
    MEMORY + "import captioner.processor as p; print(p.keep_freed_memory(), faults_of_second_tensor() * resource.getpagesize() < 2**24)"
)


@pytest.mark.skipif(not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""), reason="not glibc")
def test_memory_that_was_freed_is_used_again_without_asking_the_system() -> None:
    """64 MiB twice: the second time the pages are there already. A user's own arrangement stays."""
    assert run(ASK_AGAIN) == "True True"
    assert run(ASK_AGAIN, MALLOC_TRIM_THRESHOLD_="131072") == "False False"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """A machine of so many cores, and how much of its processor time was idle or this process's."""

    def arrange(cores: int, seconds: float, idle: float | None, process: float) -> CpuTimes:
        monkeypatch.setattr(processor, "usable_cores", lambda: set(range(cores)))
        monkeypatch.setattr(processor, "CPU_MAX", Path("no such file"))
        monkeypatch.setattr(
            processor, "read_cpu_times", lambda: CpuTimes(1000.0 + seconds, None if idle is None else 70.0 + idle, 5.0 + process)
        )
        monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + seconds)
        return CpuTimes(1000.0, None if idle is None else 70.0, 5.0)

    return arrange


@pytest.mark.parametrize(
    ("cores", "seconds", "idle", "process", "free"),
    [
        (2, 10.0, 10.0, 10.0, 2),  # this process alone keeps one core busy
        (2, 10.0, 0.2, 9.8, 1),  # another program has the second core
        (2, 10.0, 0.0, 5.0, 1),  # others want more than there is: still one
        (5, 4.0, 13.0, 3.0, 4),
        (3, 2.0, 9.0, 0.0, 3),  # clocks that disagree never give more cores than there are
    ],
)
def test_free_cores_are_those_that_other_programs_leave(
    machine, cores: int, seconds: float, idle: float, process: float, free: int
) -> None:
    assert free_cores(machine(cores, seconds, idle, process)) == free


def test_every_core_counts_as_free_where_the_system_counts_no_idle_time(machine) -> None:
    assert free_cores(machine(7, 3.0, None, 1.0)) == 7


def test_a_core_that_another_program_uses_is_not_free() -> None:
    """On the real clocks: a reading after a while counts at most as much idle time as went by."""
    before = processor.read_cpu_times()
    assert 1 <= free_cores(before) <= core_limit()
    after = processor.read_cpu_times()
    if before.idle is not None and after.idle is not None:
        assert -0.05 <= after.idle - before.idle <= len(processor.usable_cores()) * (after.now - before.now) + 0.05


@pytest.mark.parametrize(("quota", "limit"), [("150000 100000\n", 2), ("max 100000\n", 5), ("20000 100000\n", 1), ("nonsense", 5)])
def test_a_container_may_use_what_its_quota_allows(
    machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, limit: int
) -> None:
    machine(5, 1.0, 5.0, 0.0)
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(processor, "CPU_MAX", tmp_path / "cpu.max")
    assert core_limit() == limit


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch):
    """Torch with some number of threads; the list gets the numbers that are set afterwards."""
    numbers: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    for name in processor.THREAD_VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def have(number: int) -> list[int]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: number)
        return numbers

    return have


def test_threads_follow_the_free_cores_and_never_rise(machine, threads, monkeypatch: pytest.MonkeyPatch) -> None:
    threads(5)
    machine(5, 10.0, 28.0, 2.0)
    monkeypatch.setattr(processor, "free_cores", lambda: 3)
    assert default_threads() == 3
    threads(2)
    assert default_threads() == 2


def test_a_number_that_the_user_has_set_stays(threads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setattr(processor, "free_cores", lambda: 1)
    threads(4)
    assert default_threads() == 4


def test_more_threads_than_cores_are_not_used_and_a_line_says_so(machine, threads, caplog: pytest.LogCaptureFixture) -> None:
    machine(2, 1.0, 2.0, 0.0)
    numbers = threads(2)
    with caplog.at_level(logging.WARNING, "captioner"):
        assert set_threads(32) == 2
    assert numbers == [2]
    assert "threads=32: this machine has 2 cores" in caplog.text
    assert set_threads(1) == 1
