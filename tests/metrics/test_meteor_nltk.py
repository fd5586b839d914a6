"""METEOR-nltk against a count by hand, over a WordNet of one synset."""

from types import SimpleNamespace

import pytest

from captioner.metrics import scores
from captioner.metrics.java import Unavailable
from captioner.metrics.meteor_nltk import meteor_nltk

SYNONYMS = {"dog": ["dog", "hound"], "hound": ["dog", "hound"]}


def synsets(word):
    return [SimpleNamespace(lemmas=lambda: [SimpleNamespace(name=lambda name=name: name) for name in SYNONYMS.get(word, [])])]


WORDNET = SimpleNamespace(synsets=synsets)


def by_hand(matches, candidate, reference, chunks):
    precision, recall = matches / candidate, matches / reference
    return (1 - 0.5 * (chunks / matches) ** 3) * precision * recall / (0.9 * precision + 0.1 * recall)


def test_words_stems_and_synonyms_match_and_the_best_reference_counts():
    candidates = [["a", "hound", "runs"], ["two", "cats"], []]
    references = [[["the", "dog", "running"], ["birds"]], [["cats", "two", "cats"]], [["x"]]]
    part = meteor_nltk(candidates, references, WORDNET)
    expected = [by_hand(2, 3, 3, 1), by_hand(2, 2, 3, 1), 0]
    assert part.scores(part.rows)[:, 0].tolist() == pytest.approx(expected)
    assert part.corpus() == pytest.approx({"METEOR-nltk": sum(expected) / 3})


def test_without_wordnet_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("nltk.data.path", [])
    with pytest.raises(Unavailable, match=r"python -m nltk\.downloader wordnet"):
        meteor_nltk([["a"]], [[["a"]]])


def test_it_stands_in_for_meteor_under_its_own_name_only_where_meteor_cannot_be_had(monkeypatch):
    def none(candidates, references):
        raise Unavailable("no Java")

    mine = ("METEOR-nltk", lambda candidates, references: meteor_nltk(candidates, references, WORDNET))
    monkeypatch.setitem(scores.PROGRAMS, "meteor-nltk", mine)
    monkeypatch.setitem(scores.PROGRAMS, "meteor", ("METEOR", none))
    captions, references = {1: "a dog runs"}, {1: ["a hound runs"]}
    assert scores.score(captions, references, ["meteor"]) == pytest.approx({"METEOR-nltk": by_hand(3, 3, 3, 1), "images": 1})
    monkeypatch.setitem(scores.PROGRAMS, "meteor", ("METEOR", lambda c, r: scores.mean_statistics("METEOR", scores.rouge_l(c, r))))
    assert list(scores.score(captions, references, ["meteor"])) == ["METEOR", "images"]
    assert list(scores.score(captions, references, ["meteor-nltk", "meteor"])) == ["METEOR", "METEOR-nltk", "images"]
