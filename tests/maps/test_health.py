import math

import numpy as np
import pytest

from captioner.maps.health import Health, health, mean_health


def test_looking_everywhere_and_never_moving():
    found = health(np.full((4, 2, 3), 0.1))
    assert found.entropy == pytest.approx(1)
    assert found.change == pytest.approx(0)
    assert found.peak == pytest.approx(1 / 6)
    assert found.coverage == found.dead == 1


def test_looking_at_one_cell_and_always_at_another():
    assert health(np.eye(6).reshape(6, 2, 3)) == pytest.approx((0, 1, 1, 1, 0))


def test_half_the_weight_that_moves_is_half_a_change():
    alphas = np.array([[[0.5, 0.5, 0.0]], [[0.5, 0.0, 0.5]]])
    assert health(alphas).change == pytest.approx(0.5)
    assert health(alphas).entropy == pytest.approx(math.log(2) / math.log(3))


def test_a_sentinel_s_share_changes_nothing():
    alphas = np.random.default_rng(0).random((5, 3, 7))
    assert health(alphas * 0.2) == pytest.approx(health(alphas))


def test_no_words_have_no_health_and_zeros_count_as_uniform():
    assert all(math.isnan(number) for number in health(np.zeros((0, 2, 3))))
    assert health(np.zeros((2, 2, 3))).entropy == pytest.approx(1)


def test_coverage_is_the_share_of_cells_with_a_fair_share_of_the_caption():
    alphas = np.array([[[0.9, 0.1, 0.0, 0.0]], [[0.0, 0.6, 0.3, 0.1]], [[0.1, 0.1, 0.8, 0.0]]])
    assert health(alphas).coverage == pytest.approx(3 / 4)  # 1.0, 0.8, 1.1 and 0.1 of 3 words; a fair share is 3 / 4


def test_a_map_is_dead_where_it_is_flat_or_like_all_its_neighbours():
    one, other, even = np.eye(6)[0], np.eye(6)[1], np.full(6, 1 / 6)

    def dead(*maps):
        return health(np.array(maps).reshape(-1, 2, 3)).dead

    assert dead(one, one, one) == 1
    assert dead(one, one, other) == pytest.approx(1 / 3)  # the first has one neighbour, which it is like
    assert dead(one, other, one) == 0
    assert dead(one, even, other) == pytest.approx(1 / 3)
    assert dead(one) == 0
    assert dead(even) == 1
    assert health(np.array([even * 0.5 + one * 0.5]).reshape(1, 2, 3), flat=0.5).dead == 1
    assert health(np.array([one, other]).reshape(2, 2, 3), still=1.0).dead == 1


def test_the_mean_over_captions_leaves_out_what_a_caption_has_not():
    nothing = health(np.zeros((0, 2, 3)))
    short = Health(0.4, math.nan, 0.3, 0.2, 0.0)
    assert mean_health([nothing, short, Health(0.6, 0.5, 0.5, 0.4, 1.0)]) == pytest.approx((0.5, 0.5, 0.4, 0.3, 0.5))
    assert all(math.isnan(number) for number in mean_health([]))
