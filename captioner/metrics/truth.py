"""Is a caption true of the drawn scene it was said of? What the words mean comes from the lexicon beside the drawn truth."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from captioner.errors import InputError
from captioner.json_files import read_json
from captioner.tokenizer import tokenize

Truth = Mapping[str, Any]
"""{"width", "height", "objects": [{"kind", "colour", "size", "x", "y"}, ...], "in_front": [[i, j], ...]}, centres in pixels."""


class Claim(NamedTuple):
    """One thing said: `about` is kind, colour, size, count, relation or position; `text` the phrase that says it; `true` by itself."""

    about: str
    text: str
    true: bool


class Mention(NamedTuple):
    """An object phrase; words are counted in the caption's tokens."""

    word_index: int
    """Of its noun."""
    first: int
    """Of the phrase's first word."""
    objects: list[int]
    """What it may name: in a true caption, every object that it names in some reading; otherwise every object that fits its words."""
    generic: bool
    """The noun says no kind: `three shapes`."""


class Verdict(NamedTuple):
    true: bool
    claims: list[Claim]
    mentions: list[Mention]


class Item(NamedTuple):
    """A parsed piece: its letter in ARRANGEMENT, where it starts, and what it means."""

    letter: str
    first: int
    stop: int
    meaning: Any = None


class Noun(NamedTuple):
    """What an object phrase asks for; None asks for nothing."""

    kind: str | None
    colour: str | None
    size: str | None
    number: int | None


ARRANGEMENT = re.compile(r"O?N(C?RN|C?P)?(AN(C?RN|C?P)?)*|O?NN+AN|O?GI(N|NAN|NN+AN)|RN[CO]N|P[CO]N")
"""Sentences over the letters O there is, N object phrase (G the same, counted, before I), R relation, P position, C is, A and,
I including. Commas are no tokens, so a list of three is N N A N."""


def caption_truth(caption: str, scene: Truth, lexicon: Mapping[str, Any]) -> Verdict:
    """Hold every object, colour, size, count, relation and position word of a caption against the scene.

    A caption is true when all of this holds:
    every word belongs to the lexicon, and the words stand in a sentence (ARRANGEMENT; an object phrase is determiner or number,
    at most one size, at most one colour, noun, singular or plural as the number asks); and there is a reading, that is a choice of
    objects for phrases, in which
    - `a small red circle` is one object with all these attributes, and `two red circles` are all such objects and exactly two;
    - different phrases are different objects, but those after `including` are among the objects counted before it;
    - relations and positions hold of the chosen objects (of each, where the phrase is plural). Left, right, above and below compare
      centres and need `true_distance` pixels; in front and behind need an overlap; left, right, top and bottom of the image are halves
      (of the centre), corners two halves, the middle is within `true_middle` of the image's size on both axes.
    So a caption without any claim, with an unknown or a left-over word, or broken off is not true.

    A claim's own `true` asks only whether some choice of objects makes that one claim true, so that a reader sees which failed.
    """
    tokens = tokenize(caption)
    items = _parse(tokens, lexicon)
    nouns = [item for item in items if item.letter in "NG"]
    objects = scene["objects"]
    fits = [_choices(noun.meaning, objects) for noun in nouns]
    sentence = ARRANGEMENT.fullmatch("".join(item.letter for item in items)) is not None
    links = _links(items, nouns) if sentence else []
    group = 0 if any(item.letter == "G" for item in nouns) else None
    readings = list(_readings(fits, links, group, scene, lexicon)) if sentence else []
    claims = [claim for noun in nouns for claim in _attribute_claims(noun, tokens, objects)]
    for link in links:
        said = " ".join(tokens[link.first : link.stop])
        claims.append(Claim("position" if link.other is None else "relation", said, _possible(link, fits, scene, lexicon)))
    mentions = []
    for i, noun in enumerate(nouns):
        chosen = {index for reading in readings for index in reading[i]}
        found = sorted(chosen or _matching(noun.meaning, objects))
        mentions.append(Mention(noun.stop - 1, noun.first, found, noun.meaning.kind is None))
    return Verdict(bool(readings) and bool(claims), claims, mentions)


def truth_share(captions: Mapping[int, str], scenes: Mapping[int, Truth], lexicon: Mapping[str, Any]) -> dict[str, float]:
    """Over image ids: `true`, the share of captions that are true of their scene; `claims`, how many a caption makes; `true_kind`,
    `true_colour`, ... the share of claims of each sort that are true by themselves; `captions`, how many there are.

    Raises: InputError, an image without a scene.
    """
    true, claims = 0, Counter[str]()
    kept = Counter[str]()
    for image_id, caption in captions.items():
        if image_id not in scenes:
            raise InputError(f"image_id {image_id} has a caption but no drawn scene; captions and scenes must be of one split")
        verdict = caption_truth(caption, scenes[image_id], lexicon)
        true += verdict.true
        claims.update(claim.about for claim in verdict.claims)
        kept.update(claim.about for claim in verdict.claims if claim.true)
    total = max(len(captions), 1)
    shares = {f"true_{about}": kept[about] / number for about, number in sorted(claims.items())}
    return {"true": true / total, "claims": claims.total() / total, **shares, "captions": float(len(captions))}


def read_scenes(path: Path) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """The lexicon and the scenes by image id of a `scenes_*.json`. Raises: InputError, the file is missing or another thing."""
    record = read_json(path, "drawn scenes")
    if not isinstance(record, dict) or not {"lexicon", "scenes"} <= record.keys():
        raise InputError(f"{path}: expected drawn scenes with `lexicon` and `scenes`; draw the data set again")
    return record["lexicon"], {int(image_id): scene for image_id, scene in record["scenes"].items()}


def names_in_scenes(path: Path) -> Callable[[int, Sequence[str]], list[tuple[int, int, str, list[int]]]]:
    """(image id, tokens of a caption) -> (first word of a phrase, the word after its noun, kind, which of the scene's objects it may name).

    Phrases that say no kind (`three shapes`) are left out. Raises: InputError, as `read_scenes`.
    """
    lexicon, truths = read_scenes(path)
    kinds = {**lexicon["kinds"], **lexicon["kind_plurals"]}

    def names(image_id: int, tokens: Sequence[str]) -> list[tuple[int, int, str, list[int]]]:
        mentions = caption_truth(" ".join(tokens), truths[image_id], lexicon).mentions
        return [(m.first, m.word_index + 1, kinds[tokens[m.word_index]], m.objects) for m in mentions if not m.generic]

    return names


class Link(NamedTuple):
    """A relation of noun `subject` to noun `other`, or a position of `subject` (other None)."""

    says: str
    subject: int
    other: int | None
    first: int
    stop: int


def _parse(tokens: Sequence[str], lexicon: Mapping[str, Any]) -> list[Item]:
    """Cut tokens into items, longest phrase first; what fits nowhere becomes an item X, which no sentence holds."""
    phrases = _phrases(lexicon)
    items: list[Item] = []
    at = 0
    while at < len(tokens):
        item = _fixed(tokens, at, phrases) or _noun(tokens, at, lexicon) or Item("X", at, at + 1)
        items.append(item)
        at = item.stop
    for i, (item, after) in enumerate(pairwise(items)):
        if item.letter == "N" and item.meaning.number is not None and after.letter == "I":
            items[i] = item._replace(letter="G")
    return items


def _phrases(lexicon: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str, str]]:
    """(words, letter, meaning), longest first."""
    table = [(phrase, "R", meaning) for phrase, meaning in lexicon["relations"].items()]
    table += [(phrase, "P", meaning) for phrase, meaning in lexicon["positions"].items()]
    for letter, key in (("O", "openers"), ("C", "copulas"), ("I", "including")):
        table += [(phrase, letter, phrase) for phrase in lexicon[key]]
    table.append(("and", "A", "and"))
    return sorted(((tuple(phrase.split()), letter, meaning) for phrase, letter, meaning in table), key=lambda entry: -len(entry[0]))


def _fixed(tokens: Sequence[str], at: int, phrases: list[tuple[tuple[str, ...], str, str]]) -> Item | None:
    for words, letter, meaning in phrases:
        if tuple(tokens[at : at + len(words)]) == words:
            return Item(letter, at, at + len(words), meaning)
    return None


def _noun(tokens: Sequence[str], first: int, lexicon: Mapping[str, Any]) -> Item | None:
    number = lexicon["numbers"].get(tokens[first])
    if number is None and tokens[first] not in lexicon["determiners"]:
        return None
    at, found = first + 1, {"sizes": None, "colours": None}
    for key in found:
        if at < len(tokens) and tokens[at] in lexicon[key]:
            found[key] = lexicon[key][tokens[at]]
            at += 1
    if at == len(tokens):
        return None
    kinds, generic = ("kinds", "generic") if number is None else ("kind_plurals", "generic_plurals")
    if tokens[at] not in lexicon[kinds] and tokens[at] not in lexicon[generic]:
        return None
    return Item("N", first, at + 1, Noun(lexicon[kinds].get(tokens[at]), found["colours"], found["sizes"], number))


def _links(items: list[Item], nouns: list[Item]) -> list[Link]:
    """Who is related to whom, in an arranged sentence; where the relation or position comes first, its subject comes last."""
    links = []
    for i, item in enumerate(items):
        if item.letter not in "RP":
            continue
        before = sum(noun.first < item.first for noun in nouns)
        subject = len(nouns) - 1 if i == 0 else before - 1
        links.append(Link(item.meaning, subject, before if item.letter == "R" else None, item.first, item.stop))
    return links


def _matching(noun: Noun, objects: Sequence[Mapping[str, Any]]) -> list[int]:
    wanted = [(key, value) for key, value in zip(("kind", "colour", "size"), noun[:3], strict=True) if value is not None]
    return [i for i, thing in enumerate(objects) if all(thing[key] == value for key, value in wanted)]


def _choices(noun: Noun, objects: Sequence[Mapping[str, Any]]) -> list[frozenset[int]]:
    """The sets of objects that a phrase may stand for."""
    matching = _matching(noun, objects)
    if noun.number is None:
        return [frozenset([i]) for i in matching]
    return [frozenset(matching)] if len(matching) == noun.number else []


def _readings(
    fits: list[list[frozenset[int]]], links: list[Link], group: int | None, scene: Truth, lexicon: Mapping[str, Any]
) -> Iterator[list[frozenset[int]]]:
    """Every choice of objects for phrases that makes the whole caption true."""

    def extend(chosen: list[frozenset[int]], taken: frozenset[int]) -> Iterator[list[frozenset[int]]]:
        if len(chosen) == len(fits):
            if all(_holds(link, chosen, scene, lexicon) for link in links):
                yield chosen
            return
        for objects in fits[len(chosen)]:
            if group is not None and len(chosen) == group:
                yield from extend([*chosen, objects], taken)
            elif not objects & taken and (group is None or objects <= chosen[group]):
                yield from extend([*chosen, objects], taken | objects)

    if fits:
        yield from extend([], frozenset())


def _possible(link: Link, fits: list[list[frozenset[int]]], scene: Truth, lexicon: Mapping[str, Any]) -> bool:
    """Whether some objects make this link true, whatever the rest of the caption says."""
    if link.other is None:
        pairs = [(one, frozenset[int]()) for one in fits[link.subject]]
    else:
        pairs = [(one, other) for one in fits[link.subject] for other in fits[link.other] if not one & other]
    return any(_holds(link._replace(subject=0, other=None if link.other is None else 1), pair, scene, lexicon) for pair in pairs)


def _holds(link: Link, chosen: Sequence[frozenset[int]], scene: Truth, lexicon: Mapping[str, Any]) -> bool:
    if link.other is None:
        return all(_lies(scene["objects"][i], link.says, scene, lexicon) for i in chosen[link.subject])
    return all(_related(i, j, link.says, scene, lexicon) for i in chosen[link.subject] for j in chosen[link.other])


def _related(i: int, j: int, says: str, scene: Truth, lexicon: Mapping[str, Any]) -> bool:
    if says in ("front", "behind"):
        return list((i, j) if says == "front" else (j, i)) in [list(pair) for pair in scene["in_front"]]
    one, other = scene["objects"][i], scene["objects"][j]
    axis = "x" if says in ("left", "right") else "y"
    distance = other[axis] - one[axis]
    return (distance if says in ("left", "above") else -distance) >= lexicon["true_distance"]


def _lies(thing: Mapping[str, Any], says: str, scene: Truth, lexicon: Mapping[str, Any]) -> bool:
    across, down = thing["x"] / scene["width"] - 0.5, thing["y"] / scene["height"] - 0.5
    if says == "middle":
        return max(abs(across), abs(down)) <= lexicon["true_middle"]
    sides = {"left": -across, "right": across, "top": -down, "upper": -down, "bottom": down, "lower": down}
    return all(sides[side] > lexicon["true_place"] for side in says.split())


def _attribute_claims(item: Item, tokens: Sequence[str], objects: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Kind, then colour of that kind, then size of that kind and colour, then the count: each true if an object has all of these."""
    noun: Noun = item.meaning
    said = " ".join(tokens[item.first : item.stop])
    claims = []
    if noun.kind is not None:
        claims.append(Claim("kind", said, bool(_matching(Noun(noun.kind, None, None, None), objects))))
    if noun.colour is not None:
        claims.append(Claim("colour", said, bool(_matching(Noun(noun.kind, noun.colour, None, None), objects))))
    if noun.size is not None:
        claims.append(Claim("size", said, bool(_matching(noun, objects))))
    if noun.number is not None:
        claims.append(Claim("count", said, len(_matching(noun, objects)) == noun.number))
    return claims
