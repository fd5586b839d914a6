"""Which words of a caption name objects that an instances file knows: COCO's 80 categories with synonyms and plurals."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from captioner.data.instances import Instance
from captioner.ids import ImageKey

Named = tuple[int, int, str, list[int]]
"""(first word, the word after the last, category, which of the image's objects): the last word is the noun."""
PhraseFinder = Callable[[Any, Sequence[str]], list[Named]]
"""(image, tokens of a caption) -> the phrases that name objects; of an image without any such object, with an empty list."""

ONLY_PLURAL = ("orange",)
"""Categories whose singular is more often another word: a colour."""
IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "knife": "knives",
    "wife": "wives",
    "calf": "calves",
    "goose": "geese",
    "ox": "oxen",
    "mouse": "mice",
    "sheep": "sheep",
    "people": "people",
}
UNCHANGED = ("skis", "scissors", "shears", "cattle", "luggage", "broccoli", "aircraft")


def normalised_category(category: str) -> str:
    """`Hot_Dog`, `hot-dog` and `hot dog` are one category."""
    return " ".join(category.replace("_", " ").replace("-", " ").lower().split())


def category_phrases(instances: Mapping[ImageKey, Sequence[Instance]]) -> PhraseFinder:
    """Phrases of the table `categories.json` and the file's own category names, capitals or not; an object is any of that category in
    the image.

    A man is any person: the file does not know which. The longest phrase counts (a hot dog is no dog), and phrases that only look like an
    object (train station, clock tower) name none.
    """
    known = {thing.category for things in instances.values() for thing in things}
    spelt = {normalised_category(category): category for category in sorted(known)}
    table = phrase_table(frozenset(spelt))

    def names(image: ImageKey, tokens: Sequence[str]) -> list[Named]:
        categories = [normalised_category(thing.category) for thing in instances[image]]
        found = []
        for first, stop, category in find_phrases(tokens, table):
            found.append((first, stop, spelt.get(category, category), [index for index, own in enumerate(categories) if own == category]))
        return found

    return names


def find_phrases(tokens: Sequence[str], table: Mapping[tuple[str, ...], str]) -> list[tuple[int, int, str]]:
    """(first, stop, category) of each phrase, the longest first where they overlap, left to right."""
    longest = max(map(len, table), default=0)
    found, at = [], 0
    while at < len(tokens):
        lengths = (length for length in range(min(longest, len(tokens) - at), 0, -1) if tuple(tokens[at : at + length]) in table)
        length = next(lengths, 0)
        if length and (category := table[tuple(tokens[at : at + length])]):
            found.append((at, at + length, category))
        at += max(length, 1)
    return found


@cache
def phrase_table(more: frozenset[str] = frozenset()) -> Mapping[tuple[str, ...], str]:
    """Phrase, as tokens -> category, of the table and of `more` categories by their names; "" for what names none."""
    table: dict[tuple[str, ...], str] = {}
    listed = json.loads(Path(__file__).with_name("categories.json").read_text(encoding="utf-8"))
    for category, synonyms in [*((name, []) for name in sorted(more - listed.keys())), *listed.items()]:
        spelt = [*synonyms, category] if category else synonyms
        singular = [phrase for phrase in spelt if phrase not in ONLY_PLURAL]
        table |= {tuple(phrase.lower().split()): category for phrase in [*singular, *map(plural_phrase, spelt)]}
    return MappingProxyType(table)


def plural_phrase(phrase: str) -> str:
    """Of its last word, or of what stands before `of`."""
    before, of, after = phrase.partition(" of ")
    if of:
        return f"{plural_phrase(before)}{of}{after}"
    *words, noun = phrase.split()
    return " ".join([*words, plural_noun(noun)])


def plural_noun(noun: str) -> str:
    if noun in UNCHANGED:
        return noun
    for ending, other in IRREGULAR.items():
        if noun.endswith(ending) and (noun == ending or ending in ("man", "woman", "child", "wife")):
            return noun.removesuffix(ending) + other
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")
