"""Outlines of shapes, against the areas of their polygons."""

import numpy as np
import pytest

from captioner.scenes.layout import KINDS
from captioner.scenes.shapes import coverage, outline


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_fills_its_box_and_covers_its_polygons_area(kind: str) -> None:
    corners = np.array(outline(kind))
    following = np.roll(corners, -1, 0)
    area = abs((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum()) / 2  # the shoelace formula
    shape = coverage(kind, 60, 31.0, 27.0, 40.0, 0.0)
    assert shape.sum() == pytest.approx(area * 1600, rel=0.06)
    assert 0.88 * 40 <= np.ptp(np.flatnonzero((shape > 0.5).any(0))) + 1 <= 41
    with pytest.raises(ValueError, match="blob"):
        outline("blob")
