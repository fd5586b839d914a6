"""Scores on drawn scenes: the controls. tests/cli/test_demo.py scores a captioner."""

import pytest

from captioner.scenes.scoring import derangement


@pytest.mark.parametrize("count", [2, 3, 7])
def test_a_derangement_leaves_nothing_in_its_place_and_loses_nothing(count):
    for seed in range(20):
        moved = derangement(list(range(count)), seed)
        assert sorted(moved) == list(range(count))
        assert all(here != there for here, there in enumerate(moved))
