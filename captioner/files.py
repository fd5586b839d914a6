"""Files appear whole or not at all: write beside, then rename. Standard library only."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioner.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` (same ending); rename it to `path` on success, delete it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:80]}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes | str) -> None:
    """Write bytes or UTF-8 text to `path`, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file; `what` names it in the error ("caption annotations").

    Raises: InputError, the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: {what} not found; check the path") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: {what} is not JSON ({error.msg} at line {error.lineno} column {error.colno})") from None
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8; a number of too many digits; brackets too deep
        raise InputError(f"{path}: {what} cannot be read ({error})") from None
