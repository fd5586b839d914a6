"""Deletion, insertion, hiding and rank correlation: by hand, and on a captioner whose words each read one known patch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from stand_ins import PLACES, SIZE, TRANSFORM, known, small
from torchvision.transforms import GaussianBlur

from captioner.explain.explanation import teacher_forced_rollout
from captioner.explain.faithfulness import Faithfulness, faithfulness, resized, spearman, square_sums, summary
from captioner.maps.geometry import heat_maps

WORDS = ["a", "red", "dog", "runs"]


def photo():
    """Bright and green where words read, a checkered grey elsewhere."""
    pixels = np.full((*SIZE, 3), 128, np.uint8)
    pixels[::2, ::2] = pixels[1::2, 1::2] = 120
    for top, bottom, left, right in PLACES:
        pixels[top:bottom, left:right] = (128, 250, 128)
    return Image.fromarray(pixels)


def true_maps():
    maps = np.zeros((4, 4, 6), np.float32)
    for word, (top, _, left, _) in enumerate(PLACES):
        maps[word, top // 4, left // 4] = 1
    return maps


def wrong_maps():
    return true_maps()[[1, 2, 3, 0]]


def test_the_true_map_is_more_faithful_than_chance_and_another_words_map_less():
    found = faithfulness(known(), photo(), WORDS, {"true": true_maps(), "wrong": wrong_maps()}, steps=24, window=0.25, blur=0.2)
    true, wrong, random = found["true"], found["wrong"], found["random"]
    assert (true.deletion < random.deletion).all()
    assert (true.insertion > random.insertion).all()
    assert true.deletion.mean() < random.deletion.mean() - 0.1
    assert (true.hidden > 5 * np.abs(true.chance)).all()
    assert (true.deletion < wrong.deletion - 0.05).all()
    assert np.abs(wrong.hidden).max() < 1e-3
    np.testing.assert_array_equal(true.agreement, 1)
    np.testing.assert_allclose(wrong.agreement, -1 / 23)  # of 24 cells each has one peak, elsewhere


def test_areas_are_those_under_a_curve_drawn_pixel_by_pixel():
    captioner, maps = small("gru"), np.random.default_rng(2).random((4, 16, 24))
    image = Image.fromarray(np.random.default_rng(1).integers(0, 255, (*SIZE, 3), dtype=np.uint8))
    found = faithfulness(captioner, image, WORDS, {"mine": maps}, steps=5, blur=0.1, chances=2)["mine"]
    prepared = TRANSFORM.prepare(image)[0]
    ids = torch.tensor(captioner.vocabulary.encode(WORDS))
    blurred = GaussianBlur(11, 1.6)(prepared[None])[0]
    heat = heat_maps(maps, (0.0, 0.0, 24.0, 16.0), (24, 16))
    for word in range(4):
        pixels = sorted(((row, col) for row in range(16) for col in range(24)), key=lambda at: -heat[word][at])
        gone, come, curves = prepared.clone(), blurred.clone(), ([], [])
        for step in range(6):
            for at in pixels[math.ceil((step - 1) * 76.8) : math.ceil(step * 76.8)] if step else []:
                gone[:, at[0], at[1]], come[:, at[0], at[1]] = 0, prepared[:, at[0], at[1]]
            with torch.no_grad():
                log_probs = teacher_forced_rollout(captioner, torch.stack([gone, come]), ids[None]).log_probs[:, 0, word]
            for curve, value in zip(curves, log_probs.exp().tolist(), strict=True):
                curve.append(value)
        assert torch.equal(come, prepared)
        assert not gone.any()
        np.testing.assert_allclose(
            [np.trapezoid(curve, dx=0.2) for curve in curves], [found.deletion[word], found.insertion[word]], rtol=1e-4
        )


def test_an_even_map_scores_as_one_drawn_at_random():
    maps = {"even": np.full((4, 4, 6), 1 / 24, np.float32), "nothing": np.zeros((4, 4, 6), np.float32)}
    found = faithfulness(known(), photo(), WORDS, maps, steps=7)
    for name in maps:
        for field in ("deletion", "insertion", "hidden", "chance"):
            np.testing.assert_array_equal(getattr(found[name], field), getattr(found["random"], field))
        assert np.isnan(found[name].agreement).all()


def test_a_map_does_not_change_by_a_factor_and_a_finer_grid_may_say_the_same():
    fine = np.kron(true_maps(), np.ones((4, 4))).astype(np.float32)
    maps = {"true": true_maps(), "double": 2 * true_maps(), "fine": fine}
    found = faithfulness(known(), photo(), WORDS, maps, steps=6, window=0.25)
    for field in Faithfulness._fields:
        np.testing.assert_array_equal(getattr(found["double"], field), getattr(found["true"], field))
    np.testing.assert_allclose(found["fine"].hidden, found["true"].hidden)
    np.testing.assert_allclose(found["fine"].agreement, 1)


def test_some_words_score_as_among_all_and_batches_change_nothing():
    captioner = small()
    maps = {"mine": np.random.default_rng(4).random((4, 2, 3))}
    whole = faithfulness(captioner, photo(), WORDS, maps, steps=3, chances=5)
    some = faithfulness(captioner, photo(), WORDS, maps, steps=3, chances=5, only=[3, 1], batch_size=2)
    none = faithfulness(captioner, photo(), WORDS, maps, steps=3, chances=5, only=[])
    for kind, faith in whole.items():
        for field, values in faith._asdict().items():
            np.testing.assert_allclose(getattr(some[kind], field), values[[3, 1]], rtol=1e-3, atol=1e-6)
            assert getattr(none[kind], field).shape == (0,)


def test_what_is_hidden_costs_its_square_and_chance_is_the_mean_over_all_squares():
    captioner = known(lambda read: read)  # log p is linear: hiding costs what was read there
    found = faithfulness(captioner, photo(), WORDS, {"true": true_maps()}, steps=1, window=0.25, chances=20_000)["true"]
    value = TRANSFORM.prepare(photo())[0]
    read = value[0] + 2 * value[1] - value[2]
    for word, (top, bottom, left, right) in enumerate(PLACES):
        patch = torch.zeros(SIZE)
        patch[top:bottom, left:right] = read[top:bottom, left:right] / 16
        squares = square_sums(patch[None].numpy(), 4)[0]
        assert squares.shape == (13, 21)
        np.testing.assert_allclose(squares[3, 5], patch[3:7, 5:9].sum(), atol=1e-6)
        np.testing.assert_allclose(found.hidden[word], squares[top, left], rtol=1e-4)
        np.testing.assert_allclose(found.chance[word], squares.mean(), rtol=0.15)


def test_rank_correlation_of_a_few_by_hand():
    one = np.array([[1.0, 2.0, 3.0, 4.0]])
    assert spearman(one, np.array([[1.0, 8.0, 27.0, 64.0]])) == pytest.approx(1)
    assert spearman(one, -one) == pytest.approx(-1)
    assert spearman(one, np.array([[2.0, 1.0, 4.0, 3.0]])) == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert spearman(one, np.array([[0.0, 0.0, 0.0, 9.0]])) == pytest.approx(6 / math.sqrt(5 * 12))  # ranks 2 2 2 4 against 1 2 3 4
    assert math.isnan(spearman(one, np.ones((1, 4))))


@given(st.lists(st.tuples(st.integers(-4, 4), st.integers(-4, 4)), min_size=2, max_size=12))
def test_rank_correlation_counts_who_is_above_whom(pairs):
    one, other = (np.array([column], float) for column in zip(*pairs, strict=True))
    ranked = [np.array([[(values < v).sum() + (values == v).sum() / 2 for v in values[0]]]) for values in (one, other)]
    found = spearman(one, other)
    if min(values.std() for values in ranked) == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(ranked[0], ranked[1])[0, 1], abs=1e-9)
    assert found == pytest.approx(spearman(np.exp(one), other), nan_ok=True)


def test_a_grid_is_resized_by_means():
    one = np.arange(24.0).reshape(4, 6)
    np.testing.assert_allclose(resized(one, (2, 3)), one.reshape(2, 2, 3, 2).mean((1, 3)))
    np.testing.assert_allclose(resized(one, (8, 12)), np.kron(one, np.ones((2, 2))))


def faith(*values):
    rows = np.array(values, float)
    return Faithfulness(rows, rows, rows + 1, rows, np.where(rows > 5, np.nan, rows))


def test_the_table_means_over_words_and_resamples_images():
    table = summary([{"mine": faith(1, 2, 9)}, {"mine": faith(4)}, {"mine": faith()}], resamples=200)["mine"]
    assert table["deletion"].value == pytest.approx(4)
    assert table["deletion"].words == 4
    assert table["agreement"].value == pytest.approx(7 / 3)
    assert table["agreement"].words == 3
    assert table["gain"] == pytest.approx((1, 1, 1, 4), nan_ok=True)
    assert summary([{"mine": faith(1, 3)}, {"mine": faith(5)}], resamples=300)["mine"]["deletion"][:3] == pytest.approx((3, 2, 5))


def test_settings_out_of_range_are_refused():
    maps = {"mine": true_maps()}
    for change, named in [({"steps": 0}, "steps"), ({"chances": 0}, "chances"), ({"window": 1.5}, "window"), ({"blur": 0.0}, "blur")]:
        with pytest.raises(ValueError, match=named):
            faithfulness(known(), photo(), WORDS, maps, **change)
    with pytest.raises(ValueError, match="mine holds 4 maps for 3 words"):
        faithfulness(known(), photo(), WORDS[:3], maps)
    with pytest.raises(ValueError, match="must not be empty"):
        faithfulness(known(), photo(), [], {})
    with pytest.raises(ValueError, match="must not be empty"):
        summary([])
