"""A folder that one process writes at a time: a lock that the system gives back when its holder ends, however it ends.

Standard library only. A file that a killed process left behind locks nothing. Where the file system knows no locks (some
network ones) or does not let us write, nothing is locked and nothing is said.
"""

import errno
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from captioner.atomic_files import is_running
from captioner.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ORPHAN_SECONDS = 15.0
"""Seconds in which the workers of a killed process notice and end."""
BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class LockedError(InputError):
    """Another process holds the lock."""


class Lock:
    """A lock on the file at `path`, shared by many holders or held by one. It names a holder in the file, for messages.

    The file is deleted when the last holder lets go.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._handle: int | None = None

    def take(self, shared: bool = False) -> bool:
        """Whether it is held now, or cannot be on this file system; false where another process is in the way. Waits for nobody."""
        if fcntl is None and shared:
            return True
        while True:
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError:
                return True
            try:
                _lock(handle, shared)
            except OSError as error:
                os.close(handle)
                return error.errno not in BUSY
            with suppress(OSError):
                if os.path.samestat(os.fstat(handle), os.stat(self.path)):
                    self._handle = handle
                    self._sign()
                    return True
            os.close(handle)  # its last holder deleted the file in the meantime

    def share(self) -> None:
        """Let others share what was held alone."""
        if self._handle is not None:
            _lock(self._handle, shared=True)

    def release(self) -> None:
        if self._handle is None:
            return
        with suppress(OSError):
            _lock(self._handle, shared=False)  # fails where others share it
            self.path.unlink()
        if fcntl is not None:
            fcntl.flock(self._handle, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
        os.close(self._handle)
        self._handle = None

    def holder(self) -> str:
        """Who holds it, in a few words."""
        try:
            return self.path.read_text(encoding="utf-8", errors="replace")[:200].strip() or "another process"
        except OSError:
            return "another process"

    def orphaned(self) -> bool:
        """Whether the holder is no more, and only its worker processes are, which soon end too."""
        found = re.match(r"process (\d+) on (.*) \(", self.holder())
        return found is not None and os.name == "posix" and found[2] == socket.gethostname() and not is_running(int(found[1]))

    def _sign(self) -> None:
        assert self._handle is not None
        command = " ".join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:2]])
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, f"\nprocess {os.getpid()} on {socket.gethostname()} ({command})\n".encode())


def _lock(handle: int, shared: bool) -> None:
    if fcntl is not None:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    else:
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # the first byte; there are no shared locks


@contextmanager
def locked_folder(folder: Path, what: str) -> Iterator[None]:
    """Nobody else who asks for it writes in `folder` meanwhile. `what` begins the refusal: `--out captioned`.

    Raises: HeldError, another process does.
    """
    lock = Lock(Path(folder) / ".lock")
    deadline = time.monotonic() + ORPHAN_SECONDS
    while not (taken := lock.take()) and lock.orphaned() and time.monotonic() < deadline:
        time.sleep(0.2)
    if not taken:
        raise LockedError(f"{what}: {lock.holder()} writes there now; wait until it is done, or choose another folder")
    try:
        yield
    finally:
        lock.release()


def remove_stale_lock(path: Path) -> None:
    """Delete the lock file that a killed process left, if it did."""
    lock = Lock(path)
    if lock.path.exists() and lock.take():
        lock.release()


def wait_for_lock(lock: Lock, shared: bool, seconds: float = 0.1) -> None:
    """Take the lock as soon as it is free."""
    while not lock.take(shared):
        time.sleep(seconds)
