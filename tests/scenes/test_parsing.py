"""The phrases of a caption, by hand."""

import pytest

from captioner.scenes.grammar import lexicon
from captioner.scenes.parsing import SENTENCE, Description, links, parse
from captioner.tokenizer import tokenize

LEXICON = lexicon()


@pytest.mark.parametrize(
    ("caption", "letters", "is_sentence"),
    [
        ("there is a red circle", "ON", True),
        ("a red circle is to the left of a blue star", "NCRN", True),
        ("in the middle there is a heart", "PON", True),
        ("three shapes including a star and a heart", "GINAN", True),
        ("a red circle left of", "NR", False),
        ("a zebra and a star", "XXAN", False),
    ],
)
def test_a_caption_is_cut_into_its_longest_phrases(caption: str, letters: str, is_sentence: bool) -> None:
    phrases = parse(tokenize(caption), LEXICON)
    assert "".join(phrase.letter for phrase in phrases) == letters
    assert [phrase.first for phrase in phrases[1:]] == [phrase.stop for phrase in phrases[:-1]]
    assert bool(SENTENCE.fullmatch(letters)) == is_sentence


def test_a_relation_that_comes_first_has_the_last_phrase_as_its_subject() -> None:
    tokens = tokenize("to the left of a tiny blue star is two discs")
    phrases = parse(tokens, LEXICON)
    nouns = [phrase for phrase in phrases if phrase.letter in "NG"]
    assert [noun.meaning for noun in nouns] == [Description("star", "blue", "small"), Description("circle", None, None, 2)]
    (link,) = links(phrases, nouns)
    assert (link.meaning, link.subject, link.other) == ("left", 1, 0)
