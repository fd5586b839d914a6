"""Both CIDErs against oracles in dense vectors, counts by hand, and pycocoevalcap where it is installed."""

import logging
import math

import numpy as np
import pytest
from corpora import as_coco, corpora, synthetic
from hypothesis import given

from captioner.metrics.cider import Cider, CiderReward
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.ngrams import References
from captioner.tokenizer import tokenize


def grams(words, n):
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def oracle(candidates, references, order=4, sigma=6.0, corpus=None):
    """The definition with one dense vector a caption, over all n-grams of all captions."""
    corpus = references if corpus is None else corpus
    total = np.zeros(len(candidates))
    for n in range(1, order + 1):
        documents = [{g for r in captions for g in grams(r, n)} for captions in corpus]
        names = sorted({g for captions in [candidates, *references] for text in captions for g in grams(text, n)})
        idf = np.array([math.log(len(corpus) / max(1, sum(g in d for d in documents))) for g in names])
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


def plain_oracle(candidates, references, corpus=None, order=4):
    """Vedantam et al. 2015, sec. 3, as it is printed: term frequencies are shares, the vectors hold every n-gram of everybody."""
    corpus = references if corpus is None else corpus
    scores = []
    for candidate, captions in zip(candidates, references, strict=True):
        cider_n = []
        for n in range(1, order + 1):
            names = sorted({g for text in [candidate, *captions] for g in grams(text, n)})

            def vector(text, n=n, names=names):
                said = grams(text, n)
                term = np.array([said.count(g) / max(1, len(said)) for g in names])
                images = np.array([sum(min(1, sum(grams(r, n).count(g) for r in image)) for image in corpus) for g in names])
                return term * np.log(len(corpus) / np.maximum(1, images))

            pairs = [(vector(candidate), vector(caption)) for caption in captions]
            cosines = [c @ r / norm if (norm := np.linalg.norm(c) * np.linalg.norm(r)) > 0 else 0 for c, r in pairs]
            cider_n.append(sum(cosines) / len(captions))
        scores.append(sum(cider_n) / order)
    return scores


@given(corpora())
def test_plain_equals_the_formulas_of_the_paper(corpus):
    assert Cider(corpus[1], plain=True).scores(corpus[0]).tolist() == pytest.approx(plain_oracle(*corpus), abs=1e-10)


def test_plain_is_one_for_a_copy_and_forgives_repetition_and_length():
    references = [[["a", "red", "dog", "runs", "fast"]], [["two", "cats", "sit", "on", "mats"]]]
    assert Cider(references, plain=True).scores([r[0] for r in references]).tolist() == pytest.approx([1, 1])
    once, often = Cider([[["dog"]], [["cat"]]], 1, plain=True).scores([["dog"], ["dog"] * 9], [0, 0])
    assert (once, often) == pytest.approx((1, 1))


@pytest.mark.parametrize("plain", [False, True])
@given(corpus=corpora(), other=corpora(fewest=2))
def test_frequencies_of_another_corpus_are_the_ones_that_weigh(plain, corpus, other):
    found = Cider(corpus[1], plain=plain, frequencies=DocumentFrequencies.of(References(other[1]))).scores(corpus[0])
    expected = plain_oracle(*corpus, other[1]) if plain else oracle(*corpus, corpus=other[1])
    assert found.tolist() == pytest.approx(list(expected), abs=1e-10)


def test_with_frequencies_of_another_corpus_one_image_has_a_score(caplog):
    frequencies = DocumentFrequencies.of(References(synthetic(5, seed=1)[1]))
    with caplog.at_level(logging.WARNING, "captioner"):
        assert Cider([[["a", "dog", "runs", "off"]]], frequencies=frequencies).scores([["a", "dog", "runs", "off"]])[0] == pytest.approx(10)
    assert caplog.text == ""


def test_frequencies_must_be_of_the_same_order():
    with pytest.raises(ValueError, match="order is 4 words, but the frequencies were counted up to 2"):
        Cider([[["a"]]], frequencies=DocumentFrequencies.of(References([[["a"]]], order=2)))


def test_the_reward_of_a_caption_is_its_score_over_words_and_over_ids():
    spoken = {50: ["A red dog runs.", "the dog is running"], 20: ["Two cats sit on a mat"], 30: ["a man rides a bike"]}
    said = ["a dog runs", "two cats sit", "two cats sit", "a man on a bike"]
    images = [50, 20, 30, 30]
    rewards = CiderReward(spoken)(images, [caption.split() for caption in said])
    expected = Cider([[tokenize(text) for text in texts] for texts in spoken.values()]).scores([c.split() for c in said], [0, 1, 2, 2])
    assert rewards.tolist() == expected.tolist()
    assert rewards[1] > rewards[2] == 0
    ids = {word: number for number, word in enumerate(sorted({w for texts in spoken.values() for t in texts for w in tokenize(t)}), 7)}
    of_ids = CiderReward(spoken, lambda text: [ids[word] for word in tokenize(text)])
    assert of_ids(images, [[ids.get(w, 999) for w in c.split()] for c in said]).tolist() == pytest.approx(rewards.tolist())
    with pytest.raises(ValueError, match="image 31 has no references"):
        of_ids([31], [[7]])


def test_an_end_that_is_a_word_rewards_captions_that_end():
    spoken = {1: ["a dog runs on the grass", "the dog runs"], 2: ["two cats sit on a bench", "cats on a bench"]}
    reward = CiderReward(spoken, lambda text: [*tokenize(text), "<end>"])
    cut, ended = reward([1, 1], [["the", "dog"], ["the", "dog", "runs", "<end>"]])
    assert ended > cut


def test_sigma_must_be_a_length():
    with pytest.raises(ValueError, match=r"sigma .* not 0"):
        Cider([[["a"]]], sigma=0)
