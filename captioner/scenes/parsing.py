"""From the tokens of a caption to its phrases, by the lexicon beside the drawn truth: which objects, and how they are related."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

Lexicon = Mapping[str, Any]
"""The meanings of words and phrases, and the distances from which relations hold (`grammar.lexicon`)."""


class Phrase(NamedTuple):
    """A part of a caption: its letter in SENTENCE, its first token, the token after its last, and what it means."""

    letter: str
    first: int
    stop: int
    meaning: Any = None


class Description(NamedTuple):
    """The meaning of an object phrase; None where it says nothing."""

    kind: str | None
    colour: str | None
    size: str | None
    number: int | None = None


class Link(NamedTuple):
    """A relation of object phrase `subject` to object phrase `other`, or a position of `subject` (`other` is None)."""

    meaning: str
    subject: int
    other: int | None
    first: int
    stop: int


SENTENCE = re.compile(r"O?N(C?RN|C?P)?(AN(C?RN|C?P)?)*|O?NN+AN|O?GI(N|NAN|NN+AN)|RN[CO]N|P[CO]N")
"""Sentences over these letters: O there is, N object phrase (G the same with a number, before I), R relation, P position, C is,
A and, I including. Commas are no tokens, so that a list of three is N N A N."""


def parse(tokens: Sequence[str], lexicon: Lexicon) -> list[Phrase]:
    """Cut tokens into phrases, the longest first. A token that fits nowhere becomes a phrase X, which no sentence has."""
    fixed = _fixed_phrases(lexicon)
    phrases: list[Phrase] = []
    at = 0
    while at < len(tokens):
        phrases.append(_fixed_phrase(tokens, at, fixed) or _object_phrase(tokens, at, lexicon) or Phrase("X", at, at + 1))
        at = phrases[-1].stop
    for i, (phrase, following) in enumerate(pairwise(phrases)):
        if phrase.letter == "N" and phrase.meaning.number is not None and following.letter == "I":
            phrases[i] = phrase._replace(letter="G")
    return phrases


def links(phrases: Sequence[Phrase], nouns: Sequence[Phrase]) -> list[Link]:
    """The relations and positions of a sentence. One that begins the sentence has the last object phrase as its subject."""
    found = []
    for i, phrase in enumerate(phrases):
        if phrase.letter in "RP":
            before = sum(noun.first < phrase.first for noun in nouns)
            subject = len(nouns) - 1 if i == 0 else before - 1
            found.append(Link(phrase.meaning, subject, before if phrase.letter == "R" else None, phrase.first, phrase.stop))
    return found


def _fixed_phrases(lexicon: Lexicon) -> list[tuple[tuple[str, ...], str, str]]:
    """(words, letter, meaning), the longest first."""
    table = [(phrase, "R", meaning) for phrase, meaning in lexicon["relations"].items()]
    table += [(phrase, "P", meaning) for phrase, meaning in lexicon["positions"].items()]
    for letter, key in (("O", "openers"), ("C", "copulas"), ("I", "including")):
        table += [(phrase, letter, phrase) for phrase in lexicon[key]]
    table.append(("and", "A", "and"))
    return sorted(((tuple(phrase.split()), letter, meaning) for phrase, letter, meaning in table), key=lambda entry: -len(entry[0]))


def _fixed_phrase(tokens: Sequence[str], at: int, fixed: Sequence[tuple[tuple[str, ...], str, str]]) -> Phrase | None:
    for words, letter, meaning in fixed:
        if tuple(tokens[at : at + len(words)]) == words:
            return Phrase(letter, at, at + len(words), meaning)
    return None


def _object_phrase(tokens: Sequence[str], first: int, lexicon: Lexicon) -> Phrase | None:
    """Determiner or number, at most one size, at most one colour, noun: singular or plural as the number requires."""
    number = lexicon["numbers"].get(tokens[first])
    if number is None and tokens[first] not in lexicon["determiners"]:
        return None
    at, attributes = first + 1, {"sizes": None, "colours": None}
    for key in attributes:
        if at < len(tokens) and tokens[at] in lexicon[key]:
            attributes[key] = lexicon[key][tokens[at]]
            at += 1
    kinds, generic = ("kinds", "generic") if number is None else ("kind_plurals", "generic_plurals")
    if at == len(tokens) or (tokens[at] not in lexicon[kinds] and tokens[at] not in lexicon[generic]):
        return None
    return Phrase("N", first, at + 1, Description(lexicon[kinds].get(tokens[at]), attributes["colours"], attributes["sizes"], number))
