"""How our commands use the processor: settings of torch, and its number of threads.

Only commands call this: a program that imports the package as a library keeps its own settings.
"""

import ctypes
import logging
import math
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

ENVIRONMENT = {
    # Threads of OpenMP that wait for work sleep. By default they spin, and where another program
    # uses their core, they take the time that the working thread needs: `python
    # benchmarks/threads.py` measures it.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Captions end at different steps, so products of many sizes come again and again: with the
    # default of 1,024 cached ones, a training step on a processor takes a tenth longer, for a
    # hundred megabytes less.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
}
"""Environment variable -> the value that our commands prefer."""
MALLOC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
"""Environment variables by which a user arranges glibc's allocator."""
MALLOC_OPTIONS = {-3: 2**30, -1: 2**31 - 1, -2: 2**26}
"""glibc's M_MMAP_THRESHOLD, M_TRIM_THRESHOLD and M_TOP_PAD (malloc.h) -> bytes, see `keep_freed_memory`."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user sets the number of torch's threads."""
SPIN_COUNT = "1000"
"""How often a waiting thread of GNU's OpenMP spins (for microseconds) before it sleeps.

The step of `python benchmarks/threads.py` with two threads takes 63 ms with the default spinning,
104 where threads sleep at once and 74 with this, on free cores; beside one busy program it takes
144 to 207, 107 and 138 ms.
"""
PROC_STAT, CPU_MAX = Path("/proc/stat"), Path("/sys/fs/cgroup/cpu.max")
MIN_SECONDS = 0.25
"""The least time that tells a busy core from a free one; the kernel counts hundredths."""


class CpuTimes(NamedTuple):
    """Clocks of the processor and of this process, in seconds."""

    now: float
    idle: float | None
    """Idle seconds of all usable cores, summed; None where the system does not count them."""
    process: float
    """Processor seconds of this process and of its children that have ended."""


def set_environment() -> None:
    """Set the variables that torch reads when it is loaded; a value that the user has set stays."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of freed tensors for the next ones; true where it does now.

    By default glibc asks the system for each large tensor and hands it back after use, and the
    system clears every page again: `python benchmarks/allocator.py` measures a trunk that runs at
    half its speed for it. Tensors below 1 GiB now come from the heap, which stays as large as it once
    was. Nothing happens where there is no glibc, or where the user has arranged the allocator.
    """
    if sys.platform != "linux" or any(name in os.environ for name in MALLOC_VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    accepted = [mallopt(option, size) for option, size in MALLOC_OPTIONS.items()]
    return accepted == [1] * len(accepted)


def usable_cores() -> set[int]:
    """The numbers of the cores that this process may run on."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def core_limit() -> int:
    """How many cores can be used at once: the usable ones, or a container's quota, rounded up."""
    cores = len(usable_cores())
    try:
        quota, period = CPU_MAX.read_text(encoding="ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # no container, or the word "max"
        return cores


def read_cpu_times() -> CpuTimes:
    """The clocks now; two readings give what other programs have used between them."""
    return CpuTimes(time.monotonic(), _idle_seconds(usable_cores()), sum(os.times()[:4]))


def _idle_seconds(cores: set[int]) -> float | None:
    """Idle and input-waiting time of `cores` in /proc/stat (proc(5)); None where there is none."""
    try:
        rows = {row[0]: row for row in map(str.split, PROC_STAT.read_text(encoding="ascii").splitlines()) if row[0].startswith("cpu")}
        return sum(int(rows[f"cpu{core}"][4]) + int(rows[f"cpu{core}"][5]) for core in cores) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, KeyError, IndexError, AttributeError):
        return None


START = read_cpu_times()
"""The clocks at about the time when this process began."""


def free_cores(before: CpuTimes = START) -> int:
    """How many cores other programs have left free since `before`: from 1 to `core_limit()`.

        free = (idle seconds + this process's seconds) / seconds that have passed, rounded

    Where the system does not count idle time, all cores count as free. Sleeps if `before` was less
    than a quarter of a second ago.
    """
    if before.idle is not None:
        time.sleep(max(0.0, MIN_SECONDS - (time.monotonic() - before.now)))
        after = read_cpu_times()
        if after.idle is not None:
            free = (after.idle - before.idle + after.process - before.process) / (after.now - before.now)
            return max(1, min(core_limit(), round(free)))
    return core_limit()


def default_threads() -> int:
    """One per free core, but not more than torch has; a number set by `THREAD_VARIABLES` stays."""
    import torch

    now = torch.get_num_threads()
    return now if now == 1 or any(name in os.environ for name in THREAD_VARIABLES) else min(now, free_cores())


def set_threads(number: int | None = None) -> int:
    """Give torch that many threads, at most `core_limit()`, and return their number."""
    import torch

    number = default_threads() if number is None else number
    if number > core_limit():
        log.warning("threads=%d: this machine has %d cores, so %d are used; last digits may differ", number, core_limit(), core_limit())
        number = core_limit()
    torch.set_num_threads(number)
    return number
