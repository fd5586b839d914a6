"""One progress bar for everything long outside Lightning's loop; on standard error, silent where that is no terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "image") -> Iterator[Item]:
    """Pass `items` through, showing how many are done, the rate and the time left."""
    return iter(tqdm(items, desc=what, total=total, unit=unit, leave=False, dynamic_ncols=True, disable=not sys.stderr.isatty()))
