"""Bootstrap intervals: their laws, and a corpus resampled the plain way."""

import itertools

import numpy as np
import pytest
from corpora import synthetic

from captioner.metrics import bootstrap
from captioner.metrics.bleu import Bleu
from captioner.metrics.bootstrap import differences, intervals, p_values, resampled
from captioner.metrics.cider import Cider
from captioner.metrics.ngrams import References
from captioner.metrics.rouge import rouge_l
from captioner.metrics.statistics import mean_statistics


def bleu_of(corpus):
    candidates, references = corpus
    return Bleu(references).statistics(candidates).additive()


def rouge_of(corpus):
    return mean_statistics("ROUGE-L", rouge_l(*corpus))


def test_images_that_are_all_alike_leave_no_width():
    corpus = synthetic(1, seed=4)
    same = [corpus[0] * 7, corpus[1] * 7]
    for part in (bleu_of(same), mean_statistics("one third", np.full(7, 1 / 3))):
        value = part.corpus()
        for name, (low, high) in intervals([part], 50).items():
            assert low == pytest.approx(value[name], abs=1e-9)
            assert high == pytest.approx(value[name], abs=1e-9)


def test_the_interval_of_a_mean_is_the_normal_one_on_a_large_sample():
    scores = np.random.default_rng(1).gamma(2, size=3000)
    (low, high) = intervals([mean_statistics("score", scores)], 2000)["score"]
    half = 1.96 * scores.std() / np.sqrt(len(scores))
    assert low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(scores.mean() + half, abs=0.1 * half)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        low, high = intervals([mean_statistics("score", rng.exponential(size=150))], 200, seed=trial, level=0.8)["score"]
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
    ours, theirs = [mean_statistics("score", scores + 0.01)], [mean_statistics("score", scores)]
    assert intervals(ours)["score"].low < intervals(theirs)["score"].high
    value, low, high, p = differences(ours, theirs)["score"]
    assert (value, low, high, p) == pytest.approx((0.01, 0.01, 0.01, 1 / 1001))


def test_changing_sides_turns_the_difference_round():
    ours, theirs = [rouge_of(synthetic(20, seed=9))], [rouge_of(synthetic(20, seed=10))]
    value, low, high, p = differences(ours, theirs, 300)["ROUGE-L"]
    assert differences(theirs, ours, 300)["ROUGE-L"] == pytest.approx((-value, -high, -low, p))
    assert low <= value <= high


def test_p_is_the_share_of_ways_to_deal_the_captions_out_that_look_as_different():
    gains = [3.0, -1.0, 0.5, 2.0, 0.0]
    every = [abs(sum(sign * gain for sign, gain in zip(signs, gains, strict=True))) for signs in itertools.product((1, -1), repeat=5)]
    exact = sum(apart >= abs(sum(gains)) for apart in every) / len(every)
    [p] = p_values(mean_statistics("score", np.array(gains)), mean_statistics("score", np.zeros(5)), 20_000)
    assert p == pytest.approx(exact, abs=0.012)  # three standard errors


def test_p_of_a_score_that_is_no_mean_is_of_whole_corpora_with_captions_exchanged():
    (ours, references), (theirs, _) = synthetic(5, seed=11), synthetic(5, seed=12)
    theirs = [words[:-1] + own[-1:] for words, own in zip(theirs, ours, strict=True)]
    apart = []
    for coins in itertools.product((False, True), repeat=5):
        dealt = [pair[::-1] if coin else pair for coin, pair in zip(coins, zip(ours, theirs, strict=True), strict=True)]
        one, other = (np.array(Bleu(references).scores(list(side))) for side in zip(*dealt, strict=True))
        apart.append(np.abs(one - other))
    exact = (np.array(apart) >= apart[0] - 1e-12).mean(0)
    assert exact.max() < 1
    assert p_values(bleu_of((ours, references)), bleu_of((theirs, references)), 20_000) == pytest.approx(exact, abs=0.012)


def called_different(pairs, resamples=200):
    """The share of pairs of systems, of each score, that are told apart at 5 %."""
    return np.mean([p_values(*pair, resamples, seed) < 0.05 for seed, pair in enumerate(pairs)], 0)


def bounds(pairs):
    """Three standard errors round 5 %."""
    return 0.05 - 3 * (0.05 * 0.95 / pairs) ** 0.5, 0.05 + 3 * (0.05 * 0.95 / pairs) ** 0.5


@pytest.mark.parametrize("images", [20, 60])
def test_equal_systems_are_called_different_in_one_comparison_of_twenty(images):
    """Skewed scores that go together, since some images are easy for both; a bootstrap of so few calls 8 in 100 different."""
    pairs = 2000
    easy = (rng := np.random.default_rng(images)).gamma(1, size=(pairs, images))
    ours, theirs = easy + rng.gamma(1, size=(2, pairs, images))
    low, high = bounds(pairs)
    assert high < 0.065
    [found] = called_different(
        (mean_statistics("score", one), mean_statistics("score", other)) for one, other in zip(ours, theirs, strict=True)
    )
    assert low < found < high


def test_unequal_systems_are_told_apart():
    rng = np.random.default_rng(5)
    scores = rng.gamma(1, size=(100, 1, 200)) + rng.gamma(1, size=(100, 2, 200)) + np.array([0.4, 0.0])[:, None]
    [found] = called_different((mean_statistics("score", one), mean_statistics("score", other)) for one, other in scores)
    assert found > 0.95  # 0.4 is four standard errors


def sentences_with_slips(rng, images, captions):
    """Of each image so many captions, made of one sentence of Zipf-like words, each with its own slips."""
    words = 1 / np.arange(3, 503)
    said = np.broadcast_to(rng.choice(500, size=(images, 1, 9), p=words / words.sum()), (images, captions, 9))
    slipped = np.where(rng.random(said.shape) < 0.3, rng.choice(500, size=said.shape, p=words / words.sum()), said)
    lengths = rng.integers(5, 10, size=said.shape[:2])
    return [
        [caption[:length] for caption, length in zip(*of_image, strict=True)] for of_image in zip(slipped.tolist(), lengths, strict=True)
    ]


def test_equal_systems_are_called_different_in_one_comparison_of_twenty_by_every_score_of_captions():
    """And unequal ones, of which one says half of what the other does, are told apart."""
    images, pairs = 20, 600
    ours, theirs, *references = zip(*sentences_with_slips(np.random.default_rng(7), images * pairs, 4), strict=True)
    worse = [words[: len(words) // 2] for words in theirs]
    references = References(list(map(list, zip(*references, strict=True))), 4)
    cider = Cider(references)
    rows = [[Bleu(references).statistics(said).additive(), mean_statistics("CIDEr", cider.scores(said))] for said in (ours, theirs, worse)]

    def shares(one, other):
        groups = [slice(first, first + images) for first in range(0, images * pairs, images)]
        return np.concatenate(
            [
                called_different((mine._replace(rows=mine.rows[group]), its._replace(rows=its.rows[group])) for group in groups)
                for mine, its in zip(rows[one], rows[other], strict=True)
            ]
        )

    low, high = bounds(pairs)
    equal = shares(0, 1)
    assert low < equal.min()
    assert equal.max() < high
    unequal = shares(0, 2)
    assert unequal.min() > 2 * high
    assert unequal.max() > 0.95


def test_wrong_arguments_are_refused():
    part, short = rouge_of(synthetic(4)), rouge_of(synthetic(3))
    with pytest.raises(ValueError, match="resamples"):
        intervals([part], 0)
    with pytest.raises(ValueError, match="resamples"):
        p_values(part, part, 0)
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
