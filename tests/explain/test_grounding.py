"""Grounding against numbers worked out by hand, on maps whose cells are the image's pixels, so that nothing is interpolated."""

import numpy as np
import pytest

from captioner.data.instances import Instance
from captioner.errors import InputError
from captioner.explain.grounding import (
    CANDIDATES,
    MEASURES,
    METHODS,
    Place,
    Thresholds,
    Word,
    class_thresholds,
    mean_scores,
    resize_maps,
    score_words,
    shuffled_controls,
    target_of,
)

HALF = Thresholds({}, 0.5)
WIDTH, HEIGHT = 12, 8
L_SHAPE = [[2, 1, 4, 1, 4, 3, 6, 3, 6, 5, 2, 5]]
"""A polygon in the box (2, 1, 4, 4): the square's upper right quarter is missing."""


def place(*boxes, seen=(0.0, 0.0, WIDTH, HEIGHT), drawn=None):
    things = [Instance("cup", tuple(map(float, box)), False, drawn) for box in boxes]
    return Place(WIDTH, HEIGHT, tuple(map(float, seen)), things)


def pixels(*squares, rows=HEIGHT, cols=WIDTH):
    """A map with a value in each of the (x, y, width, height, value) squares."""
    found = np.zeros((rows, cols), np.float32)
    for x, y, width, height, value in squares:
        found[y : y + height, x : x + width] = value
    return found


def word(*maps, image=1, category="cup", objects=(0,)):
    return Word(image, category, objects, np.stack(maps))


def measures(words, places, method="map", cuts=HALF, seed=0):
    """MEASURES of the first word, by name."""
    if isinstance(words, Word):
        words = [words]
    found = score_words(words, places if isinstance(places, dict) else {1: places}, cuts, cuts, seed)
    assert found.shape == (len(words), len(METHODS), len(MEASURES))
    return dict(zip(MEASURES, found[0, METHODS.index(method)], strict=True))


def test_every_measure_of_one_map_is_as_worked_out_by_hand():
    """Mass 9 inside the box (2, 1, 4, 4), 3 outside; the cut at half leaves 2 x 3 pixels of the box's 16."""
    found = measures(word(pixels((2, 1, 2, 3, 1.5), (9, 6, 3, 2, 0.5))), place((2, 1, 4, 4)))
    assert found["pointing_box"] == 1
    assert found["correctness"] == found["correctness_noun"] == pytest.approx(9 / 12)
    assert found["iou"] == pytest.approx(6 / 16)
    assert found["localised"] == 0
    assert measures(word(pixels((2, 1, 4, 3, 1.0))), place((2, 1, 4, 4)))["localised"] == 1


def test_a_peak_in_the_box_may_miss_the_mask():
    peaked = word(pixels((5, 1, 1, 1, 2.0), (2, 4, 1, 1, 1.0)))
    found = measures(peaked, place((2, 1, 4, 4), drawn=L_SHAPE))
    assert (found["pointing_box"], found["pointing_mask"]) == (1, 0)
    assert measures(word(pixels((2, 4, 1, 1, 2.0))), place((2, 1, 4, 4), drawn=L_SHAPE))["pointing_mask"] == 1


def test_the_best_word_of_a_phrase_counts_and_the_noun_is_its_last():
    found = measures(word(pixels((2, 1, 4, 4, 1.0)), pixels((8, 0, 2, 2, 1.0))), place((2, 1, 4, 4)))
    assert (found["correctness"], found["correctness_noun"], found["pointing_box"]) == (1, 0, 0)


def test_of_several_objects_all_count_and_the_box_that_fits_best():
    found = measures(word(pixels((8, 2, 2, 2, 1.0)), objects=(0, 2)), place((2, 1, 4, 4), (0, 0, 1, 1), (8, 2, 2, 3)))
    assert (found["pointing_box"], found["correctness"]) == (1, 1)
    assert found["iou"] == pytest.approx(4 / 6)
    assert measures(word(pixels((8, 2, 2, 2, 1.0))), place((2, 1, 4, 4), (0, 0, 1, 1), (8, 2, 2, 3)))["pointing_box"] == 0


def test_a_uniform_map_scores_the_share_of_the_area_and_the_box_of_all_that_is_seen():
    found = measures(word(pixels((0, 0, 1, 1, 1.0))), place((2, 1, 4, 4), drawn=L_SHAPE), "uniform")
    assert [found[name] for name in ("pointing_box", "correctness", "iou")] == pytest.approx([16 / 96] * 3)
    assert found["pointing_mask"] == pytest.approx(12 / 96)


def test_a_map_of_zeros_scores_as_a_uniform_one():
    zeros = word(pixels())
    assert measures(zeros, place((2, 1, 4, 4))) == pytest.approx(measures(zeros, place((2, 1, 4, 4)), "uniform"), nan_ok=True)


def test_the_centre_s_map_points_at_the_middle_of_what_is_seen():
    anywhere = word(pixels((0, 0, 1, 1, 1.0), cols=6))
    assert measures(anywhere, place((5, 3, 2, 2)), "centre")["pointing_box"] == 1
    assert measures(anywhere, place((8, 3, 2, 2)), "centre")["pointing_box"] == 0
    assert measures(anywhere, place((8, 3, 2, 2), seen=(6, 0, 12, 8)), "centre")["pointing_box"] == 1


def test_what_lies_outside_the_crop_is_no_target_but_belongs_to_the_true_box():
    seen = place((2, 1, 4, 4), seen=(4, 0, 12, 8))
    target = target_of(seen, (0,))
    assert target.in_box.shape == (8, 8)
    assert np.argwhere(target.in_box).tolist() == [[row, col] for row in range(1, 5) for col in (0, 1)]
    assert measures(word(pixels((0, 1, 2, 4, 1.0), cols=8)), seen)["iou"] == pytest.approx(8 / 16)


def test_shuffled_maps_are_another_image_s_of_the_same_class():
    """Each cup's map is right, and wrong for the other image's cup; the dog's is the only one of its class and takes any."""
    left, right = (2, 1, 4, 4), (8, 2, 3, 3)
    words = [word(pixels((*left, 1.0))), word(pixels((*right, 1.0)), image=2), word(pixels((0, 0, 1, 1, 1.0)), image=3, category="dog")]
    places = {1: place(left), 2: place(right), 3: place((0, 0, 1, 1))}
    for seed in range(5):
        assert shuffled_controls(words, seed)[:2] == [1, 0]
        assert shuffled_controls(words, seed)[2] in (0, 1)
    assert measures(words, places)["correctness"] == 1
    assert measures(words, places, "shuffled")["correctness"] == 0
    both = [word(pixels((*left, 1.0))), word(pixels((*right, 1.0)))]
    assert shuffled_controls(both, 0) == [None, None]
    assert np.isnan(measures(both, place(left), "shuffled")["iou"])


def test_maps_are_brought_up_by_bicubic_interpolation_clipped_at_zero():
    """One cell of five on a line, to pixels of half its size: Keys' kernel with a = -0.75 at distances 1/4, 3/4, 5/4, 7/4."""

    def kernel(x):
        return (1.25 * x - 2.25) * x * x + 1 if x < 1 else -0.75 * (((x - 5) * x + 8) * x - 4)

    line = np.zeros((1, 1, 5), np.float32)
    line[0, 0, 2] = 1
    expected = [max(0.0, kernel(abs((pixel + 0.5) / 2 - 0.5 - 2))) if 2 <= pixel <= 7 else 0.0 for pixel in range(10)]
    assert min(kernel(1.25), kernel(1.75)) < 0
    assert resize_maps(line, 1, 10)[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_each_class_chooses_the_cut_that_fits_its_boxes_and_rare_ones_take_that_of_all():
    """A cup's map is 1 in its box and 0.42 beside it: every cut above 0.42 is right. A dog's box is all that reaches 0.2."""
    cup, dog = pixels((2, 1, 4, 4, 1.0), (6, 1, 4, 4, 0.42)), pixels((2, 1, 4, 4, 1.0), (6, 1, 2, 4, 0.2))
    places = {1: place((2, 1, 4, 4), (2, 1, 6, 4))}
    words = [word(cup)] * 5 + [word(dog, category="dog", objects=(1,))] * 5 + [word(cup, category="rare", objects=(1,))] * 4
    found = class_thresholds(words, places)
    assert found.by_class == {"cup": 0.45, "dog": 0.01}
    assert found.of("rare") == found.common
    ious = (
        measures(word(dog, objects=(1,)), places, cuts=Thresholds({}, float(CANDIDATES[3])))["iou"],
        measures(word(dog, objects=(1,)), places)["iou"],
    )
    assert ious == (1.0, pytest.approx(16 / 24))
    with pytest.raises(ValueError, match="words must not be empty"):
        class_thresholds([], places)


def test_a_photo_s_box_is_found_to_one_part_in_128_of_its_longer_side():
    """1,000 x 400 pixels are searched at every eighth."""
    big = Place(1000, 400, (0.0, 0.0, 1000.0, 400.0), [Instance("cup", (303.0, 101.0, 298.0, 203.0), False, None)])
    heat = np.zeros((400, 1000), np.float32)
    heat[101:304, 303:601] = 1
    assert 0.92 < measures(word(heat), big)["iou"] <= 1


def test_means_are_over_words_and_intervals_over_images():
    scores = np.zeros((5, len(METHODS), len(MEASURES)))
    scores[:, 0, 0] = [1, 1, 1, 0, 0.5]
    scores[2, 3] = np.nan
    found = mean_scores(scores, [7, 7, 7, 9, 4], resamples=2000, seed=1)
    assert found["pointing_box"]["map"]["value"] == pytest.approx(3.5 / 5)
    rng, drawn = np.random.default_rng(0), []
    for _ in range(4000):  # images as (sum, words)
        sums = np.array([(3.0, 3), (0.0, 1), (0.5, 1)])[rng.integers(3, size=3)].sum(0)
        drawn.append(sums[0] / sums[1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found["pointing_box"]["map"]["low"], found["pointing_box"]["map"]["high"]) == pytest.approx((low, high), abs=0.05)
    assert "shuffled" not in found["iou"], "a word without another image's map"
    assert mean_scores(scores[:2], [7, 7])["pointing_box"]["map"] == {"value": 1.0, "low": None, "high": None}


def test_masks_of_another_image_size_are_refused():
    wrong = place((2, 1, 4, 4), drawn={"size": [HEIGHT, WIDTH + 1], "counts": [HEIGHT * (WIDTH + 1)]})
    with pytest.raises(InputError, match=r"mask of a cup has 13 x 8 pixels, the image has 12 x 8"):
        wrong.check()
    assert place((2, 1, 4, 4), drawn=L_SHAPE).check().width == WIDTH
