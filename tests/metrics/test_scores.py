"""From raw text to a row of scores."""

import pytest
from corpora import synthetic

from captioner.metrics.bleu import Bleu
from captioner.metrics.cider import Cider
from captioner.metrics.rouge import rouge_l
from captioner.metrics.scores import Scorer, score
from captioner.tokenizer import tokenize

KEYS = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr", "images"]


def text(corpus, ids):
    """The corpus as sentences: a capital, a full stop, ids of our own."""
    candidates, references = corpus
    spoken = [[" ".join(r).capitalize() + "." for r in captions] for captions in references]
    return {i: " ".join(c) for i, c in zip(ids, candidates, strict=True)}, dict(zip(ids, spoken, strict=True))


def test_the_row_holds_each_corpus_score_of_the_tokens():
    corpus = synthetic(12, seed=7)
    captions, references = text(corpus, range(100, 1300, 100))
    row = score(captions, references)
    assert list(row) == KEYS
    assert [row[f"BLEU-{n}"] for n in (1, 2, 3, 4)] == pytest.approx(Bleu(corpus[1]).scores(corpus[0]))
    assert row["ROUGE-L"] == pytest.approx(rouge_l(*corpus).mean())
    assert row["CIDEr"] == pytest.approx(Cider(corpus[1]).scores(corpus[0]).mean())
    assert row["images"] == 12


def test_case_and_full_stops_do_not_count():
    references = {1: ["A dog runs."], 2: ["Two cats sit."]}
    assert score({1: "a dog runs", 2: "TWO CATS SIT ."}, references)["CIDEr"] == pytest.approx(7.5)  # no 4-grams: three orders of four


def test_the_order_of_images_changes_nothing():
    captions, references = text(synthetic(9, seed=8), range(9))
    backwards = {image: captions[image] for image in reversed(captions)}
    assert score(backwards, references) == pytest.approx(score(captions, references))
    assert Scorer(references)(backwards) == pytest.approx(score(captions, references))


def test_only_what_was_asked_for_is_scored():
    captions, references = text(synthetic(5), range(5))
    assert list(score(captions, references, ["rouge"])) == ["ROUGE-L", "images"]
    assert list(score(captions, references, ["cider", "bleu"])) == [*KEYS[:4], "CIDEr", "images"]
    with pytest.raises(ValueError, match="'spider'"):
        score(captions, references, ["spider"])


def test_images_without_a_caption_are_left_aside_of_document_frequencies_too():
    captions, references = text(synthetic(8, seed=9), range(8))
    some = {image: captions[image] for image in (6, 1, 3)}
    assert score(some, references) == score(some, {image: references[image] for image in some})
    assert score(some, references)["images"] == 3
    with pytest.raises(ValueError, match=r"no caption for 5 \(0, 2, 4, \.\.\.\) of the 8 images"):
        Scorer(references)(some)


def test_unknown_images_and_empty_sides_are_refused():
    with pytest.raises(ValueError, match=r"no references for 1 \(9\) of the 2 images"):
        score({1: "a", 9: "b"}, {1: ["a"]})
    with pytest.raises(ValueError, match=r"no references for 1 \(9\)"):
        Scorer({1: ["a"]})({1: "a", 9: "b"})
    with pytest.raises(ValueError, match="no image"):
        score({}, {1: ["a"]})
    for bad in ([], "a dog"):
        with pytest.raises(ValueError, match="references of image 1"):
            Scorer({1: bad})


def test_captions_without_a_word_score_nothing():
    assert tokenize("...") == []
    row = score({1: "...", 2: ""}, {1: ["a dog runs"], 2: ["two cats sit"]})
    assert [row[key] for key in KEYS[:-1]] == pytest.approx([0] * 6, abs=1e-6)
