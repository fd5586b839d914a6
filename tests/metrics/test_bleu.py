"""BLEU against a count by hand, an oracle written caption by caption, and pycocoevalcap where it is installed."""

import math
from collections import Counter

import numpy as np
import pytest
from corpora import as_coco, corpora, synthetic
from hypothesis import given

from captioner.metrics.bleu import Bleu, bleu
from captioner.metrics.ngrams import References


def ngrams(words, n):
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def oracle(candidates, references, order=4):
    matches, guesses, length, closest = [0] * order, [0] * order, 0, 0
    for candidate, captions in zip(candidates, references, strict=True):
        length += len(candidate)
        closest += sorted((len(r) for r in captions), key=lambda size: (abs(size - len(candidate)), size))[0]
        for n in range(order):
            most = Counter()
            for reference in captions:
                most |= ngrams(reference, n + 1)
            matches[n] += (ngrams(candidate, n + 1) & most).total()
            guesses[n] += ngrams(candidate, n + 1).total()
    ratio = (length + 1e-15) / (closest + 1e-9)
    brevity = min(1.0, math.exp(1 - 1 / ratio))
    product, values = 1.0, []
    for n in range(order):
        product *= (matches[n] + 1e-15) / (guesses[n] + 1e-9)
        values.append(brevity * product ** (1 / (n + 1)))
    return values


@given(corpora())
def test_equals_an_oracle_that_counts_caption_by_caption(corpus):
    assert Bleu(corpus[1]).scores(corpus[0]) == pytest.approx(oracle(*corpus), abs=1e-12)


def test_counts_by_hand():
    candidate = ["the", "the", "the", "the", "the", "the", "the"]
    references = [["the", "cat", "is", "on", "the", "mat"], ["there", "is", "a", "cat", "on", "the", "mat"]]
    statistics = Bleu([references]).statistics([candidate])  # the example of Papineni et al., sec. 2.1: 2 of 7
    assert statistics.matches.tolist() == [[2, 0, 0, 0]]
    assert statistics.guesses.tolist() == [[7, 6, 5, 4]]
    assert statistics.reference_length.tolist() == [7]


def test_of_two_references_as_close_the_shorter_counts():
    statistics = Bleu([[["a"] * 6, ["a"] * 4, ["a"] * 9]]).statistics([["a"] * 5])
    assert statistics.reference_length.tolist() == [4]


def test_a_copy_scores_one_and_a_stranger_nothing():
    references = [[["a", "red", "dog", "runs", "on", "grass"]], [["two", "dogs", "sit", "on", "the", "mat"]]]
    assert Bleu(references).scores([r[0] for r in references]) == pytest.approx([1] * 4, abs=1e-8)
    assert Bleu(references).scores([["x", "y"], ["z"]]) == pytest.approx([0] * 4, abs=1e-6)


def test_a_corpus_is_no_mean_of_its_images():
    candidates, references = synthetic(20)
    whole = Bleu(references).statistics(candidates)
    halves = [Bleu(references).statistics(candidates[part], list(range(20))[part]) for part in (slice(0, 7), slice(7, 20))]
    assert all(np.array_equal(np.concatenate(pair), leaf) for *pair, leaf in zip(*halves, whole, strict=True))
    mean = np.mean([bleu(part.rows().sum(0))[3] for part in halves])
    assert abs(bleu(whole.rows().sum(0))[3] - mean) > 1e-6


def test_equals_pycocoevalcap():
    theirs = pytest.importorskip("pycocoevalcap.bleu.bleu")
    corpus = synthetic(300)
    corpus[0][3] = []
    expected, _ = theirs.Bleu(4).compute_score(*as_coco(corpus), verbose=0)
    assert Bleu(corpus[1]).scores(corpus[0]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("references", "line"),
    [([], "hold no image"), ([[["a"]], []], "image 1 .* are empty"), ([["a dog"]], "not strings")],
)
def test_references_that_cannot_be_scored_against_are_refused(references, line):
    with pytest.raises(ValueError, match=line):
        Bleu(references)


def test_candidates_must_fit_their_images():
    scorer = Bleu([[["a"]], [["b"]]])
    with pytest.raises(ValueError, match="3 candidates do not go with 2 images"):
        scorer.statistics([["a"]] * 3)
    with pytest.raises(ValueError, match=r"0 \.\. 1"):
        scorer.statistics([["a"]], [2])
    with pytest.raises(ValueError, match="counted up to 4"):
        Bleu(References([[["a"]]]), order=2)
