"""Names that a data set lists -> files in its folder: as they are spelt there, and never outside it."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from captioner.data.images import image_endings
from captioner.errors import InputError


class Located(NamedTuple):
    names: list[str | None]
    """Below the folder, as the files are called; None where there is none."""
    respelt: list[int]
    """Which are not spelt in the list as on the disk."""


def locate_files(root: Path, names: Sequence[str], listed_in: Path, deep: bool = False) -> Located:
    """Each listed name's file: the one of just this name, else the only one that differs

    by backslashes for slashes, by letters' case, by Unicode's form (an accent apart from its letter or not), or by a missing ending.
    deep: names without a folder are also sought in the folders below.
    Raises: InputError, a name leads out of the folder, or two files fit it.
    """
    folder = _Folder(root, listed_in)
    found, respelt = [], []
    for index, name in enumerate(names):
        check_inside(name, root, listed_in)
        place = os.path.normpath(name) if folder.has(name) else folder.like(name.replace("\\", "/"), deep)
        found.append(place)
        if place is not None and place != os.path.normpath(name):
            respelt.append(index)
    return Located(found, respelt)


def check_inside(name: str, root: Path, listed_in: Path) -> None:
    """Raises: InputError, the name is of something outside the folder of images, or of nothing."""
    plain = os.path.normpath(name)
    if plain.startswith(("/", "../")) or plain == ".." or re.match(r"[A-Za-z]:/", plain) or "\0" in name:
        raise InputError(f"{listed_in}: the image {name!r} leads out of {root}; names are taken below the folder of images")


def comparable_name(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class _Folder:
    """What lies below a folder, looked up as it is asked for."""

    def __init__(self, root: Path, listed_in: Path) -> None:
        self.root, self.listed_in = root, listed_in
        self.exact: dict[str, set[str]] = {}
        self.alike: dict[str, dict[str, list[str]]] = {}
        self.stems: dict[str, dict[str, list[str]]] = {}
        self.below: dict[str, list[str]] | None = None

    def has(self, name: str) -> bool:
        parent, base = os.path.split(name)
        return base in self.entries(parent)

    def entries(self, parent: str) -> set[str]:
        if parent not in self.exact:
            folder = self.root / parent
            self.exact[parent] = set(os.listdir(folder)) if folder.is_dir() else set()
        return self.exact[parent]

    def like(self, name: str, deep: bool) -> str | None:
        check_inside(name, self.root, self.listed_in)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not parts or ".." in parts:
            return None
        parent = ""
        for part in parts[:-1]:
            step = part if part in self.entries(parent) else self.only(self.similar(parent, part), name)
            if step is None:
                return None
            parent = os.path.join(parent, step)
        base = parts[-1]
        same = base if base in self.entries(parent) else self.only(self.similar(parent, base) or self.ended(parent, base), name)
        if same is not None:
            return os.path.join(parent, same)
        return self.only(self.lower(base), name) if deep and len(parts) == 1 else None

    def similar(self, parent: str, base: str) -> list[str]:
        if parent not in self.alike:
            self.alike[parent] = group_pairs((comparable_name(entry), entry) for entry in self.entries(parent))
        return self.alike[parent].get(comparable_name(base), [])

    def ended(self, parent: str, base: str) -> list[str]:
        """Files that are called so but for an ending."""
        if parent not in self.stems:
            pairs = ((os.path.splitext(entry), entry) for entry in self.entries(parent))
            self.stems[parent] = group_pairs(
                (comparable_name(stem), entry) for (stem, ending), entry in pairs if ending.lower() in image_endings()
            )
        return self.stems[parent].get(comparable_name(base), [])

    def lower(self, base: str) -> list[str]:
        """Files of this name in any folder below."""
        if self.below is None:
            entries = ((here, entry) for here, _, files in os.walk(self.root) for entry in files)
            pairs = [(entry, os.path.relpath(os.path.join(here, entry), self.root)) for here, entry in entries]
            whole = group_pairs((comparable_name(entry), path) for entry, path in pairs)
            stems = group_pairs(
                (comparable_name(os.path.splitext(entry)[0]), path)
                for entry, path in pairs
                if os.path.splitext(entry)[1].lower() in image_endings()
            )
            self.below = {**stems, **whole}
        return self.below.get(comparable_name(base), [])

    def only(self, fitting: Sequence[str], name: str) -> str | None:
        if len(fitting) > 1:
            both = " and ".join(sorted(fitting)[:2])
            raise InputError(f"{self.listed_in}: {name!r} may be {both} in {self.root}; list the one that is meant as it is called there")
        return fitting[0] if fitting else None


def group_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return found
