"""What `predict` was asked to caption: files, folders, globs and lists become paths, and each path a name for its results."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from captioner.data.images import UNDECODED, image_endings, is_image

MOST = 5
"""So many endings of files that are no images are told apart."""


class Inputs(NamedTuple):
    """`paths` in the order asked for, each file once.

    missing: a line for each thing asked for that yields nothing, or not all its photos. left_out: a line for each folder with files
    that are no images, or are taken already.
    """

    paths: list[str]
    missing: list[str]
    left_out: list[str]


def image_paths(asked: Sequence[str], listed: Iterable[str], recursive: bool, leave_out: Path | None) -> Inputs:
    """What `predict` is to caption: of folders, what counts as an image; what is named outright is tried whatever it is.

    `listed` are the lines of standard input that `-` stands for; of folders, what lies in `leave_out` (where results go) is left out.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    left_out: list[str] = []
    spelled = list(_spelled_out(asked, listed))
    if not spelled:
        missing.append("-: standard input lists no file")
    for item in spelled:
        if os.path.isdir(item):
            walk = _Walk(item, recursive, leave_out)
            paths, lines = walk.images, walk.unreadable
            if walk.left_out():
                (lines if walk.photos else left_out).append(walk.left_out())
            missing += [*lines, *([] if paths or lines else [f"{item}: no images in this folder"])]
        else:
            paths = list(_expanded(item))
            missing += [] if paths else [f"{item}: {'nothing matches' if glob.has_magic(item) else 'there is no such file'}"]
        taken = [(path, found.setdefault(os.path.realpath(path), path)) for path in paths]
        again = [(path, first) for path, first in taken if os.path.abspath(first) != os.path.abspath(path)]
        if again:
            path, first = again[0]
            more = f", and {_counted(len(again) - 1, 'other')}" if len(again) > 1 else ""
            left_out.append(f"{item}: left out what is taken already: {path}, which is {first}{more}")
    return Inputs(list(found.values()), missing, left_out)


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


def _expanded(item: str) -> Iterator[str]:
    if os.path.exists(item):
        yield item
    elif glob.has_magic(item):
        yield from (match for match in sorted(glob.glob(item, recursive=True)) if not os.path.isdir(match))


class _Walk:
    """What lies in a folder: `images`, in order, and what is left out of them.

    Images go by their ending, files without one by how they begin. Links are followed, but a file or folder that is reached in several
    ways is taken once, by its own name where that is among them. What lies in `results` is left out and not spoken of.
    """

    def __init__(self, folder: str, recursive: bool, results: Path | None) -> None:
        self.folder, self.recursive = folder, recursive
        self.hidden = self.links = self.folders = 0
        self.endings: Counter[str] = Counter()
        self.unreadable: list[str] = []
        apart = os.path.realpath(results) if results else None
        seen: set[str] = set()
        found: list[str] = []
        for here, below, names in os.walk(folder, followlinks=True, onerror=self._unreadable):
            real = os.path.realpath(here)
            if real in seen or real == apart:
                self.links += real in seen
                below.clear()
                continue
            seen.add(real)
            found += [os.path.join(here, name) for name in sorted(names) if self._is_image(os.path.join(here, name))]
            self.hidden += sum(name.startswith(".") for name in below)
            below[:] = sorted((name for name in below if not name.startswith(".")), key=lambda name: (self._is_link(here, name), name))
            if not recursive:
                self.folders += sum(os.path.realpath(os.path.join(here, name)) not in (*seen, apart) for name in below)
                below.clear()
        once: dict[str, str] = {}
        for path in sorted(found, key=os.path.islink):
            once.setdefault(os.path.realpath(path), path)
        self.links += len(found) - len(once)
        kept = set(once.values())
        self.images = [path for path in found if path in kept]

    @staticmethod
    def _is_link(here: str, name: str) -> bool:
        return os.path.islink(os.path.join(here, name))

    def _unreadable(self, error: OSError) -> None:
        self.unreadable.append(f"{error.filename}: the folder cannot be read ({error.strerror})")

    def _is_image(self, path: str) -> bool:
        name = os.path.basename(path)
        ending = os.path.splitext(name)[1].lower()
        if name.startswith("."):
            self.hidden += 1
            return False
        if ending in image_endings() or (not ending and is_image(path)):
            return True
        self.endings[ending] += 1
        return False

    @property
    def photos(self) -> int:
        """How many photos are left out because their decoder is lacking."""
        return sum(count for ending, count in self.endings.items() if ending in UNDECODED)

    def left_out(self) -> str:
        """A line, or nothing where all was taken."""
        said = [f"{count} {ending} ({UNDECODED[ending]})" for ending, count in self.endings.most_common() if ending in UNDECODED]
        others = [(ending, count) for ending, count in self.endings.most_common() if ending not in UNDECODED]
        shown = [f"{count} {ending or 'without an ending'}" for ending, count in others[:MOST]]
        shown += [f"{sum(count for _, count in others[MOST:])} of other kinds"] if len(others) > MOST else []
        said += [f"{', '.join(shown)} (not images)"] if shown else []
        said += [f"{self.hidden} hidden"] if self.hidden else []
        said += [f"{_counted(self.links, 'link')} to what is taken already"] if self.links else []
        said += [f"{_counted(self.folders, 'folder')} (--recursive looks below)"] if self.folders else []
        return f"{self.folder}: left out {'; '.join(said)}" if said else ""


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")
