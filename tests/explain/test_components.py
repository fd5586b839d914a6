"""Largest components against a flood fill of one pixel after another."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from captioner.explain.components import largest_boxes


def filled(on):
    """Components as lists of pixels, in reading order of their first ones."""
    left, components = {tuple(pixel) for pixel in np.argwhere(on).tolist()}, []
    for pixel in sorted(left):
        if pixel not in left:
            continue
        left.discard(pixel)
        component, edge = [], [pixel]
        while edge:
            row, col = edge.pop()
            component.append((row, col))
            for near in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                if near in left:
                    left.discard(near)
                    edge.append(near)
        components.append(component)
    return components


@settings(max_examples=150, deadline=None)
@given(st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 11)).flatmap(lambda shape: arrays(bool, shape)))
def test_the_box_is_that_of_the_largest_component_of_a_flood_fill(on):
    for one, found in zip(on, largest_boxes(on).tolist(), strict=True):
        components = filled(one)
        if not components:
            assert found == [0, 0, 0, 0]
            continue
        rows, cols = zip(*max(components, key=len), strict=True)  # of equal ones the first
        assert found == [min(cols), min(rows), max(cols) + 1, max(rows) + 1]


def test_a_spiral_is_one_component_and_what_touches_at_corners_is_two():
    spiral = ["#######", "......#", "#####.#", "#...#.#", "#.###.#", "#.....#", "#######"]
    on = np.array([[cell == "#" for cell in row] for row in spiral])
    assert largest_boxes(on[None]).tolist() == [[0, 0, 7, 7]]
    corner = np.array([[1, 1, 0], [0, 0, 1], [0, 0, 1], [0, 0, 1]], bool)
    assert largest_boxes(corner[None]).tolist() == [[2, 1, 3, 4]]
