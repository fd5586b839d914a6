"""Files are whole at any moment, follow the umask, and leave nothing of a killed writer behind; what cannot be written is one line."""

import errno
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from captioner.atomic_files import HOST, atomic_file, atomic_folder, check_writable, folder_or_backup, restore_backup, write_atomically
from captioner.errors import InputError, UnwritableError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(work: object) -> None:
    """Fork, do `work`, which never comes back, and see that it was killed."""
    child = os.fork()
    if child == 0:
        work()  # type: ignore[operator]
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_a_file_keeps_its_old_content_until_the_new_one_is_whole_and_its_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.txt"
    write_atomically(path, "old")
    with suppress(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        raise ZeroDivisionError
    assert path.read_text() == "old"
    before = os.umask(0o026)
    try:
        write_atomically(path, b"new")
    finally:
        os.umask(before)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    assert names(path.parent) == ["a.txt"]


def test_what_a_killed_writer_left_is_removed_by_the_next_one_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a.txt", "old")

    def begin() -> None:
        with atomic_file(tmp_path / "a.txt") as one, atomic_folder(tmp_path / "b") as other:
            one.write_text("half")
            (other / "c").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

    killed(begin)
    living = [f".a.tmp-{HOST}-{os.getppid()}-00000000.txt", ".a.tmp-00000000-1-00000000.txt"]
    for name in living:
        (tmp_path / name).write_text("of a living process, or of another machine")
    stranger = tmp_path / ".a.tmp-notes.txt"
    stranger.write_text("of nobody we know")
    assert len(names(tmp_path)) == 6
    child = os.fork()
    if child == 0:
        write_atomically(tmp_path / "other.txt", "new")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert names(tmp_path) == sorted(["a.txt", "other.txt", stranger.name, *living])


def test_a_folder_replaced_by_a_killed_process_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "b"
    for content in ("old", "new"):
        with atomic_folder(path) as fresh:
            (fresh / "c").write_text(content)
    assert (path / "c").read_text() == "new"
    path.rename(tmp_path / ".b.old")  # where a kill between the two renames leaves it
    assert (folder_or_backup(path) / "c").read_text() == "new"
    restore_backup(path)
    assert (path / "c").read_text() == "new"
    assert names(tmp_path) == ["b"]


def test_a_link_to_a_folder_keeps_leading_to_it_when_the_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "big" / "b").mkdir(parents=True)
    link = tmp_path / "b"
    link.symlink_to(tmp_path / "big" / "b")
    with atomic_folder(link) as fresh:
        (fresh / "c").write_text("new")
    assert link.is_symlink()
    assert (tmp_path / "big" / "b" / "c").read_text() == "new"
    (tmp_path / "big" / "b").rename(tmp_path / "big" / ".b.old")
    assert (folder_or_backup(link) / "c").read_text() == "new"
    restore_backup(link)
    assert (link / "c").read_text() == "new"
    assert (names(tmp_path), names(tmp_path / "big")) == (["b", "big"], ["b"])


def test_a_full_disk_and_a_folder_that_is_none_are_one_line_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "file", "")
    for place in (tmp_path / "file" / "a.txt", tmp_path / "file" / "b" / "a.txt"):
        with pytest.raises(UnwritableError, match=r"a\.txt: cannot be written"):
            write_atomically(place, "x")
        with pytest.raises(UnwritableError, match=r"outputs: .*file.* cannot be written to"):
            check_writable(place.parent, "outputs")
    check_writable(tmp_path / "not" / "there", "outputs")
    assert names(tmp_path) == ["file"]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"disk of .* is full"):
        write_atomically(tmp_path / "file", "x")
    with pytest.raises(InputError, match="the disk is full"):
        check_writable(tmp_path, "outputs")
    assert (tmp_path / "file").read_text() == ""
    assert names(tmp_path) == ["file"]
