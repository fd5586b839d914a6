"""Runs one case in process and holds it to the law of every command.

    exit code 0, 1 or 2, and no exception leaves `main`;
    2: exactly one line on standard error begins "captioner: error: ", and it names a file, a key or a word that was typed;
    1: every input without a result is named on standard error;
    nothing that was there is changed, nothing is written elsewhere, no half-written file stays, no program is started;
    it ends.

A case depends on its target, its number and the seed alone, so that `python tests/fuzz --target T --seed S --case N` shows it again.
"""

import hashlib
import io
import logging
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from guard import Broken, Hung, guarded
from world import World, inside

SECONDS = 60.0
"""Limit of a case, many times what the longest one takes on a busy machine."""
ERROR = "captioner: error: "
HELP = re.compile(r"--[a-z][a-z-]+|\b[a-z_]+(\.[a-z_]+)+\b|\b(encoder|decoder|transform|search|objective|optimizer|scheduler|data|seed)\b")
"""A flag, a dotted key, or a section of the configuration."""
LARGE = 2**25
"""Bytes from which a file is known by its size."""
HALF = re.compile(r"\.tmp-|^\.captions\.")


class Case(NamedTuple):
    """A command line to run in a folder that holds its inputs. `images`: predict names each of them on one of its two outputs."""

    words: list[str]
    images: Sequence[str] = ()
    stdin: bytes = b""


class Outcome(NamedTuple):
    code: int | None
    broken: list[str]
    """What of the law was broken; empty where all is well."""
    words: list[str]
    out: str
    err: str


Make = Callable[[random.Random, World, Path], Case]
"""Fills an empty folder with inputs and gives the command line."""


def run_case(name: str, make: Make, world: World, seed: int, number: int, keep: Path | None = None) -> Outcome:
    """Make a case and run it in a folder of its own, which is deleted, or is `keep` and stays."""
    rng = random.Random(f"{name}/{seed}/{number}")
    folder = keep or Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-{number}-", dir=world.folder.parent))
    folder.mkdir(exist_ok=True)
    try:
        case = make(rng, world, folder)
        return held(case, folder)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def held(case: Case, folder: Path, seconds: float = SECONDS) -> Outcome:
    """Run a case in its folder; what it breaks of the law is in the outcome."""
    before = contents(folder)
    broken: list[str] = []
    code: int | None = None
    with redirected(case.stdin) as (out, err), inside(folder), home_and_temporary(folder), own_logs():
        try:
            with guarded(folder, seconds) as refused:
                code = called(case.words)
        except (Broken, Hung) as error:
            broken.append(f"{error}\n{traceback.format_exc()}")
        except BaseException:  # whatever a command lets out is a fault, and is told of
            broken.append(f"an exception left main\n{traceback.format_exc()}")
        broken += [what for what in refused if not any(what in told for told in broken)]
        said, told = text(out), text(err)
    if code is not None:
        broken += verdict(code, case, said, told, [os.path.basename(name) for name in before])
    broken += changed(before, contents(folder))
    return Outcome(code, broken, case.words, said, told)


def called(words: list[str]) -> int:
    """The exit code that the process would have."""
    from captioner.cli.main import main

    try:
        return main(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1


def verdict(code: int, case: Case, said: str, told: str, files: Sequence[str]) -> list[str]:
    """What of the law about exit codes and lines does not hold."""
    broken = []
    errors = [line for line in told.split("\n") if line.startswith(ERROR)]
    if code not in (0, 1, 2):
        broken.append(f"the exit code is {code}")
    if "Traceback" in told or "Traceback" in said:
        broken.append("it prints a traceback")
    if code == 2 and len(errors) != 1 and not said.startswith("usage: "):
        broken.append(f"exit 2 with {len(errors)} lines of error")
    if code == 2 and errors and not names(errors[0].removeprefix(ERROR), case.words, files):
        broken.append(f"the error names neither file nor key nor word: {errors[0]}")
    if code != 2 and errors:
        broken.append(f"exit {code} with a line of error")
    if code == 1 and not told.strip():
        broken.append("exit 1, and nothing is named")
    if code in (0, 1):
        silent = [image for image in case.images if f"{image}\t" not in said and " ".join(image.split()) not in told]
        broken += [f"{image!r} has neither caption nor complaint" for image in silent]
    return broken


def names(message: str, words: Sequence[str], files: Sequence[str]) -> bool:
    """Whether a message begins with one name, or holds a flag or key, the name of a file, or something that was typed."""
    typed = {part for word in words for part in (word, *word.split("=")) if part.strip()}
    squeezed = {" ".join(part.split()) for part in typed}
    return bool(re.match(r"\S+: ", message) or HELP.search(message)) or any(
        part in message for part in {*squeezed, *(name for name in files if name)}
    )


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder by the hash of its contents, a large one by its size, and what is no file by its kind."""
    found = {}
    for here, below, files in os.walk(folder):
        for name in (*below, *files):
            path = os.path.join(here, name)
            key = os.path.relpath(path, folder)
            if os.path.isfile(path) and os.path.getsize(path) > LARGE:
                found[key] = f"{os.path.getsize(path)} bytes"
            elif os.path.isfile(path):
                with open(path, "rb") as file:
                    found[key] = hashlib.file_digest(file, "blake2b").hexdigest()
            else:
                found[key] = "a folder" if os.path.isdir(path) else "neither file nor folder"
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    lost = [f"{name} was changed or deleted" for name, value in before.items() if after.get(name) != value]
    return lost + [f"{name} was left half written" for name in after.keys() - before.keys() if HALF.search(os.path.basename(name))]


def text(stream: io.TextIOWrapper) -> str:
    """What was written to a stream so far."""
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode("utf-8", "replace")


@contextmanager
def redirected(stdin: bytes) -> Iterator[tuple[io.TextIOWrapper, io.TextIOWrapper]]:
    """Standard streams as a process has them: UTF-8, strict on output, and what cannot be written to the error stream as escapes."""
    before = sys.stdin, sys.stdout, sys.stderr
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict", write_through=True)
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True)
    sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(stdin), "utf-8", "surrogateescape"), out, err
    try:
        yield out, err
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


@contextmanager
def home_and_temporary(folder: Path) -> Iterator[None]:
    """HOME and the temporary folder lie beside the inputs, and no stamp of an earlier run is left."""
    kept, temporary = dict(os.environ), tempfile.tempdir
    (folder / ".tmp").mkdir(exist_ok=True)
    os.environ |= {"HOME": str(folder), "TMPDIR": str(folder / ".tmp")}
    tempfile.tempdir = None
    try:
        yield
    finally:
        tempfile.tempdir = temporary
        os.environ.clear()
        os.environ |= kept


@contextmanager
def own_logs() -> Iterator[None]:
    """The package's log as it was, afterwards: commands arrange it for their standard error."""
    log = logging.getLogger("captioner")
    before = log.handlers, log.level, log.propagate
    try:
        yield
    finally:
        log.handlers, log.propagate = before[0], before[2]
        log.setLevel(before[1])
