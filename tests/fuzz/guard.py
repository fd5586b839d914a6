"""What a command must not do while a case runs: write outside its folder, start a program, reach a network, hang, eat the machine's memory.

Python's audit events tell of such calls before they happen, so that what is refused here never takes place.
"""

import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FIRST_IS_WRITTEN = ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree")
BOTH_ARE_WRITTEN = ("os.rename",)
SECOND_IS_WRITTEN = ("os.link", "os.symlink")
PROGRAMS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile")
NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
HARMLESS = ("/dev/null", "/dev/tty", "/dev/shm", "/proc/self")
MEMORY = 3 * 2**30
"""Bytes of address space that a case may take beside what the process holds already."""


class Broken(BaseException):
    """A command did what it must not. Not an Exception, so that no `except Exception` of the command swallows it."""


class Hung(BaseException):
    """A case took longer than its limit."""


class Watch:
    """The audit hook: asleep but inside `guarded`. Python never removes a hook, so there is one a process."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.broken: list[str] = []
        self.installed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in NETWORK:
            raise OSError(101, "Network is unreachable")
        if event in PROGRAMS:
            self.refuse(f"starts a program: {event}{arguments[:2]}")
        for path in written(event, arguments):
            if not self.allows(path):
                self.refuse(f"writes outside its folder: {event} {path!r}")

    def allows(self, path: Any) -> bool:
        if isinstance(path, int) or path is None:
            return True
        named = os.path.realpath(os.fsdecode(path))
        return any(named == place or named.startswith(place + os.sep) for place in (self.folder, *HARMLESS))

    def refuse(self, what: str) -> None:
        self.broken.append(what)
        raise Broken(what)


WATCH = Watch()


def written(event: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The paths that a call will write to, as far as they are no file descriptors or relative to one."""
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode) & set("wax+") if isinstance(mode, str) else (flags or 0) & WRITING
        return (path,) if writes else ()
    if any(isinstance(argument, int) and argument >= 0 for argument in arguments[-2:]) and event in ("os.remove", "os.rmdir", "os.mkdir"):
        return arguments[:1] if event == "os.mkdir" else ()  # relative to an open folder: shutil.rmtree has been told of that one
    if event in FIRST_IS_WRITTEN:
        return arguments[:1]
    return arguments[:2] if event in BOTH_ARE_WRITTEN else arguments[1:2] if event in SECOND_IS_WRITTEN else ()


@contextmanager
def guarded(folder: Path, seconds: float) -> Iterator[list[str]]:
    """Inside: nothing is written outside `folder`; after so many seconds `Hung` is raised. Yields what was refused."""
    if not WATCH.installed:
        sys.addaudithook(WATCH)
        WATCH.installed = True
    before = signal.signal(signal.SIGALRM, overdue)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    limits = resource.getrlimit(resource.RLIMIT_AS)
    WATCH.folder, WATCH.broken = os.path.realpath(folder), []
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + MEMORY, limits[1]))
    faulthandler.dump_traceback_later(5 * seconds, exit=True, file=sys.__stderr__)  # where no signal is heeded
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield WATCH.broken
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, limits)
        WATCH.folder, sys.dont_write_bytecode = None, bytecode
        signal.signal(signal.SIGALRM, before)


def overdue(*_: Any) -> None:
    raise Hung("the case took longer than its limit")


def address_space() -> int:
    """Bytes of address space of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
