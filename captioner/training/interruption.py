"""A run that ends early, by a signal or because one of its processes is gone: it prints one line, and leaves no process behind."""

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
"""After a signal, processes that wait for each other have so many seconds to end by themselves."""
GRACE = 2.0
"""A process whose neighbour is gone has so many seconds to end by itself."""
INTERRUPTED, FAILED = 130, 2
PEERS = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "distbackenderror", "socket", "broken pipe")
"""One of these stands in the error of a process that cannot reach another one."""


class ProcessWatcher(Callback):
    """Waits for signals and watches the other processes of a run on several devices.

    Lightning's own handler of SIGTERM talks to the other processes inside the handler. It waits for ever for those that the same signal
    has ended, and its observer kills the first process without a message. Here only the first process acts on signals, and it
    ends the processes that it began. Those ignore signals, and end when the first one is gone.
    """

    def __init__(self, folder: Path, resume: Path | None, epochs: int) -> None:
        self.folder, self.resume, self.epochs = folder, resume, epochs
        self.has_peers = False
        self.follows = started_by_first_process()
        self.signalled_at: float | None = None
        """When a signal came."""
        self.children: list[subprocess.Popen[Any]] = []
        self._launcher: Any = None
        self._parent = os.getppid()
        self._over = threading.Event()

    def start(self, trainer: Trainer) -> None:
        strategy: Any = trainer.strategy
        self.has_peers = trainer.world_size > 1
        self._launcher = strategy.launcher
        if self.has_peers and not getattr(getattr(strategy, "cluster_environment", None), "creates_processes_externally", False):
            os.environ[STARTED_BY] = str(os.getpid())
        if self.has_peers and threading.current_thread() is threading.main_thread():
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
            os.set_blocking(reading, False)
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(reading,), daemon=True, name="ending").start()
        self.set_handlers()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Lightning has put its own handlers in place since."""
        self.set_handlers()

    def set_handlers(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if not self.follows:
            signal.signal(signal.SIGTERM, self._interrupt)
        else:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, lambda *_: os.kill(self._parent, signal.SIGTERM))

    def _interrupt(self, number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.signalled_at = self.signalled_at or time.monotonic()
        raise KeyboardInterrupt

    def accept_signals(self) -> None:
        """After training: a further signal interrupts what is still to be done."""
        if threading.current_thread() is threading.main_thread() and is_first_process():
            signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning switched it off
            signal.signal(signal.SIGTERM, self._interrupt)

    def _watch(self, signals: int) -> None:
        alone_since: float | None = None
        while not self._over.wait(0.2):
            self._collect_children()
            with suppress(OSError):
                if set(os.read(signals, 100)) & {signal.SIGINT, signal.SIGTERM} and not self.follows:
                    self.signalled_at = self.signalled_at or time.monotonic()
            now = time.monotonic()
            if self.signalled_at is not None and now - self.signalled_at > LAST:
                self._stop(INTERRUPTED, what_is_lost(self.folder, self.resume, self.epochs))
            if self.signalled_at is None and (self._is_orphan() or self.failed_child() is not None):
                alone_since = alone_since or now
                if now - alone_since > GRACE:
                    code, line = self.exit_code_and_line()
                    self._stop(code, line)

    def _collect_children(self) -> None:
        """Move them from Lightning's list into ours, so that its observer kills none."""
        listed = getattr(self._launcher, "procs", None)
        while listed:
            self.children.append(listed.pop())

    def _is_orphan(self) -> bool:
        return self.follows and os.getppid() != self._parent

    def failed_child(self) -> subprocess.Popen[Any] | None:
        """A process that this one began and that ended badly."""
        return next((child for child in self.children if child.poll() not in (None, 0)), None)

    def is_of_lost_peer(self, error: BaseException) -> bool:
        """Whether an error only says that another process of the run is gone."""
        text = f"{type(error).__name__} {error}".lower()
        return self.has_peers and isinstance(error, RuntimeError) and any(word in text for word in PEERS)

    def exit_code_and_line(self) -> tuple[int, str]:
        """Of a run whose other process is gone; the line is empty where that process prints the reason."""
        if not is_first_process():
            reports = self._is_orphan() and os.environ.get("LOCAL_RANK") == "1"
            line = f"error: the first process of the run is gone; {how_to_go_on(self.folder, self.resume)}"
            return FAILED, line if reports else ""
        deadline = time.monotonic() + GRACE
        while (child := self.failed_child()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if child is None:
            return FAILED, f"error: another process of the run is gone; {how_to_go_on(self.folder, self.resume)}"
        if child.returncode == FAILED:
            return FAILED, ""
        how = f"by signal {-child.returncode}" if child.returncode < 0 else f"with exit code {child.returncode}"
        return FAILED, f"error: a process of the run (pid {child.pid}) ended {how}; {how_to_go_on(self.folder, self.resume)}"

    def _stop(self, code: int, line: str) -> None:
        """End at once, from the watching thread: the main thread waits for a process that never answers."""
        self.kill_children()
        if line and (is_first_process() or self._is_orphan()):
            print(f"captioner: {line}", file=sys.stderr, flush=True)  # noqa: T201  the log may be locked by the main thread
        os._exit(code)

    def kill_children(self) -> None:
        self._collect_children()
        for child in self.children:
            with suppress(OSError):
                child.kill()
                child.wait(5)

    def close(self) -> None:
        self._over.set()
        os.environ.pop(STARTED_BY, None)
        if threading.current_thread() is threading.main_thread() and self.has_peers:
            signal.set_wakeup_fd(-1)


@contextmanager
def watch_processes(trainer: Trainer, watcher: ProcessWatcher) -> Iterator[None]:
    """While a run on one or several devices is trained and scored. Raises: InputError or SystemExit, another process is gone."""
    watcher.start(trainer)
    try:
        yield
    except RuntimeError as error:
        if not watcher.is_of_lost_peer(error):
            raise
        code, line = watcher.exit_code_and_line()
        if not line:
            raise SystemExit(code) from error
        raise InputError(line.removeprefix("error: ")) from error
    finally:
        if sys.exc_info()[0] is not None:
            watcher.kill_children()
        watcher.close()


def what_is_lost(folder: Path, resume: Path | None, epochs: int) -> str:
    """A line about what an interrupted run has saved, and how to go on."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        saved = "nothing was saved yet" if resume is None else f"nothing was saved since {resume}"
        return f"interrupted in the first epoch: {saved}; {how_to_go_on(folder, resume)}"
    done = int(read_checkpoint(last, mmap=True)["epoch"]) + 1
    if done >= epochs:
        return f"interrupted after the last epoch, {done}: nothing is lost; {how_to_go_on(folder, resume)}"
    return f"interrupted in epoch {done + 1} of {epochs}: what it has learnt since epoch {done} is lost; {how_to_go_on(folder, resume)}"


def how_to_go_on(folder: Path, resume: Path | None) -> str:
    last = folder / "checkpoints" / "last.ckpt"
    path = last if last.is_file() else resume
    words = f"rerun={folder}" if path is None else f"resume={path}"
    return f"{'begin again' if path is None else 'go on'} with: captioner train {shlex.quote(words)}"
