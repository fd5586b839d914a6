"""Whether a configuration's values have the types that a constructor's annotations name. Standard library only."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from captioner.errors import ArgumentError
from captioner.json_files import TYPE_NAMES

LISTS = (list, tuple, set, frozenset, Sequence)


def check_types(target: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raises: ArgumentError, an argument's value is not what the target's annotation says (the first one is named)."""
    parameters = inspect.signature(target).parameters
    for name, value in arguments.items():
        if name in parameters and not fits(value, parameters[name].annotation):
            text = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
            raise ArgumentError(name, f"has to be {describe_type(parameters[name].annotation)}, not {text}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value has the type that an annotation names. Shapes, callables and type variables are not checked."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is None or hint is NoneType:
        return value is None
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if hint in (int, float):
        return isinstance(value, int | float if hint is float else int) and not isinstance(value, bool)
    kind = origin or hint
    if kind in LISTS:
        return isinstance(value, list | tuple) and all(fits(item, one) for item, one in zip(value, _items(inner, len(value)), strict=True))
    if kind in (dict, Mapping):
        return isinstance(value, Mapping) and (not inner or all(fits(item, inner[1]) for item in value.values()))
    if isinstance(hint, type) and not isinstance(hint, TypeVar) and hint is not inspect.Parameter.empty:
        return _is_instance(value, hint)
    return True


def _items(inner: Sequence[Any], length: int) -> Sequence[Any]:
    """The annotation of each item of a list; a tuple of another length fits none."""
    if not inner:
        return [Any] * length
    if len(inner) == 1 or inner[-1] is Ellipsis:
        return [inner[0]] * length
    return inner if len(inner) == length else [Literal[()]] * length


def _is_instance(value: Any, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol that is not checked at run time
        return True


def describe_type(hint: Any) -> str:
    """An annotation in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(describe_type(one) for one in inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if (origin or hint) in LISTS:
        several = [one for one in inner if one is not Ellipsis]
        return f"a list of {' and '.join(dict.fromkeys(_plural(one) for one in several))}" if several else "a list"
    if (origin or hint) in (dict, Mapping):
        return "a section with keys"
    if hint is None or hint in TYPE_NAMES:
        return TYPE_NAMES.get(hint, "null")
    return f"a section whose _target_ makes a {getattr(hint, '__name__', hint)}"


def _plural(hint: Any) -> str:
    return describe_type(hint).removeprefix("a ") + "s" if hint in (int, float, str) else describe_type(hint)
