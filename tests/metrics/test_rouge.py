"""ROUGE-L against the textbook's table, and pycocoevalcap where it is installed."""

import pytest
from corpora import as_coco, captions, corpora, synthetic
from hypothesis import given

from captioner.metrics.rouge import rouge_l


def common(a, b):
    """The textbook's recursion, cell by cell."""
    row = [0] * (len(b) + 1)
    for word in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if word == other else max(before[j + 1], row[j]))
    return row[-1]


def oracle(candidate, references, beta=1.2):
    candidate, references = candidate or [""], [r or [""] for r in references]
    precision = max(common(candidate, r) / len(candidate) for r in references)
    recall = max(common(candidate, r) / len(r) for r in references)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision) if precision * recall else 0.0


@given(corpora())
def test_equals_the_textbook_table(corpus):
    expected = [oracle(c, r) for c, r in zip(*corpus, strict=True)]
    assert rouge_l(*corpus).tolist() == pytest.approx(expected, abs=1e-12)


@given(captions(most=150), captions(most=150))
def test_long_captions_too(candidate, reference):
    assert rouge_l([candidate], [[reference]])[0] == pytest.approx(oracle(candidate, [reference]), abs=1e-12)


def test_best_precision_and_best_recall_may_come_from_different_references():
    candidate, short, long = ["a", "b", "c", "d"], ["a"], ["a", "b", "c", "x", "y", "z"]
    precision, recall = 3 / 4, 1.0
    expected = 2.44 * precision * recall / (recall + 1.44 * precision)
    assert rouge_l([candidate], [[short, long]])[0] == pytest.approx(expected)


def test_another_beta_weighs_recall_more():
    few = ([["a", "b"]], [[["a", "b", "c", "d"]]])
    assert rouge_l(*few, beta=1.0)[0] == pytest.approx(2 / 3)
    assert rouge_l(*few, beta=1e6)[0] == pytest.approx(1 / 2)


def test_equals_pycocoevalcap():
    theirs = pytest.importorskip("pycocoevalcap.rouge.rouge")
    corpus = synthetic(300, seed=1)
    corpus[0][5], corpus[1][5][2] = [], []
    _, expected = theirs.Rouge().compute_score(*as_coco(corpus))
    assert rouge_l(*corpus).tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"beta .* not 0"):
        rouge_l([["a"]], [[["a"]]], beta=0)
    with pytest.raises(ValueError, match="1 candidates do not go with the references of 2"):
        rouge_l([["a"]], [[["a"]], [["b"]]])
    with pytest.raises(ValueError, match="are empty"):
        rouge_l([["a"]], [[]])
    with pytest.raises(ValueError, match="not strings"):
        rouge_l(["a dog"], [[["a"]]])
