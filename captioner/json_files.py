"""JSON files, read and written, and what a reader is told of their values. Standard library only."""

import json
from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any

from captioner.atomic_files import write_atomically
from captioner.errors import InputError

TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
"""Types of JSON values, as messages name them."""


def json_type(value: Any) -> str:
    """What a message says was found; `nothing` for null, which also stands for a key that is missing."""
    return "nothing" if value is None else TYPE_NAMES[type(value)]


def read_json(path: Path, what: str, keep: Container[str] | None = None) -> Any:
    """Parse a JSON file; `what` names it in the error ("caption annotations").

    keep: keep only these keys of every object, so that a large file takes little memory.
    Raises: InputError, the file is missing, unreadable or not JSON.
    """
    try:
        data = Path(path).read_bytes()
        text = data.decode(json.detect_encoding(data), "surrogatepass")
        del data
        return json.loads(text) if keep is None else json.loads(text, object_pairs_hook=partial(_selected_keys, keep))
    except FileNotFoundError:
        raise InputError(f"{path}: {what} not found; check the path") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: {what} is not JSON ({error.msg} at line {error.lineno} column {error.colno})") from None
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8; a number of too many digits; brackets too deep
        raise InputError(f"{path}: {what} cannot be read ({error})") from None


def _selected_keys(keep: Container[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value for key, value in pairs if key in keep}


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write the value and a line's end, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=indent) + "\n")
