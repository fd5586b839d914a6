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
    """Each path below the paths' common folder, without its ending; where two meet, the ending stays. Always with forward slashes.

    Paths that have only the root in common, or not even a drive, are named in parts: those below one top folder by their own common
    folder; where names of two parts meet, the name of that folder comes first, with a number where the folders are called alike.
    """
    absolute = [Path(os.path.abspath(path)) for path in paths]
    common = _common_folder(absolute)
    parts: dict[tuple[str, ...], list[int]] = {}
    for number, path in enumerate(absolute):
        parts.setdefault(path.parts[:2] if common is None and len(path.parts) > 2 else (), []).append(number)
    bases = [_common_folder([absolute[number] for number in numbers]) or Path(absolute[numbers[0]].anchor) for numbers in parts.values()]
    names = [""] * len(paths)
    labels = _labels(bases) if _meet(absolute, list(parts.values()), bases) else [""] * len(bases)
    for numbers, base, label in zip(parts.values(), bases, labels, strict=True):
        full = [absolute[number].relative_to(base).as_posix() for number in numbers]
        for number, name in zip(numbers, _without_endings(full), strict=True):
            names[number] = label + name
    return names


def _common_folder(paths: Sequence[Path]) -> Path | None:
    """The folder that all lie in, other than a root; None where there is none."""
    if len({path.anchor for path in paths}) != 1:
        return None
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return None if common == Path(common.anchor) and len({path.parent for path in paths}) > 1 else common


def _meet(paths: Sequence[Path], parts: Sequence[Sequence[int]], bases: Sequence[Path]) -> bool:
    """Whether two parts name a file, or a folder of files, alike."""
    tops = [{paths[number].relative_to(base).parts[0].casefold() for number in numbers} for numbers, base in zip(parts, bases, strict=True)]
    stems = [{os.path.splitext(top)[0] for top in own} for own in tops]
    return sum(map(len, stems)) > len(set().union(*stems))


def _labels(bases: Sequence[Path]) -> list[str]:
    """A folder for each part: the name of its common folder, with a number where another part has it already."""
    labels: list[str] = []
    for base in bases:
        name = label = base.name or "root"
        number = 2
        while f"{label}/".casefold() in map(str.casefold, labels):
            label, number = f"{name}_{number}", number + 1
        labels.append(f"{label}/")
    return labels


def _without_endings(full: Sequence[str]) -> list[str]:
    """Names without their endings, but where two would be alike."""
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
