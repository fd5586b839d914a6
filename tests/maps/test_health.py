import math

import numpy as np
import pytest

from captioner.maps.health import health


def test_looking_everywhere_and_never_moving():
    found = health(np.full((4, 2, 3), 0.1))
    assert found.entropy == pytest.approx(1)
    assert found.change == pytest.approx(0)
    assert found.peak == pytest.approx(1 / 6)


def test_looking_at_one_cell_and_always_at_another():
    assert health(np.eye(6).reshape(6, 2, 3)) == pytest.approx((0, 1, 1))


def test_half_the_weight_that_moves_is_half_a_change():
    alphas = np.array([[[0.5, 0.5, 0.0]], [[0.5, 0.0, 0.5]]])
    assert health(alphas).change == pytest.approx(0.5)
    assert health(alphas).entropy == pytest.approx(math.log(2) / math.log(3))


def test_a_sentinel_s_share_changes_nothing():
    alphas = np.random.default_rng(0).random((5, 3, 7))
    assert health(alphas * 0.2) == pytest.approx(health(alphas))


def test_nothing_said_has_no_health_and_zeros_count_as_even():
    assert all(math.isnan(number) for number in health(np.zeros((0, 2, 3))))
    assert health(np.zeros((2, 2, 3))).entropy == pytest.approx(1)
