"""Connected components of many binary maps at once, computed on runs: consecutive pixels of a row that are true."""

import numpy as np
from jaxtyping import Bool, Int


def largest_boxes(maps: Bool[np.ndarray, "maps height width"]) -> Int[np.ndarray, "maps 4"]:
    """(left, top, right, bottom) around the largest component of each map, right and bottom exclusive; zeros where no pixel is true.

    Pixels that share a side are connected. Of components of the same size, the first in reading order counts.
    """
    count, height, width = maps.shape
    boxes = np.zeros((count, 4), np.int64)
    padded = np.zeros((count, height, width + 1), bool)
    padded[..., :-1] = maps
    flat = padded.ravel()
    starts = np.flatnonzero(flat & ~np.append(False, flat[:-1]))
    if not len(starts):
        return boxes
    ends = np.flatnonzero(flat & ~np.append(flat[1:], False)) + 1
    roots = component_roots(padded, len(starts), starts)
    map_index, position = np.divmod(starts, height * (width + 1))
    row, left = np.divmod(position, width + 1)
    sizes = np.bincount(roots, weights=ends - starts, minlength=len(starts))
    heads = np.unique(roots)
    order = heads[np.lexsort((heads, -sizes[heads], map_index[heads]))]
    nonempty, first = np.unique(map_index[order], return_index=True)
    largest = np.full(count, -1)
    largest[nonempty] = order[first]
    chosen = np.flatnonzero(roots == largest[map_index])
    boxes[nonempty, 0], boxes[nonempty, 1] = width, height
    for side, reduce, values in (
        (0, np.minimum, left),
        (1, np.minimum, row),
        (2, np.maximum, left + ends - starts),
        (3, np.maximum, row + 1),
    ):
        reduce.at(boxes[:, side], map_index[chosen], values[chosen])
    return boxes


def component_roots(padded: Bool[np.ndarray, "maps height wider"], runs: int, starts: Int[np.ndarray, " runs"]) -> Int[np.ndarray, " runs"]:
    """For each run, numbered in reading order, the number of the first run of its component."""
    is_start = np.zeros(padded.size, np.int64)
    is_start[starts] = 1
    run = (np.cumsum(is_start) - 1).reshape(padded.shape)
    both = padded[:, :-1] & padded[:, 1:]
    upper, lower = run[:, :-1][both], run[:, 1:][both]
    is_new = np.append(True, (np.diff(upper) != 0) | (np.diff(lower) != 0))[: len(upper)]
    upper, lower = upper[is_new], lower[is_new]
    roots = np.arange(runs)
    while True:
        one, other = roots[upper], roots[lower]
        differ = one != other
        if not differ.any():
            return roots
        np.minimum.at(roots, np.maximum(one, other)[differ], np.minimum(one, other)[differ])
        while (next_roots := roots[roots]).tolist() != roots.tolist():
            roots = next_roots
