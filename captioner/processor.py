"""How our commands use the processor: settings that torch reads when it is loaded, and how many threads are worth having.

Only commands call this: a program that imports the package as a library keeps its own settings.
"""

import logging
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

SETTINGS = {
    # Threads of OpenMP that wait for work sleep. By default they spin, and where another program uses their core, they take the time that
    # the working thread needs: `python benchmarks/threads.py` measures it.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Captions end at different steps, so that products of many sizes come again and again: with the usual 1,024 kept, a step of training
    # on a processor takes a tenth longer, for a hundred megabytes less.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
}
"""Environment variable -> the value that our commands prefer."""
CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that say how many threads torch takes: where one is set, it decides."""
SHORT_WAIT = "1000"
"""Turns, microseconds in all, that a thread of GNU's OpenMP looks for work before it sleeps: to be woken takes longer than many a gap.

`python benchmarks/threads.py`'s step, two threads: 63 ms with the usual spinning, 104 where threads sleep at once, 74 with this, cores
free; 144 to 207, 107 and 138 beside one busy program.
"""
STATISTICS, QUOTA = Path("/proc/stat"), Path("/sys/fs/cgroup/cpu.max")
SHORTEST = 0.25
"""Seconds that are needed to tell a busy core from a free one; the kernel counts in hundredths of a second."""


class Clocks(NamedTuple):
    """A reading of the clocks of the processor and of this process, in seconds."""

    now: float
    idle: float | None
    """Idle seconds of the cores that this process may use, summed; None where the system does not tell."""
    own: float
    """Processor seconds of this process and of its children that have ended."""


def prepare() -> None:
    """Set what torch reads when it is loaded; a value that the user has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SHORT_WAIT)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def usable_cores() -> set[int]:
    """The numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def core_limit() -> int:
    """How many cores this process may use at once: the usable ones, or what a container's quota allows of them, rounded up."""
    cores = len(usable_cores())
    try:
        quota, period = QUOTA.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or the word "max"
        return cores


def read_clocks() -> Clocks:
    """The clocks now; two readings tell how much of the processor others have used between them."""
    times = os.times()
    return Clocks(time.monotonic(), _idle_seconds(usable_cores()), times.user + times.system + times.children_user + times.children_system)


def _idle_seconds(cores: set[int]) -> float | None:
    """Sum over `cores` of the idle and the input-waiting time that Linux counts in /proc/stat (proc(5)); None elsewhere."""
    try:
        lines = STATISTICS.read_text(encoding="ascii").splitlines()
        rows = {line.split()[0]: line.split() for line in lines if line.startswith("cpu")}
        return sum(int(rows[f"cpu{core}"][4]) + int(rows[f"cpu{core}"][5]) for core in cores) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, KeyError, IndexError, AttributeError):
        return None


STARTED = read_clocks()
"""When this process began, near enough."""


def free_cores(before: Clocks = STARTED) -> int:
    """How many cores other programs have left free for this process since `before`: at least 1, at most `core_limit()`.

        free = (idle seconds + this process's own seconds) / seconds that have passed, rounded

    Where the system does not count idle time, all cores are taken to be free. Sleeps where `before` was less than a quarter of a second
    ago.
    """
    if before.idle is None:
        return core_limit()
    time.sleep(max(0.0, SHORTEST - (time.monotonic() - before.now)))
    after = read_clocks()
    if after.idle is None:
        return core_limit()
    free = (after.idle - before.idle + after.own - before.own) / (after.now - before.now)
    return max(1, min(core_limit(), round(free)))


def chosen_threads() -> int:
    """The number of threads that torch should have: as many as there are free cores, never more than it has already.

    What the user has set by OMP_NUM_THREADS or MKL_NUM_THREADS stays.
    """
    import torch

    now = torch.get_num_threads()
    if now == 1 or any(name in os.environ for name in CHOSEN_BY_USER):
        return now
    return min(now, free_cores())


def use_threads(wanted: int | None = None) -> int:
    """Give torch that many threads, or where None is wanted, one for each free core. Returns the number, at most `core_limit()`."""
    import torch

    number = chosen_threads() if wanted is None else wanted
    if number > core_limit():
        log.warning("threads=%d: this machine has %d cores, and as many are used; last digits may differ", number, core_limit())
        number = core_limit()
    torch.set_num_threads(number)
    return number
