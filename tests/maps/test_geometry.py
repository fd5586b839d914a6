import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.box import scaled_box
from captioner.maps.geometry import axis_weights, heat_maps, inside_box

GRIDS = [(7, 7), (14, 14), (7, 12), (12, 12)]
CROPS = [
    ((301, 203), (0.0, 0.0, 301.0, 203.0)),
    ((203, 301), (0.0, 49.0, 203.0, 252.0)),
    ((640, 427), (106.5, 0.0, 533.5, 427.0)),
    ((333, 500), (41.6, 62.5, 291.4, 437.5)),
]


def heat_map(alphas, box, size):
    return heat_maps(alphas[None], box, size)[0]


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("size", "box"), CROPS)
def test_a_single_cell_is_hottest_at_its_centre_in_original_pixels(grid, size, box):
    rows, cols = grid
    for row, col in [(0, 0), (rows - 1, 1), (2, cols - 2), (rows // 2, cols // 2), (rows - 1, cols - 1)]:
        alphas = np.zeros(grid, np.float32)
        alphas[row, col] = 1
        heat = heat_map(alphas, box, size)
        centre = box[0] + (col + 0.5) * (box[2] - box[0]) / cols, box[1] + (row + 0.5) * (box[3] - box[1]) / rows
        at = heat[min(int(centre[1]), size[1] - 1), min(int(centre[0]), size[0] - 1)]
        assert at >= heat.max() * (1 - 0.02), "no pixel is hotter than the one the centre lies in, but for half a pixel's slope"
        down, across = np.nonzero(heat >= heat.max() * (1 - 1e-6))
        assert across.min() - 0.5 <= centre[0] <= across.max() + 1.5
        assert down.min() - 0.5 <= centre[1] <= down.max() + 1.5


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("size", "box"), CROPS)
def test_the_centroid_of_an_inner_cell_is_its_centre_below_a_tenth_of_a_pixel(grid, size, box):
    rows, cols = grid
    alphas = np.zeros(grid, np.float32)
    alphas[3, cols - 4] = 0.7
    heat = heat_map(alphas, box, size).astype(float)
    across = (heat.sum(0) * (np.arange(size[0]) + 0.5)).sum() / heat.sum()
    down = (heat.sum(1) * (np.arange(size[1]) + 0.5)).sum() / heat.sum()
    assert across == pytest.approx(box[0] + (cols - 3.5) * (box[2] - box[0]) / cols, abs=0.1)
    assert down == pytest.approx(box[1] + 3.5 * (box[3] - box[1]) / rows, abs=0.1)


def test_a_uniform_map_is_flat_where_the_model_saw_and_zero_elsewhere():
    box, size = (13.0, 5.0, 90.0, 61.0), (101, 67)
    heat = heat_map(np.full((5, 7), 1 / 35, np.float32), box, size)
    inside = inside_box(box, size)
    assert np.allclose(heat[inside], 1 / 35, atol=1e-6)
    assert not heat[~inside].any()
    assert inside.sum() == 77 * 56


def test_a_straight_slope_stays_between_the_outermost_centres():
    heat = axis_weights(0, 80, 8, 80) @ np.arange(8.0)
    assert np.allclose(heat[15:65], (np.arange(15, 65) + 0.5) / 10 - 0.5, atol=1e-5)


def test_a_map_of_one_cell_and_maps_of_one_row_are_drawn():
    assert np.allclose(heat_map(np.array([[0.25]]), (0, 0, 9, 4), (9, 4)), 0.25)
    assert heat_map(np.array([[0.0, 1.0, 0.0]]), (0, 0, 30, 4), (30, 4))[0].argmax() in (14, 15)


def test_maps_are_drawn_each_by_itself():
    alphas = np.random.default_rng(0).random((3, 5, 7))
    box, size = (1.0, 2.0, 30.0, 20.0), (31, 23)
    assert all(np.allclose(one, heat_map(alone, box, size)) for one, alone in zip(heat_maps(alphas, box, size), alphas, strict=True))
    assert heat_maps(alphas[:0], box, size).shape == (0, 23, 31)


def test_a_copy_of_half_the_size_shows_the_same_map():
    alphas = np.random.default_rng(1).random((7, 5))
    box = (20.0, 8.0, 180.0, 112.0)
    whole = heat_map(alphas, box, (200, 120)).reshape(60, 2, 100, 2).mean((1, 3))
    assert np.abs(heat_map(alphas, scaled_box(box, (200, 120), (100, 60)), (100, 60)) - whole).max() < 0.01


@given(st.integers(1, 15), st.integers(1, 60), st.floats(-20, 50), st.floats(0.1, 90))
def test_weights_are_shares(cells, pixels, low, length):
    weights = axis_weights(low, low + length, cells, pixels)
    sums = weights.sum(1)
    assert weights.min() >= 0
    assert np.all(np.isclose(sums, 1, atol=1e-5) | (sums == 0))


@pytest.mark.parametrize("arguments", [(0, 10, 0, 5), (5, 5, 3, 5), (9, 5, 3, 5), (0, 5, 3, 0), (0, float("nan"), 3, 5)])
def test_nothing_is_drawn_on_nothing(arguments):
    with pytest.raises(ValueError, match="empty"):
        axis_weights(*arguments)
