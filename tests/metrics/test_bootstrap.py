"""Bootstrap intervals: their laws, and a corpus resampled the plain way."""

import numpy as np
import pytest
from corpora import synthetic

from captioner.metrics import bootstrap
from captioner.metrics.additive import mean_of
from captioner.metrics.bleu import Bleu
from captioner.metrics.bootstrap import differences, intervals, resampled
from captioner.metrics.rouge import rouge_l


def bleu_of(corpus):
    candidates, references = corpus
    return Bleu(references).statistics(candidates).additive()


def rouge_of(corpus):
    return mean_of("ROUGE-L", rouge_l(*corpus))


def test_images_that_are_all_alike_leave_no_width():
    corpus = synthetic(1, seed=4)
    same = [corpus[0] * 7, corpus[1] * 7]
    for part in (bleu_of(same), mean_of("one third", np.full(7, 1 / 3))):
        value = part.corpus()
        for name, (low, high) in intervals([part], 50).items():
            assert low == pytest.approx(value[name], abs=1e-9)
            assert high == pytest.approx(value[name], abs=1e-9)


def test_the_interval_of_a_mean_is_the_normal_one_on_a_large_sample():
    scores = np.random.default_rng(1).gamma(2, size=3000)
    (low, high) = intervals([mean_of("score", scores)], 2000)["score"]
    half = 1.96 * scores.std() / np.sqrt(len(scores))
    assert low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.1 * half)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        low, high = intervals([mean_of("score", rng.exponential(size=150))], 200, seed=trial, level=0.8)["score"]
        held += low <= 1 <= high
    assert 0.7 < held / 200 < 0.88  # 0.8, give or take three standard errors


def test_a_resample_of_counts_is_the_score_of_the_resampled_corpus():
    candidates, references = synthetic(9, seed=5)
    parts = [bleu_of((candidates, references)), rouge_of((candidates, references))]
    bleus, rouges = resampled(parts, 6, seed=3)
    rng = np.random.default_rng(3)
    for drawn, bleu, rouge in zip(rng.integers(9, size=(6, 9)), bleus, rouges, strict=True):
        again = [candidates[i] for i in drawn], [references[i] for i in drawn]
        assert bleu == pytest.approx(Bleu(again[1]).scores(again[0]))
        assert rouge[0] == pytest.approx(rouge_l(*again).mean())


def test_the_seed_decides_and_pieces_change_nothing_but_the_draw(monkeypatch):
    part = rouge_of(synthetic(40, seed=6))
    assert intervals([part], 100, seed=1) == intervals([part], 100, seed=1)
    assert intervals([part], 100, seed=1) != intervals([part], 100, seed=2)
    whole = intervals([part], 1000)["ROUGE-L"]
    monkeypatch.setattr(bootstrap, "AT_ONCE", 130)  # three resamples of 40 images at a time
    assert resampled([part], 1000, 0)[0].shape == (1000, 1)
    assert intervals([part], 1000)["ROUGE-L"] == pytest.approx(whole, abs=0.02)


def test_a_system_paired_with_itself_differs_by_nothing():
    parts = [bleu_of(synthetic(30, seed=7)), rouge_of(synthetic(30, seed=7))]
    found = differences(parts, parts, 50)
    assert list(found) == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"]
    assert set(found.values()) == {(0, 0, 0, 1)}


def test_pairing_sees_a_small_constant_gain_that_intervals_do_not():
    scores = np.random.default_rng(8).uniform(size=100)
    ours, theirs = [mean_of("score", scores + 0.01)], [mean_of("score", scores)]
    assert intervals(ours)["score"].low < intervals(theirs)["score"].high
    value, low, high, noise = differences(ours, theirs)["score"]
    assert (value, low, high, noise) == pytest.approx((0.01, 0.01, 0.01, 0))


def test_changing_sides_turns_the_difference_round():
    ours, theirs = [rouge_of(synthetic(20, seed=9))], [rouge_of(synthetic(20, seed=10))]
    value, low, high, noise = differences(ours, theirs, 300)["ROUGE-L"]
    assert differences(theirs, ours, 300)["ROUGE-L"] == pytest.approx((-value, -high, -low, noise))
    assert low <= value <= high


def test_noise_is_the_share_of_resamples_in_which_the_better_is_not_better():
    gains = np.array([3.0, -1.0])  # of four equally likely resamples one holds the loss twice: below zero
    noise = differences([mean_of("score", gains)], [mean_of("score", np.zeros(2))], 4000)["score"].noise
    assert noise == pytest.approx(0.25, abs=0.03)


def test_wrong_arguments_are_refused():
    part, short = rouge_of(synthetic(4)), rouge_of(synthetic(3))
    with pytest.raises(ValueError, match="resamples"):
        intervals([part], 0)
    with pytest.raises(ValueError, match="level"):
        intervals([part], 2, level=1)
    with pytest.raises(ValueError, match="same images"):
        intervals([part, short], 2)
    with pytest.raises(ValueError, match="same images"):
        differences([part], [short], 2)
    with pytest.raises(ValueError, match="different scores"):
        differences([part], [bleu_of(synthetic(4))], 2)
    with pytest.raises(ValueError, match="one or more"):
        intervals([], 2)
