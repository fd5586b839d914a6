"""Does the map of an object's word point at the object?"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from captioner.box import Box
from captioner.errors import ArgumentError


class PointingRecord(NamedTuple):
    """One word that names an object, the map of that word, and where such objects are."""

    alphas: Float[np.ndarray, "rows cols"]
    box: Box
    """(left, top, right, bottom): the original pixels that the grid covers."""
    targets: Sequence[Sequence[float]]
    """(x, y, width, height) of every object that the word's phrase names, in original pixels, as COCO's `bbox`."""


def pointing(records: Iterable[PointingRecord]) -> dict[str, float]:
    """The pointing game: the share of words whose highest cell has its centre in a target's box.

    Fractions: `peak`, of these maps; `uniform`, of a map without preference on average, which is the share of cells whose centre is
    inside; `centre`, of a map that always points at the middle of the grid's box. `words` counts the records. Of equally high cells the
    word gets the share that is inside (within one part in 10^6 counts as equal), so a flat map scores as `uniform`; the left and upper
    edges of a box are inside, the others are not. Without records all shares are nan.
    Source: Zhang et al. 2016, "Top-down neural attention by excitation backprop", sec. 4.2 (there with a margin of 15 pixels, here none).
    Raises: ArgumentError, alphas are not a grid of finite numbers, or a box is empty.
    """
    rows = [record_scores(record) for record in records]
    means = np.mean(rows, axis=0) if rows else np.full(3, np.nan)
    return {"peak": float(means[0]), "uniform": float(means[1]), "centre": float(means[2]), "words": len(rows)}


def record_scores(record: PointingRecord) -> tuple[float, float, float]:
    """The scores of one word: of its map, of a uniform map, and of a peak at the centre."""
    alphas = record.alphas
    if alphas.ndim != 2 or alphas.size == 0 or not np.isfinite(alphas).all():
        raise ArgumentError("alphas", f"must be a grid (rows, cols) of finite numbers, not of shape {alphas.shape}")
    x, y = cell_centres(alphas.shape[0], alphas.shape[1], record.box)
    is_target = inside(x, y, record.targets)
    highest = alphas >= alphas.max() - 1e-6 * abs(alphas.max())
    left, top, right, bottom = record.box
    middle = inside(np.array([(left + right) / 2]), np.array([(top + bottom) / 2]), record.targets)
    return float(is_target[highest].mean()), float(is_target.mean()), float(middle[0, 0])


def cell_centres(rows: int, cols: int, box: Box) -> tuple[Float[np.ndarray, " cols"], Float[np.ndarray, " rows"]]:
    """x of each column's middle and y of each row's, in the original pixels that `box` (left, top, right, bottom) spans."""
    left, top, right, bottom = box
    if not (right > left and bottom > top):
        raise ArgumentError("box", f"(left, top, right, bottom) must have an area in pixels, not {tuple(box)}")
    return left + (np.arange(cols) + 0.5) * (right - left) / cols, top + (np.arange(rows) + 0.5) * (bottom - top) / rows


def inside(
    x: Float[np.ndarray, " cols"], y: Float[np.ndarray, " rows"], targets: Sequence[Sequence[float]]
) -> Bool[np.ndarray, "rows cols"]:
    """True at (row, col) where the point (x, y) lies in any of the (x, y, width, height) targets."""
    mask = np.zeros((len(y), len(x)), bool)
    for left, top, width, height in targets:
        mask |= ((y >= top) & (y < top + height))[:, None] & ((x >= left) & (x < left + width))
    return mask
