"""How a run ends before its time: by a signal, or because one of its processes is gone. One line, and no process is left over."""

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from captioner.bundle import read_checkpoint
from captioner.errors import InputError
from captioner.processes import STARTED_BY, is_first_process, started_by_first_process

log = logging.getLogger(__name__)

LAST = 20.0
"""Seconds after a signal in which processes that wait for each other may still end by themselves."""
GRACE = 2.0
"""Seconds in which a process whose neighbour is gone may still end by itself."""
INTERRUPTED, FAILED = 130, 2
PEERS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "distbackenderror", "socket", "broken pipe")
"""What stands in the complaint of a process that cannot reach another one."""


class Ending(Callback):
    """Waits for signals and watches the other processes of a run on several devices.

    Lightning's own handler of SIGTERM talks to the other processes inside the handler and so waits for ever for those that were
    asked to end too; its observer kills the first process without a word. Here the first process alone heeds signals, and
    ends the processes that it began; those leave signals to it, and end when it is gone.
    """

    def __init__(self, folder: Path, resume: Path | None, epochs: int) -> None:
        self.folder, self.resume, self.epochs = folder, resume, epochs
        self.several = False
        self.follows = started_by_first_process()
        self.asked: float | None = None
        """When a signal came."""
        self.children: list[subprocess.Popen[Any]] = []
        self._launcher: Any = None
        self._parent = os.getppid()
        self._over = threading.Event()

    def begin(self, trainer: Trainer) -> None:
        strategy: Any = trainer.strategy
        self.several = trainer.world_size > 1
        self._launcher = strategy.launcher
        if self.several and not getattr(getattr(strategy, "cluster_environment", None), "creates_processes_externally", False):
            os.environ[STARTED_BY] = str(os.getpid())
        if self.several and threading.current_thread() is threading.main_thread():
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
            os.set_blocking(reading, False)
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(reading,), daemon=True, name="ending").start()
        self.heed()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Lightning has put its own handlers in place since."""
        self.heed()

    def heed(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if not self.follows:
            signal.signal(signal.SIGTERM, self._interrupt)
        else:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: os.kill(self._parent, signal.SIGTERM))

    def _interrupt(self, number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.asked = self.asked or time.monotonic()
        raise KeyboardInterrupt

    def end(self) -> None:
        """After training: a further signal interrupts what is still to be done."""
        if threading.current_thread() is threading.main_thread() and is_first_process():
            signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning switched it off
            signal.signal(signal.SIGTERM, self._interrupt)

    def _watch(self, signals: int) -> None:
        lonely: float | None = None
        while not self._over.wait(0.2):
            self._take_children()
            with suppress(OSError):
                if set(os.read(signals, 100)) & {signal.SIGINT, signal.SIGTERM} and not self.follows:
                    self.asked = self.asked or time.monotonic()
            now = time.monotonic()
            if self.asked is not None and now - self.asked > LAST:
                self._stop(INTERRUPTED, lost(self.folder, self.resume, self.epochs))
            if self.asked is None and (self._orphan() or self.fallen() is not None):
                lonely = lonely or now
                if now - lonely > GRACE:
                    code, line = self.verdict()
                    self._stop(code, line)

    def _take_children(self) -> None:
        """From Lightning's list into ours: its observer sees none, and kills nobody."""
        listed = getattr(self._launcher, "procs", None)
        while listed:
            self.children.append(listed.pop())

    def _orphan(self) -> bool:
        return self.follows and os.getppid() != self._parent

    def fallen(self) -> subprocess.Popen[Any] | None:
        """A process that this one began and that ended badly."""
        return next((child for child in self.children if child.poll() not in (None, 0)), None)

    def lonely(self, error: BaseException) -> bool:
        """Whether an error only says that another process of the run is gone."""
        told = f"{type(error).__name__} {error}".lower()
        return self.several and isinstance(error, RuntimeError) and any(word in told for word in PEERS)

    def verdict(self) -> tuple[int, str]:
        """Exit code and line of a run whose other process is gone; an empty line where that one has told why, or will."""
        if not is_first_process():
            told = "the first process of the run is gone" if self._orphan() and os.environ.get("LOCAL_RANK") == "1" else ""
            return FAILED, told and f"error: {told}; {remedy(self.folder, self.resume)}"
        deadline = time.monotonic() + GRACE
        while (child := self.fallen()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if child is None:
            return FAILED, f"error: another process of the run is gone; {remedy(self.folder, self.resume)}"
        if child.returncode == FAILED:
            return FAILED, ""
        how = f"by signal {-child.returncode}" if child.returncode < 0 else f"with exit code {child.returncode}"
        return FAILED, f"error: a process of the run (pid {child.pid}) ended {how}; {remedy(self.folder, self.resume)}"

    def _stop(self, code: int, line: str) -> None:
        """End at once, from the thread that watches: the main one waits for somebody who never comes."""
        self.kill_children()
        if line and (is_first_process() or self._orphan()):
            print(f"captioner: {line}", file=sys.stderr, flush=True)  # noqa: T201  the log may be locked by the main thread
        os._exit(code)

    def kill_children(self) -> None:
        self._take_children()
        for child in self.children:
            with suppress(OSError):
                child.kill()
                child.wait(5)

    def over(self) -> None:
        self._over.set()
        os.environ.pop(STARTED_BY, None)
        if threading.current_thread() is threading.main_thread() and self.several:
            signal.set_wakeup_fd(-1)


@contextmanager
def ended(trainer: Trainer, ending: Ending) -> Iterator[None]:
    """While a run on one or several devices is trained and scored. Raises: InputError or SystemExit, another process is gone."""
    ending.begin(trainer)
    try:
        yield
    except RuntimeError as error:
        if not ending.lonely(error):
            raise
        code, line = ending.verdict()
        if not line:
            raise SystemExit(code) from error
        raise InputError(line.removeprefix("error: ")) from error
    finally:
        if sys.exc_info()[0] is not None:
            ending.kill_children()
        ending.over()


def lost(folder: Path, resume: Path | None, epochs: int) -> str:
    """What an interrupted run keeps, and how to go on."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        begun = "nothing was kept yet" if resume is None else f"nothing was kept since {resume}"
        return f"interrupted in the first epoch: {begun}; {remedy(folder, resume)}"
    done = int(read_checkpoint(last, mmap=True)["epoch"]) + 1
    if done >= epochs:
        return f"interrupted after the last epoch, {done}: nothing is lost; {remedy(folder, resume)}"
    return f"interrupted in epoch {done + 1} of {epochs}: what it learnt since epoch {done} is lost; {remedy(folder, resume)}"


def remedy(folder: Path, resume: Path | None) -> str:
    last = folder / "checkpoints" / "last.ckpt"
    path = last if last.is_file() else resume
    words = f"rerun={folder}" if path is None else f"resume={path}"
    return f"{'begin again' if path is None else 'go on'} with: captioner train {shlex.quote(words)}"
