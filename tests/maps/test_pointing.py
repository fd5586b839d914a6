"""The pointing game against counts by hand and a loop over cells."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.maps.pointing import PointingRecord, pointing

BOX = (10.0, 20.0, 50.0, 50.0)  # 40 x 30 pixels; with 3 rows and 4 columns each cell is 10 x 10


def grid(*peaks, rows=3, cols=4):
    alphas = np.full((rows, cols), 0.01)
    for peak in peaks:
        alphas[peak] = 0.5
    return alphas


def scores(alphas, targets, box=BOX):
    found = pointing([PointingRecord(alphas, box, targets)])
    return found["peak"], found["uniform"], found["centre"]


def test_a_peak_inside_counts_and_one_outside_does_not():
    target = [[10, 20, 20, 10]]  # the first two cells of the first row
    assert scores(grid((0, 1)), target) == (1, 2 / 12, 0)
    assert scores(grid((1, 0)), target) == (0, 2 / 12, 0)


def test_rows_are_not_columns():
    assert scores(grid((2, 0)), [[10, 40, 10, 10]])[0] == 1
    assert scores(grid((0, 2)), [[10, 40, 10, 10]])[0] == 0


def test_any_object_that_the_phrase_names_will_do():
    assert scores(grid((2, 3)), [[10, 20, 10, 10], [40, 40, 10, 10]]) == (1, 2 / 12, 0)


def test_overlapping_objects_cover_a_cell_once():
    assert scores(grid((0, 0)), [[10, 20, 20, 10], [10, 20, 10, 30]])[1] == 4 / 12


def test_the_centre_is_that_of_what_the_grid_covers():
    assert scores(grid((0, 0)), [[29, 34, 2, 2]])[2] == 1
    assert scores(grid((0, 0)), [[24, 24, 2, 2]])[2] == 0


def test_left_and_upper_edges_are_inside_right_and_lower_are_not():
    assert scores(grid((0, 0)), [[15, 25, 1, 1]])[0] == 1  # the cell's centre is (15, 25)
    assert scores(grid((0, 0)), [[10, 20, 5, 5]])[0] == 0


def test_of_equally_high_cells_the_share_inside_counts():
    assert scores(grid((0, 0), (2, 2), (2, 3)), [[10, 20, 10, 10]])[0] == pytest.approx(1 / 3)
    flat = scores(np.full((3, 4), 1 / 12), [[10, 20, 20, 20]])
    assert flat[0] == flat[1] == pytest.approx(4 / 12)


def test_words_are_averaged_not_images():
    records = [PointingRecord(grid((0, 0)), BOX, [[10, 20, 10, 10]]), PointingRecord(grid((1, 1)), BOX, [[10, 20, 10, 10]])]
    assert pointing(records) == {"peak": 0.5, "uniform": pytest.approx(1 / 12), "centre": 0.0, "words": 2}
    nothing = pointing([])
    assert nothing["words"] == 0
    assert math.isnan(nothing["peak"])


@given(st.integers(1, 5), st.integers(1, 7), st.lists(st.tuples(*[st.floats(0, 60)] * 4), max_size=3), st.integers(0, 2**32 - 1))
def test_equals_a_loop_over_cells(rows, cols, targets, seed):
    rng = np.random.default_rng(seed)
    alphas = rng.random((rows, cols))
    box = (3.0, 5.0, 47.0, 61.5)
    inside = []
    for row in range(rows):
        for col in range(cols):
            x, y = 3 + 44 * (col + 0.5) / cols, 5 + 56.5 * (row + 0.5) / rows
            hit = any(x0 <= x < x0 + w and y0 <= y < y0 + h for x0, y0, w, h in targets)
            inside.append((alphas[row, col], hit))
    found = scores(alphas, [list(t) for t in targets], box)
    assert found[0] == max(inside)[1]
    assert found[1] == pytest.approx(sum(hit for _, hit in inside) / len(inside))


def test_maps_and_boxes_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"alphas must be a grid"):
        scores(np.full((2, 2), np.nan), [[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"box .* area in pixels"):
        scores(grid((0, 0)), [[0, 0, 1, 1]], box=(5.0, 5.0, 5.0, 9.0))
