"""A lock excludes others while its holder lives, and is gone with it."""

import os
import signal
from pathlib import Path

import pytest

from captioner.locks import Lock, LockedError, locked_folder, remove_stale_lock


def test_one_writer_excludes_others_and_names_itself_and_sharers_exclude_a_writer_only(tmp_path: Path) -> None:
    one, other = Lock(tmp_path / ".lock"), Lock(tmp_path / ".lock")
    assert one.take()
    assert not other.take(shared=True)
    assert f"process {os.getpid()} on" in other.holder()
    one.share()
    assert other.take(shared=True)
    third = Lock(tmp_path / ".lock")
    assert not third.take()
    one.release()
    assert not third.take()
    other.release()
    assert third.take()
    third.release()
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused_in_one_line_that_names_the_first(tmp_path: Path) -> None:
    with (
        locked_folder(tmp_path, "--out here"),
        pytest.raises(LockedError, match=rf"--out here: process {os.getpid()} on .* writes there now"),
    ):
        locked_folder(tmp_path, "--out here").__enter__()
    with locked_folder(tmp_path, "--out here"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        Lock(tmp_path / ".lock").take()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / ".lock").exists()
    with locked_folder(tmp_path, "--out here"):
        pass


def test_a_lock_file_that_a_killed_process_left_is_tidied_away_and_one_that_is_held_is_not(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("left")
    remove_stale_lock(path)
    assert not path.exists()
    remove_stale_lock(path)
    held = Lock(path)
    assert held.take()
    remove_stale_lock(path)
    assert path.exists()
    held.release()
