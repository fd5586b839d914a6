"""Words and ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.errors import InputError
from captioner.vocabulary import SPECIALS, Vocabulary, count_tokens

tokens = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=6).filter(
    lambda word: word.split() == [word]
)
captions = st.lists(st.lists(tokens, max_size=7), max_size=5)


@given(captions)
def test_what_was_counted_comes_back(token_lists: list[list[str]]) -> None:
    vocabulary = Vocabulary.count(token_lists, 1)
    for caption in token_lists:
        ids = vocabulary.encode(caption)
        assert ids[0] == vocabulary.start
        assert ids[-1] == vocabulary.end
        assert vocabulary.decode([*ids, vocabulary.pad, vocabulary.pad]) == [word if word not in SPECIALS else "<unk>" for word in caption]


@given(captions, st.integers(1, 3))
def test_json_gives_the_same_vocabulary(token_lists: list[list[str]], minimum_count: int) -> None:
    vocabulary = Vocabulary.count(token_lists, minimum_count)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


@given(captions, captions)
def test_extending_keeps_every_id_and_appends(old: list[list[str]], new: list[list[str]]) -> None:
    before = Vocabulary.count(old, 1)
    after = before.extended(new, 1)
    assert after.words[: len(before)] == before.words
    assert set(after.words) == set(before.words) | {word for caption in new for word in caption}


def test_frequent_words_come_first_and_equals_alphabetically() -> None:
    vocabulary = Vocabulary.count([["b", "c", "a", "c"], ["d", "a", "c", "b", "e"]], minimum_count=2)
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "c", "a", "b")


def test_the_share_of_unknown_words_is_of_all_that_was_said() -> None:
    counts = count_tokens([["a", "dog", "a"], ["the", "<end>"]])
    assert Vocabulary.count(counts, 2).words[4:] == ("a",)
    assert Vocabulary.count(counts, 2).unknown_share(counts) == pytest.approx(3 / 5)
    assert Vocabulary.count(counts, 1).unknown_share(counts) == pytest.approx(1 / 5)
    assert Vocabulary([]).unknown_share(count_tokens([])) == 0


def test_the_four_specials_have_the_first_ids() -> None:
    vocabulary = Vocabulary(["dog"])
    assert (vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.unknown, len(vocabulary)) == (0, 1, 2, 3, 5)


def test_a_word_never_heard_is_unknown() -> None:
    vocabulary = Vocabulary(["a", "dog"])
    assert vocabulary.encode(["a", "zebra"]) == [1, 4, 3, 2]
    assert vocabulary.decode([1, 4, 3, 2, 5]) == ["a", "<unk>"]


def test_a_caption_cannot_say_a_special() -> None:
    assert Vocabulary(["a"]).encode(["<end>", "<pad>", "a", "<start>"]) == [1, 3, 3, 4, 3, 2]


@pytest.mark.parametrize("words", [["a", "a"], ["<pad>"], [""], ["two words"], [" a"]])
def test_words_that_could_not_come_back_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="words holds"):
        Vocabulary(words)


@pytest.mark.parametrize(
    "record", [{}, [], {"words": "abcd"}, {"words": ["a"]}, {"words": [*SPECIALS, 5]}, {"words": [*SPECIALS, "a", "a"]}]
)
def test_a_damaged_record_is_one_clear_line(record: object) -> None:
    with pytest.raises(InputError, match="vocabulary: ") as caught:
        Vocabulary.from_json(record)
    assert "\n" not in str(caught.value)


def test_a_minimum_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="minimum_count is a number"):
        Vocabulary.count([], 0)


@pytest.mark.parametrize("index", [-1, 5])
def test_an_id_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError):
        Vocabulary(["a"]).decode([4, index])
