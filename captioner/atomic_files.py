"""Files and folders appear whole or not at all: write beside, flush to disk, rename. Standard library only.

A temporary name says which process writes it, `.NAME.tmp-HOST-PID-RANDOM.ending`, so that the next writer in the same folder
removes what a killed one left behind and touches nothing of a living one.
"""

import errno
import os
import re
import secrets
import shutil
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from captioner.errors import UnwritableError

HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"
TEMPORARY = re.compile(r"\..*\.tmp-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(\..*)?", re.DOTALL)
ABANDONED = 24 * 3600.0
"""Seconds without a change after which a temporary of another machine, whose processes cannot be seen, counts as left behind."""
MANY = 100
"""Files from which a folder is flushed by flushing the whole machine, which is quicker than one by one."""
_OURS: set[str] = set()
"""Temporaries that this process is writing."""
_SWEPT: set[tuple[int, str]] = set()
"""(process, folder) of the folders in which leftovers were looked for."""


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same ending); rename it to `path` on success, delete it on failure.

    The file is whole at any moment for a reader and for whoever kills the process. durable: it is flushed to disk before
    it takes its name, so that it is whole after a power cut too; a few milliseconds that a picture is not worth.
    Raises: UnwritableError, the disk or the folder does not take it.
    """
    path = Path(path)
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path, path.suffix, durable) as temporary:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the umask is heeded
            yield temporary
            if durable:
                flush(temporary)
            temporary.replace(path)
        if durable:
            flush(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`; on success it takes the place of whatever folder is there, on failure it is deleted.

    No folder can be renamed over another one, so the old one is first renamed to a backup, `.NAME.old`.
    `folder_or_backup` finds it there between the two renames. If the process is killed at that moment,
    `restore_backup` puts the old folder back.
    Raises: UnwritableError, the disk or the folder does not take it.
    """
    path = Path(os.path.realpath(path))
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _beside(path, "", True) as temporary:
            temporary.mkdir()
            yield temporary
            _flush_all(temporary)
            _swap(temporary, path)
            flush(path.parent)
            shutil.rmtree(_old(path), ignore_errors=True)


def atomic_link(link: Path, target: str) -> None:
    """Make `link` a symbolic link to a folder, or lead the link that is there to another. Raises: OSError, it cannot be made."""
    link.parent.mkdir(parents=True, exist_ok=True)
    with _beside(link, "", True) as temporary:
        temporary.symlink_to(target, target_is_directory=True)
        temporary.replace(link)


def _swap(fresh: Path, path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(_old(path), ignore_errors=True)
        path.rename(_old(path))
    try:
        fresh.rename(path)
    except OSError:
        restore_backup(path)
        raise


def _old(path: Path) -> Path:
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}.old")


def folder_or_backup(path: Path) -> Path:
    """`path`, or where it is not there the folder that stepped aside for a new one that never came."""
    path = Path(path)
    return _old(path) if not path.exists() and _old(path).is_dir() else path


def restore_backup(path: Path) -> None:
    """Put back the folder that stepped aside, or delete it where the new one came. Only for a process that writes there alone."""
    path = Path(path)
    if folder_or_backup(path) != path:
        with suppress(OSError):
            folder_or_backup(path).rename(os.path.realpath(path))
    elif path.exists():
        shutil.rmtree(_old(path), ignore_errors=True)


@contextmanager
def _beside(path: Path, ending: str, always: bool) -> Iterator[Path]:
    remove_temporaries(path.parent, always)
    stem = os.fsdecode(os.fsencode(path.stem)[:80])
    temporary = path.with_name(f".{stem}.tmp-{HOST}-{os.getpid()}-{secrets.token_hex(4)}{ending}")
    _OURS.add(temporary.name)
    try:
        yield temporary
    finally:
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        _OURS.discard(temporary.name)


def remove_temporaries(folder: Path, always: bool) -> None:
    """Delete the temporaries of processes that are no more. always: else once a process and folder, for a folder may hold many files."""
    mark = (os.getpid(), os.path.abspath(folder))
    if mark in _SWEPT and not always:
        return
    _SWEPT.add(mark)
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = TEMPORARY.fullmatch(entry.name)
            if found is None or _alive(entry, found["host"], int(found["pid"])):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)


def _alive(entry: os.DirEntry[str], host: str, pid: int) -> bool:
    if host != HOST or os.name != "posix":
        return time.time() - entry.stat(follow_symlinks=False).st_mtime < ABANDONED
    return entry.name in _OURS if pid == os.getpid() else is_running(pid)


def is_running(pid: int) -> bool:
    """Whether this machine has such a process (POSIX: elsewhere this signal would end it)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk; where that cannot be asked for, go on."""
    folder = path.is_dir()
    if folder and (os.name != "posix" or not os.access(path, os.R_OK)):
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know no such thing
            raise
    finally:
        os.close(handle)


def _flush_all(folder: Path) -> None:
    paths = [folder, *folder.rglob("*")]
    if len(paths) > MANY and hasattr(os, "sync"):
        os.sync()
    else:
        for path in paths:
            flush(path)


_NAMES = ("ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "EIO", "EFBIG", "ENAMETOOLONG", "ELOOP")
UNWRITABLE = {getattr(errno, name) for name in _NAMES if hasattr(errno, name)}
"""Errors of the disk or the folder; others are faults of a program."""


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise unwritable_error(path, error) from error


def unwritable_error(path: Path, error: OSError) -> UnwritableError:
    """What is told of a file or folder that could not be written."""
    folder = Path(path).parent
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UnwritableError(f"{path}: cannot be written, for the disk of {folder} is full ({why}); make room, or choose another folder")
    return UnwritableError(f"{path}: cannot be written ({why}); check the folder {folder}, or choose another")


def check_writable(folder: Path, key: str) -> None:
    """Write and delete a small file in `folder`, or where it is not there yet in the nearest folder above, which will hold it.

    Raises: UnwritableError, in one line that begins with `key`.
    """
    place = Path(folder)
    while not place.exists() and place.parent != place:
        place = place.parent
    try:
        with _beside(place / "probe", "", False) as probe, probe.open("xb", buffering=0) as file:
            file.write(bytes(4096))
            os.fsync(file.fileno())
    except OSError as error:
        why = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise UnwritableError(f"{key}: {folder} cannot be written to ({place}: {why}); choose another folder") from error


def write_atomically(path: Path, data: bytes | str, durable: bool = True) -> None:
    """Write bytes or UTF-8 text to `path`, whole or not at all."""
    with atomic_file(path, durable) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
