"""Diversity by hand and against nltk."""

import numpy as np
import pytest
from corpora import captions, synthetic
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from captioner.metrics.diversity import FUNCTION_WORDS, diversity, self_bleu


def split(*texts):
    return [text.split() for text in texts]


def nltk_self_bleu(corpus, order=4):
    smoothing = SmoothingFunction().method1
    return [
        float(sentence_bleu(corpus[:i] + corpus[i + 1 :], caption, (1 / order,) * order, smoothing)) if caption else 0.0
        for i, caption in enumerate(corpus)
    ]


@given(st.lists(captions(), min_size=2, max_size=6), st.integers(1, 4))
def test_self_bleu_equals_nltk_with_all_others_as_references(corpus, order):
    assert self_bleu(corpus, order) == pytest.approx(nltk_self_bleu(corpus, order), abs=1e-12)


def test_self_bleu_equals_nltk_on_many_captions():
    corpus = synthetic(60, seed=3)[0]
    corpus[7], corpus[20] = corpus[8], corpus[21][:1]
    assert self_bleu(corpus) == pytest.approx(nltk_self_bleu(corpus), abs=1e-12)


def test_a_system_that_says_one_thing_repeats_itself_wholly():
    assert self_bleu(split(*["a dog runs on the grass"] * 5)) == pytest.approx([1] * 5)
    assert self_bleu(split("a dog runs", "two cats sit")) == pytest.approx([0, 0])
    assert self_bleu(split("a dog")) == pytest.approx([0])


def test_a_corpus_worked_out_by_hand():
    said = split("a red dog runs", "a red dog", "a <unk> on the", "a red dog runs")
    found = diversity(said, training=split("a red dog", "the cat"))
    assert found["distinct-1"] == pytest.approx(7 / 15)  # a red dog runs <unk> on the, of 15 words
    assert found["distinct-2"] == pytest.approx(6 / 15)  # a red, red dog, dog runs, a <unk>, <unk> on, on the
    assert found["vocabulary"] == 7
    assert found["length"] == 15 / 4
    assert found["novel"] == 3 / 4
    assert found["function-word endings"] == 1 / 4
    assert found["unknown words"] == 1 / 4
    assert found["self-BLEU"] == pytest.approx(np.mean(nltk_self_bleu(said)))


def test_without_training_captions_nothing_is_said_of_novelty():
    assert "novel" not in diversity(split("a dog"))
    assert diversity(split("a dog"), [])["novel"] == 1


def test_a_caption_without_words_counts_as_a_caption():
    found = diversity([[], ["dog"]])
    assert (found["length"], found["distinct-1"], found["function-word endings"]) == (0.5, 1, 0)
    assert diversity([[]])["distinct-1"] == 0


@given(st.lists(captions(), min_size=1, max_size=6))
def test_the_order_of_captions_changes_nothing(corpus):
    assert diversity(corpus[::-1]) == pytest.approx(diversity(corpus))


def test_what_may_well_end_a_caption_is_no_function_word():
    words = "a dog runs to the two others and sits down near red water out in the open"
    assert [word for word in words.split() if word in FUNCTION_WORDS] == ["a", "to", "the", "and", "near", "in", "the"]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="captions are none"):
        diversity([])
    with pytest.raises(ValueError, match="lists of tokens"):
        diversity(["a dog"])
    with pytest.raises(ValueError, match="order"):
        self_bleu(split("a", "b"), 0)
