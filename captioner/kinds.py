"""What conf offers: which classes a `_target_` may name at which key. Standard library only, for prediction asks this as well.

The list is closed, and is read from the files below conf/ themselves: a new kind is one class and one file there. Whatever else a
configuration names (a model's, a checkpoint's, a recorded run's, or one typed at a command line) is refused before anything is
imported or built.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from captioner.errors import InputError, listed

ROOT = "train"
LATE = ("optimizer", "optimizer.optimizer", "scheduler")
"""Keys whose kinds get their first arguments at run time: `_partial_: true` is of use there and refused elsewhere."""
ANY = "*"
"""In a place: a name that the user chooses, as of a callback."""
DEEPEST = 40
"""Levels of a configuration; ours have seven."""

_COMMENT = re.compile(r"(^|\s)#.*")
_PACKAGE = re.compile(r"#\s*@package\s+(\S+)")
_KEY = re.compile(r"""^(\s*)['"]?([\w.]+)['"]?\s*:(?:\s|$)""")
_TARGET = re.compile(r"""_target_['"]?\s*:\s*['"]?([\w.]+)""")
_BRACE = re.compile(r"""(?:([\w.]+)['"]?\s*:\s*)?\{|\}""")
_SAME = re.compile(r"^\s*(\w+):\s*\$\{(\w+)\}\s*$")
_MOVED = re.compile(r"/?([\w/]+)@([\w.]+)\s*:")


class Offer(NamedTuple):
    """What conf offers by place, a dotted key (`attention.score`, `callbacks.*`), and which places are filled as other ones are."""

    kinds: Mapping[str, frozenset[str]]
    same: Mapping[str, str]
    keys: Mapping[str, frozenset[str]]
    """The keys that conf's own files have at each place that has kinds."""

    def at(self, place: str) -> frozenset[str]:
        """The targets that may stand at a dotted key; none where nothing is built."""
        return self.kinds.get(self.canonical(place), frozenset())

    def canonical(self, place: str) -> str:
        """The place as `kinds` calls it: `decoder.attention.score` is filled as `attention.score` is."""
        whole = ""
        for part in place.split("."):
            parent, whole = whole, f"{whole}.{part}" if whole else part
            if parent and parent not in self.kinds and whole not in self.same and f"{parent}.{ANY}" in self.kinds:
                whole = f"{parent}.{ANY}"
            whole = self.same.get(whole, whole)
        return whole


def conf_folder() -> Path:
    """conf/ of the checkout that this package lies in, or the copy inside the installed package. Raises: InputError, neither is there."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / f"{ROOT}.yaml").is_file():
            return folder
    raise InputError(f"conf/{ROOT}.yaml is neither beside nor inside {package}; install captioner again")


@cache
def offered(folder: Path | None = None) -> Offer:
    """What the files below a conf folder (the package's own) offer."""
    folder = folder or conf_folder()
    kinds: dict[str, set[str]] = {}
    keys: dict[str, set[str]] = {}
    same: dict[str, str] = {}
    for path in sorted(folder.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        for place, line in _lines(text, _package(path, folder, text)):
            for target in _TARGET.finditer(line):
                inside = ".".join([place, *_open_keys(line[: target.start()])]).strip(".")
                kinds.setdefault(inside, set()).add(target[1])
            if key := _KEY.match(line):
                keys.setdefault(place, set()).add(key[2])
            if other := _SAME.match(line):
                same[f"{place}.{other[1]}".strip(".")] = other[2]
            if moved := _MOVED.search(line):
                inside = place.removesuffix("defaults").strip(".")
                same[f"{inside}.{moved[2]}".strip(".")] = moved[1].replace("/", ".")
    offer, offered_keys = _with_free_names(kinds, kinds), _with_free_names(keys, kinds)
    return Offer(offer, {place: other for place, other in same.items() if other in offer}, offered_keys)


def _package(path: Path, folder: Path, text: str) -> str:
    """The dotted key that a conf file's keys lie below, by Hydra's rules."""
    package = _PACKAGE.search(text)
    if package or path.parent == folder:
        return "" if package is None or package[1] == "_global_" else package[1]
    return path.parent.relative_to(folder).as_posix().replace("/", ".")


def _lines(text: str, package: str) -> Iterator[tuple[str, str]]:
    """(dotted key that a line lies below, the line without its comment)."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        line = _COMMENT.sub("", line)
        indent = len(line) - len(line.lstrip())
        if line.strip():
            above = [(depth, key) for depth, key in above if depth < indent]
        yield ".".join([*([package] if package else []), *(key for _, key in above)]), line
        if key := _KEY.match(line):
            above.append((indent, key[2]))


def _open_keys(text: str) -> list[str]:
    """The keys of the braces that a text leaves open: `bell: {loud: true, ` leaves `bell`."""
    keys: list[str] = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            del keys[-1:]
        else:
            keys.append(brace[1] or "")
    return keys


def _with_free_names(by_place: Mapping[str, set[str]], kinds: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    """The same with `*` for the names below a section that is itself built of nothing: those of callbacks, loggers and terms."""
    holders = {place.rpartition(".")[0] for place in kinds} - kinds.keys() - {""}
    merged: dict[str, set[str]] = {}
    for place, names in by_place.items():
        parts = place.split(".")
        general = [ANY if ".".join(parts[:count]) in holders else part for count, part in enumerate(parts)]
        merged.setdefault(".".join(general), set()).update(names)
    return {place: frozenset(names) for place, names in merged.items()}


def walk(config: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a configuration, of its sections and lists and of all that lies in them, the outer ones first."""
    yield place, config
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from walk(value, f"{place}.{key}" if place else str(key))
    elif isinstance(config, list | tuple):
        for index, value in enumerate(config):
            yield from walk(value, f"{place}[{index}]")


def targets(config: Any) -> Iterator[tuple[str, Any]]:
    """(dotted key, `_target_`) of all sections that have one, the outer ones first."""
    return ((place, value["_target_"]) for place, value in walk(config) if isinstance(value, Mapping) and "_target_" in value)


def check(config: Any, place: str = "") -> None:
    """Compare a whole configuration, which lies at the dotted key `place`, with what conf offers.

    Raises: InputError, names the key and the target that conf does not offer there, or the key of Hydra's that means nothing.
    """
    for inside, value in walk(config, place):
        if inside.count(".") + inside.count("[") > DEEPEST:
            raise InputError(f"{inside[:60]}...: a configuration is nested {DEEPEST} deep at most")
        if isinstance(value, Mapping) and "_target_" in value:
            _check_section(value, inside)


def _check_section(config: Mapping[Any, Any], place: str) -> None:
    target, at = config["_target_"], f"{place}: " if place else ""
    if not isinstance(target, str):
        raise InputError(f"{at}_target_ {target!r} is refused: it has to be a dotted name, one that conf/ offers")
    allowed = offered().at(place)
    if target not in allowed:
        offer = f"at this key conf/ offers {listed(sorted(allowed), 6)}" if allowed else "conf/ offers nothing that is built at this key"
        raise InputError(f"{at}_target_ {target!r} is refused: {offer}")
    for key in config:
        late = key == "_partial_" and config[key] is True and offered().canonical(place) in LATE
        if not isinstance(key, str) or (key.startswith("_") and key != "_target_" and not late):
            raise InputError(f"{at}the key {key!r} of {target} means nothing; arguments are names without a leading underscore")


def place_of(target: Any) -> str:
    """The first place that offers a target; none where nothing does."""
    return next((place for place, names in offered().kinds.items() if isinstance(target, str) and target in names), "")
