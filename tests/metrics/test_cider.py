"""CIDEr-D against an oracle in dense vectors, a count by hand, and pycocoevalcap where it is installed."""

import logging
import math

import numpy as np
import pytest
from corpora import as_coco, corpora, synthetic
from hypothesis import given

from captioner.metrics.cider import Cider
from captioner.metrics.ngrams import References


def grams(words, n):
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def oracle(candidates, references, order=4, sigma=6.0):
    """The definition with one dense vector a caption, over all n-grams of the corpus."""
    images, total = len(references), np.zeros(len(candidates))
    for n in range(1, order + 1):
        documents = [{g for r in captions for g in grams(r, n)} for captions in references]
        names = sorted(set().union(*documents, *(grams(c, n) for c in candidates)))
        idf = np.array([math.log(images / max(1, sum(g in d for d in documents))) for g in names])
        for i, (candidate, captions) in enumerate(zip(candidates, references, strict=True)):
            c = idf * [grams(candidate, n).count(g) for g in names]
            for caption in captions:
                r = idf * [grams(caption, n).count(g) for g in names]
                norm = np.linalg.norm(c) * np.linalg.norm(r)
                gap = max(len(candidate), 1) - max(len(caption), 1)
                total[i] += np.minimum(c, r) @ r / (norm or 1) * math.exp(-(gap**2) / (2 * sigma**2)) / len(captions)
    return 10 * total / order


@given(corpora())
def test_equals_an_oracle_in_dense_vectors(corpus):
    assert Cider(corpus[1]).scores(corpus[0]).tolist() == pytest.approx(oracle(*corpus).tolist(), abs=1e-10)


@pytest.mark.parametrize(("order", "sigma"), [(1, 6.0), (2, 1.5), (3, 20.0)])
def test_equals_the_oracle_at_other_orders_and_widths(order, sigma):
    corpus = synthetic(6, references=3, seed=3)
    assert Cider(corpus[1], order, sigma).scores(corpus[0]).tolist() == pytest.approx(oracle(*corpus, order, sigma).tolist(), abs=1e-10)


def test_a_copy_of_a_lone_reference_scores_ten():
    references = [[["a", "red", "dog", "runs", "fast"]], [["two", "cats", "sit", "on", "mats"]]]
    assert Cider(references).scores([r[0] for r in references]).tolist() == pytest.approx([10, 10])


def test_repeating_a_word_does_not_pay():
    references = [[["a", "dog", "runs"]], [["two", "cats", "sit"]]]
    once, often = Cider(references).scores([["dog"], ["dog", "dog", "dog"]], [0, 0])
    assert often < once
    unclipped = 10 / 4 / math.sqrt(3)
    assert often == pytest.approx(unclipped / 3)


def test_with_one_image_every_score_is_zero_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING, "captioner"):
        assert Cider([[["a", "dog"]]]).scores([["a", "dog"]]).tolist() == [0.0]
    assert "one image" in caplog.text


def test_candidates_of_any_image_in_any_order():
    candidates, references = synthetic(30, seed=4)
    scorer = Cider(references)
    everyone = scorer.scores(candidates)
    chosen = [7, 3, 3, 29]
    assert scorer.scores([candidates[i] for i in chosen], np.array(chosen)).tolist() == pytest.approx(everyone[chosen].tolist(), abs=1e-12)
    assert scorer.scores([], []).shape == (0,)


def test_counted_references_serve_again():
    candidates, references = synthetic(10, seed=5)
    assert np.array_equal(Cider(References(references)).scores(candidates), Cider(references).scores(candidates))


def test_equals_pycocoevalcap():
    theirs = pytest.importorskip("pycocoevalcap.cider.cider")
    corpus = synthetic(300, seed=6)
    corpus[0][3], corpus[0][4], corpus[1][5][2] = [], ["qaab"], []
    mean, expected = theirs.Cider().compute_score(*as_coco(corpus))
    ours = Cider(corpus[1]).scores(corpus[0])
    assert ours.tolist() == pytest.approx(expected.tolist(), abs=1e-9)
    assert ours.mean() == pytest.approx(mean, abs=1e-9)
    assert mean > 0.5


def test_sigma_must_be_a_length():
    with pytest.raises(ValueError, match=r"sigma .* not 0"):
        Cider([[["a"]]], sigma=0)
