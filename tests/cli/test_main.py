"""The command line's outside: which command runs, what it says when something is wrong, and its exit codes."""

import errno
import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import captioner
from captioner.cli import main as door
from captioner.errors import InputError

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def command(monkeypatch):
    """Put a function in the place of `captioner predict`; what it returns or raises is that of the command."""

    def place(function):
        module = ModuleType("captioner.cli.predict")
        module.main = function
        monkeypatch.setitem(sys.modules, "captioner.cli.predict", module)

    return place


def raising(error):
    def function(arguments):
        raise error

    return function


def test_what_follows_the_command_is_handed_over_as_it_is(command):
    given = []
    command(lambda arguments: given.append(arguments) or 1)
    assert door.main(["predict", "a b.jpg", "--model", "m", "--", "-x"]) == 1
    assert given == [["a b.jpg", "--model", "m", "--", "-x"]]


def test_a_command_that_returns_nothing_is_done(command):
    command(lambda arguments: None)
    assert door.main(["predict"]) == 0


def test_bad_input_is_one_line_and_exit_two(command, capsys):
    command(raising(InputError("photo.jpg: no image\nthat can be read")))
    assert door.main(["predict"]) == 2
    assert capsys.readouterr().err == "captioner: error: photo.jpg: no image that can be read\n"


def test_an_interruption_ends_without_a_traceback(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert door.main(["predict"]) == 130
    assert capsys.readouterr().err == "captioner: interrupted\n"


def test_sigterm_ends_a_command_as_ctrl_c_does(command, capsys):
    before = signal.getsignal(signal.SIGTERM)
    command(lambda arguments: os.kill(os.getpid(), signal.SIGTERM))
    assert door.main(["predict"]) == 130
    assert capsys.readouterr().err == "captioner: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_full_disk_is_one_line_wherever_it_shows(command, capsys):
    command(raising(OSError(errno.ENOSPC, "No space left on device")))
    assert door.main(["predict"]) == 2
    assert "No space left on device; make room" in capsys.readouterr().err


def test_torch_and_torchvision_that_do_not_match_are_named(command, capsys):
    command(raising(RuntimeError("operator torchvision::nms does not exist")))
    assert door.main(["predict"]) == 2
    assert re.fullmatch(r"captioner: error: torch \S+ and torchvision \S+ were not made for each other; .*\n", capsys.readouterr().err)


def test_a_missing_torch_is_named(command, capsys):
    command(raising(ModuleNotFoundError("No module named 'torch'", name="torch")))
    assert door.main(["predict"]) == 2
    assert "torch is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError("another"), ImportError("another"), ValueError("a mistake of ours")])
def test_our_own_mistakes_keep_their_traceback(command, error):
    command(raising(error))
    with pytest.raises(type(error)):
        door.main(["predict"])


def test_an_unknown_command_is_refused_and_the_known_ones_named(capsys):
    assert door.main(["predcit"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "predcit" in error
    assert "predict" in error


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["help"]])
def test_help_names_every_command_and_shows_examples(words, capsys):
    assert door.main(words) == 0
    printed = capsys.readouterr().out
    assert all(
        f"\n  {command} " in printed and f"captioner {command}" in printed + "captioner cache captioner demo" for command in door.COMMANDS
    )


def test_without_a_command_help_is_shown_and_the_exit_code_says_usage(capsys):
    assert door.main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("command", door.COMMANDS)
def test_every_command_listed_is_there(command):
    assert find_spec(f"captioner.cli.{command}") is not None


def test_the_version_is_that_of_the_project(capsys):
    import tomllib

    assert door.main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"captioner {project['version']}\n" == f"captioner {captioner.__version__}\n"


@pytest.mark.parametrize("script", ["train", "predict"])
def test_the_two_doors_are_the_commands_from_any_folder(script, tmp_path):
    done = subprocess.run([sys.executable, ROOT / f"{script}.py", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_a_reader_that_goes_away_is_no_error():
    line = f"'{sys.executable}' -m captioner.cli.main --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_the_public_door_leads_to_the_model():
    from captioner.caption import Caption
    from captioner.model import Captioner

    assert captioner.Captioner is Captioner
    assert captioner.Caption is Caption
    assert {"Caption", "Captioner", "__version__"} <= set(dir(captioner))
    with pytest.raises(AttributeError, match="Painter"):
        _ = captioner.Painter
