"""What `predict` was asked to caption: files, folders, globs and lists become paths, and each path a name for its results."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"))
"""What counts as an image in a folder; a file named outright is tried whatever its ending."""


def image_paths(asked: Sequence[str], listed: Iterable[str], recursive: bool, leave_out: Path | None) -> tuple[list[str], list[str]]:
    """(paths in the order asked for, each once; one line for each thing asked for that yields nothing).

    `listed` are the lines of standard input that `-` stands for; of folders, what lies in `leave_out` (where results go) is left out.
    """
    found: dict[str, str] = {}
    missing = []
    spelled = list(_spelled_out(asked, listed))
    if not spelled:
        missing.append("-: standard input lists no file")
    for item in spelled:
        paths = list(_expanded(item, recursive, leave_out))
        if not paths:
            missing.append(_why_not(item, recursive))
        for path in paths:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values()), missing


def result_names(paths: Sequence[str]) -> list[str]:
    """Each path below the paths' common folder, without its ending; where two meet, the ending stays. Always with forward slashes."""
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute]) if absolute else ""
    full = [Path(os.path.relpath(path, common)).as_posix() for path in absolute]
    bare = [os.path.splitext(name)[0] for name in full]
    met = Counter(name.casefold() for name in bare)
    return [long if met[short.casefold()] > 1 else short for long, short in zip(full, bare, strict=True)]


def _spelled_out(asked: Sequence[str], listed: Iterable[str]) -> Iterator[str]:
    for item in asked:
        if item == "-":
            yield from (line.rstrip("\r\n") for line in listed if line.strip())
        else:
            yield item


def _expanded(item: str, recursive: bool, leave_out: Path | None) -> Iterator[str]:
    if os.path.isdir(item):
        yield from _images_in(Path(item), recursive, leave_out)
    elif os.path.exists(item):
        yield item
    elif glob.has_magic(item):
        for match in sorted(glob.glob(item, recursive=True)):
            if os.path.isfile(match):
                yield match


def _images_in(folder: Path, recursive: bool, leave_out: Path | None) -> Iterator[str]:
    """Images of a folder in order, hidden ones left out; folders below it after its own, where `recursive`."""
    left_out = leave_out.resolve() if leave_out else None
    for here, below, names in os.walk(folder, followlinks=True):
        below[:] = (
            sorted(name for name in below if not name.startswith(".") and (Path(here) / name).resolve() != left_out) if recursive else []
        )
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS:
                yield os.path.join(here, name)


def _why_not(item: str, recursive: bool) -> str:
    if os.path.isdir(item):
        return f"{item}: no images in this folder" + ("" if recursive else "; --recursive looks below it too")
    return f"{item}: {'nothing matches' if glob.has_magic(item) else 'there is no such file'}"
