"""A configuration of plain values -> the objects that it describes, and their errors with the configuration's keys before them."""

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from captioner import kinds
from captioner.arguments import check_types
from captioner.errors import ArgumentError, InputError, one_line


def build(config: Any, place: str | None = None, /, **late: Any) -> Any:
    """Make the object that `config` describes: `{_target_: captioner.room.file.Name, argument: value, ...}`, nested as deep as it likes.

    `place` is the dotted key at which conf offers such objects ("encoder", "attention.score"); without it, any at which conf offers
    the outermost one. The whole of `config` is compared with what conf offers there before anything is imported or built: see `kinds`.
    With `_partial_: true` the object is a `Maker`. `late` are arguments known only at run time; they go to the outermost call and win.
    Raises: InputError, a target that conf does not offer, arguments that it does not take, or values that it refuses; the line begins
    with the key at fault, as in "decoder.attention.locality.sigma: ...".
    """
    if not isinstance(config, Mapping) or "_target_" not in config:
        got = f"keys {sorted(map(str, config))}" if isinstance(config, Mapping) else type(config).__name__
        raise InputError(f"{f'{place}: ' if place else ''}a configuration to build is a mapping with a _target_, not {got}")
    kinds.check(config, kinds.place_of(config["_target_"]) if place is None else place)
    return _build_section(config, place or "", late)


def _build_value(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return _build_section(value, place, {})
        return {key: _build_value(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_build_value(item, f"{place}[{index}]") for index, item in enumerate(value)]
    return value


def _build_section(config: Mapping[str, Any], place: str, late: Mapping[str, Any]) -> Any:
    """Build a section that `kinds.check` has passed."""
    target = import_target(config["_target_"], place)
    section = {key: item for key, item in config.items() if not key.startswith("_") and key not in late}
    arguments = {key: _build_value(item, f"{place}.{key}" if place else key) for key, item in section.items()}
    maker = Maker(target, arguments, place)
    with maker.errors():
        _check_names(target, {**arguments, **late}, "_partial_" in config)
        if target.__module__.split(".")[0] == __package__:
            check_types(target, arguments)
    return maker if "_partial_" in config else maker(**late)


@dataclass(frozen=True)
class Maker:
    """Makes an object of the arguments that a configuration gives at `place`, and of those that are known only at run time.

    Raises: InputError, the target refuses an argument; the line begins with its key.
    """

    target: Any
    arguments: Mapping[str, Any]
    place: str

    def __call__(self, *first: Any, **late: Any) -> Any:
        with self.errors():
            return self.target(*first, **{**self.arguments, **late})

    @contextmanager
    def errors(self) -> Iterator[None]:
        try:
            yield
        except (InputError, OSError, ImportError):
            raise
        except Exception as error:  # whatever a constructor raises by values that it cannot take
            key = self.place or self._name()
            if isinstance(error, ArgumentError) and self.place and error.name.partition(".")[0] in self.arguments:
                key = f"{self.place}.{error.name}"
            raise InputError(f"{key}: {one_line(error)}") from error

    def _name(self) -> str:
        return f"{self.target.__module__}.{self.target.__qualname__}"


def import_target(name: str, place: str) -> Any:
    """The class or function of a target that conf offers."""
    at = f"{place}: " if place else ""
    module_name, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        package = error.name if isinstance(error, ModuleNotFoundError) else None
        if package and not module_name.startswith(package):
            raise InputError(f"{at}{name} needs the package {package!r}, which is not installed") from error
        raise InputError(f"{at}conf/ offers {name}, but the package has no such thing; install captioner again") from None


def _check_names(target: Any, arguments: Mapping[str, Any], partial: bool) -> None:
    """Raises: TypeError, an argument is missing, or the target has none of that name."""
    signature = inspect.signature(target)
    try:
        (signature.bind_partial if partial else signature.bind)(**arguments)
    except TypeError as error:
        raise TypeError(f"{error}; it takes {', '.join(signature.parameters) or 'no arguments'}") from None
