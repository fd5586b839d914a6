"""How far anything long has come: a bar on a terminal, a logged line every half minute in a file or a pipe."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
log = logging.getLogger(__name__)

SOON = 2.0
"""Seconds after which the first line says what has begun; of what is done sooner, nothing is said."""
EVERY = 30.0
"""Seconds between lines."""


class ProgressLog:
    """Logs how many are done, the rate and the time left: after SOON seconds, and every EVERY seconds from then on; then how long all took.

    total: None, it is not known how many there are. clock: seconds, of any beginning. again: the like was told before, so the first line
    comes after EVERY seconds too.
    """

    def __init__(
        self, what: str, total: int | None, unit: str = "image", clock: Callable[[], float] = time.monotonic, again: bool = False
    ) -> None:
        self.what, self.total, self.unit, self.clock = what, total, unit, clock
        self.done = 0
        self.began = clock()
        self.due = self.began + (EVERY if again else SOON)
        self.told = False

    def step(self, more: Callable[[], str] | None = None) -> None:
        """One more is done; `more` is asked for what else to say where a line is due."""
        self.done += 1
        now = self.clock()
        if self.done == self.total:
            if self.told:
                log.info("%s: %s %s in %s", self.what, f"{self.total:,}", plural(self.unit, self.total), duration(now - self.began))
            return
        if now < self.due:
            return
        log.info("%s%s", self.line(now), f", {more()}" if more else "")
        self.told, self.due = True, now + EVERY

    def line(self, now: float) -> str:
        """For instance `captioning: 1,234 of 6,000 images (20 %), 41.2 a second, 1:56 left`."""
        seconds = max(now - self.began, 1e-9)
        rate = self.done / seconds
        speed = f"{rate:,.1f} a second" if rate >= 1 else f"{seconds / max(self.done, 1):.1f} seconds each"
        if not self.total:
            return f"{self.what}: {self.done:,} {plural(self.unit, self.done)}, {speed}"
        left = duration(max(self.total - self.done, 0) / max(rate, 1e-9))
        share = min(100 * self.done // self.total, 100)
        return f"{self.what}: {self.done:,} of {self.total:,} {plural(self.unit, self.total)} ({share} %), {speed}, {left} left"


def progress(
    items: Iterable[Item], what: str, total: int | None = None, unit: str = "image", clock: Callable[[], float] = time.monotonic
) -> Iterator[Item]:
    """Pass `items` through, showing how many are done, the rate and the time left."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        return iter(tqdm(items, desc=what, total=total, unit=unit, leave=False, dynamic_ncols=True))
    sized: Any = items
    return _told(items, ProgressLog(what, len(sized) if total is None and hasattr(items, "__len__") else total, unit, clock))


def _told(items: Iterable[Item], ticker: ProgressLog) -> Iterator[Item]:
    for item in items:
        yield item
        ticker.step()


@contextmanager
def log_while_waiting(what: str, every: float = EVERY) -> Iterator[None]:
    """Log every half minute that something goes on of which nothing else is known, another program, say."""
    over, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not over.wait(every):
            log.info("%s: still at work after %s", what, duration(time.monotonic() - began))

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def duration(seconds: float) -> str:
    """1:05 for 65 seconds, 2:00:00 for two hours."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plural(unit: str, number: int) -> str:
    return unit if number == 1 else f"{unit}es" if unit.endswith(("ch", "s", "x")) else f"{unit}s"
