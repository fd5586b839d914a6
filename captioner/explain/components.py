"""Connected components of many binary maps at once, by their runs."""

import numpy as np
from jaxtyping import Bool, Int


def largest_boxes(on: Bool[np.ndarray, "maps height width"]) -> Int[np.ndarray, "maps 4"]:
    """(left, top, right, bottom) round the largest component of each map, right and bottom exclusive; zeros where nothing is on.

    Pixels that share a side are connected. Of components of one size it is the first in reading order.
    """
    count, height, width = on.shape
    boxes = np.zeros((count, 4), np.int64)
    padded = np.zeros((count, height, width + 1), bool)
    padded[..., :-1] = on
    flat = padded.ravel()
    starts = np.flatnonzero(flat & ~np.append(False, flat[:-1]))
    if not len(starts):
        return boxes
    ends = np.flatnonzero(flat & ~np.append(flat[1:], False)) + 1
    roots = joined(padded, len(starts), starts)
    of_map, place = np.divmod(starts, height * (width + 1))
    row, left = np.divmod(place, width + 1)
    sizes = np.bincount(roots, weights=ends - starts, minlength=len(starts))
    heads = np.unique(roots)
    order = heads[np.lexsort((heads, -sizes[heads], of_map[heads]))]
    maps, first = np.unique(of_map[order], return_index=True)
    best = np.full(count, -1)
    best[maps] = order[first]
    chosen = np.flatnonzero(roots == best[of_map])
    boxes[maps, 0], boxes[maps, 1] = width, height
    for side, reduce, values in (
        (0, np.minimum, left),
        (1, np.minimum, row),
        (2, np.maximum, left + ends - starts),
        (3, np.maximum, row + 1),
    ):
        reduce.at(boxes[:, side], of_map[chosen], values[chosen])
    return boxes


def joined(padded: Bool[np.ndarray, "maps height wider"], runs: int, starts: Int[np.ndarray, " runs"]) -> Int[np.ndarray, " runs"]:
    """For each run, by its number in reading order, the first run of its component."""
    marks = np.zeros(padded.size, np.int64)
    marks[starts] = 1
    run = (np.cumsum(marks) - 1).reshape(padded.shape)
    both = padded[:, :-1] & padded[:, 1:]
    upper, lower = run[:, :-1][both], run[:, 1:][both]
    fresh = np.append(True, (np.diff(upper) != 0) | (np.diff(lower) != 0))[: len(upper)]
    upper, lower = upper[fresh], lower[fresh]
    roots = np.arange(runs)
    while True:
        one, other = roots[upper], roots[lower]
        apart = one != other
        if not apart.any():
            return roots
        np.minimum.at(roots, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while (further := roots[roots]).tolist() != roots.tolist():
            roots = further
