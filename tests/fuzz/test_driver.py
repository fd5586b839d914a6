"""The law notices what breaks it: commands that misbehave in every way take the place of `captioner predict`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from driver import Case, held

from captioner.errors import InputError


def loop(_: list[str]) -> None:
    while True:
        time.sleep(0.01)


def raises(error: BaseException) -> Callable[[list[str]], int]:
    def command(_: list[str]) -> int:
        raise error

    return command


def writes(path: str) -> Callable[[list[str]], int]:
    def command(_: list[str]) -> int:
        Path(path).write_text("changed")
        return 0

    return command


def says(code: int, *lines: str) -> Callable[[list[str]], int]:
    def command(_: list[str]) -> int:
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        return code

    return command


def starts(_: list[str]) -> int:
    try:
        subprocess.run(["true"], check=True)
    except Exception:  # as a command may swallow what goes wrong
        return 0
    return 0


BREAKS = {
    "an exception": (raises(AttributeError("no such thing")), "an exception left main"),
    "an interruption of its own": (raises(GeneratorExit()), "an exception left main"),
    "another exit code": (says(3), "the exit code is 3"),
    "two lines of error": (says(2, "captioner: error: a.png: no", "captioner: error: a.png: no"), "exit 2 with 2 lines of error"),
    "an exit without a word": (raises(SystemExit(2)), "exit 2 with 0 lines of error"),
    "no line of error": (says(2, "a.png: no"), "exit 2 with 0 lines of error"),
    "a traceback in words": (says(1, "a.png: Traceback (most recent call last):"), "it prints a traceback"),
    "an error that names nothing": (raises(InputError("something is not as it should be")), "names neither file nor key"),
    "an error and success": (says(0, "captioner: error: a.png: no"), "exit 0 with a line of error"),
    "a silent failure": (says(1), "exit 1, and nothing is named"),
    "an image without a word": (says(0, "captioner: b.png: damaged"), "'a.png' has neither caption nor complaint"),
    "another input changed": (writes("a.png"), "a.png was changed or deleted"),
    "a file elsewhere": (writes("../elsewhere"), "writes outside its folder: open"),
    "a half-written file": (writes(".a.tmp-0-1-2.png"), ".a.tmp-0-1-2.png was left half written"),
    "a program": (starts, "starts a program: subprocess.Popen"),
    "no end": (loop, "longer than its limit"),
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], int]], None]:
    def put(command: Callable[[list[str]], int]) -> None:
        module = ModuleType("captioner.cli.predict")
        module.main = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "captioner.cli.predict", module)

    return put


@pytest.mark.parametrize("what", BREAKS)
def test_the_law_is_broken_by(what: str, tmp_path: Path, place: Callable[[Callable[[list[str]], int]], None]) -> None:
    command, told = BREAKS[what]
    place(command)
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "a.png").write_text("an image")
    outcome = held(Case(["predict", "a.png"], images=["a.png"]), tmp_path / "case", seconds=0.3 if command is loop else 60)
    assert [line for line in outcome.broken if told in line], outcome
    assert not (tmp_path / "elsewhere").exists()


KEEPS = {
    "a complaint": says(0, "captioner: a.png: left out"),
    "a failure": says(1, "captioner: a.png: damaged"),
    "an error": raises(InputError("a.png: no image\nat all")),
}


@pytest.mark.parametrize("what", KEEPS)
def test_the_law_is_kept_by(what: str, tmp_path: Path, place: Callable[[Callable[[list[str]], int]], None]) -> None:
    place(KEEPS[what])
    (tmp_path / "a.png").write_text("an image")
    outcome = held(Case(["predict", "a.png"], images=["a.png"]), tmp_path)
    assert outcome.broken == []


def test_standard_streams_folder_and_environment_are_as_before_afterwards(
    tmp_path: Path, place: Callable[[Callable[[list[str]], int]], None]
) -> None:
    place(says(0))
    before = sys.stdout, sys.stderr, sys.stdin, Path.cwd(), dict(os.environ)
    held(Case(["predict"]), tmp_path)
    assert (sys.stdout, sys.stderr, sys.stdin, Path.cwd(), dict(os.environ)) == before
    (tmp_path.parent / "free").write_text("written")
