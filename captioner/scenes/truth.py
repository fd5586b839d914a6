"""Is a caption true of its drawn scene? The lexicon beside the drawn truth says what the words mean."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captioner.errors import InputError
from captioner.json_files import read_json
from captioner.scenes.parsing import SENTENCE, Description, Lexicon, Link, Phrase, links, parse
from captioner.tokenizer import tokenize

Truth = Mapping[str, Any]
"""{"width", "height", "objects": [{"kind", "colour", "size", "x", "y"}, ...], "in_front": [[i, j], ...]}, centres in pixels."""
Choice = frozenset[int]
"""The objects that one phrase stands for in one reading."""


class Claim(NamedTuple):
    """One fact that a caption states, and whether it is true by itself."""

    about: str
    """kind, colour, size, count, relation or position"""
    text: str
    true: bool


class Mention(NamedTuple):
    """An object phrase; words are counted in the caption's tokens."""

    word_index: int
    """Of its noun."""
    first: int
    """Of the phrase's first word."""
    objects: list[int]
    """What it may name: in a true caption, every object that it names in some reading; otherwise every object that its words
    describe."""
    generic: bool
    """The noun names no kind: `three shapes`."""


class Verdict(NamedTuple):
    true: bool
    claims: list[Claim]
    mentions: list[Mention]


def caption_truth(caption: str, scene: Truth, lexicon: Lexicon) -> Verdict:
    """Compare every object, colour, size, count, relation and position word of a caption with the scene.

    A caption is true when all of this holds:
    every word belongs to the lexicon, and the words form a sentence (`parsing.SENTENCE`); and there is a reading, that is a choice
    of objects for phrases, in which
    - `a small red circle` is one object with all these attributes, and `two red circles` are all such objects and exactly two;
    - different phrases are different objects, but those after `including` are among the objects counted before it;
    - relations and positions hold of the chosen objects (of each, where the phrase is plural). Left, right, above and below compare
      centres and need `true_distance` pixels; in front and behind need an overlap; left, right, top and bottom of the image are
      halves (of the centre), corners are two halves, and the middle is within `true_middle` of the image's size on both axes.
    So a caption without any claim, with an unknown or a superfluous word, or without its end is not true.

    A claim's own `true` asks only whether some choice of objects makes that one claim true, so that a reader sees which failed.
    """
    tokens = tokenize(caption)
    phrases = parse(tokens, lexicon)
    nouns = [phrase for phrase in phrases if phrase.letter in "NG"]
    objects = scene["objects"]
    choices = [_choices(noun.meaning, objects) for noun in nouns]
    is_sentence = SENTENCE.fullmatch("".join(phrase.letter for phrase in phrases)) is not None
    related = links(phrases, nouns) if is_sentence else []
    group = 0 if any(phrase.letter == "G" for phrase in nouns) else None
    readings = list(_readings(choices, related, group, scene, lexicon)) if is_sentence else []
    claims = [claim for noun in nouns for claim in _attribute_claims(noun, tokens, objects)]
    for link in related:
        text = " ".join(tokens[link.first : link.stop])
        claims.append(Claim("position" if link.other is None else "relation", text, _is_possible(link, choices, scene, lexicon)))
    return Verdict(bool(readings) and bool(claims), claims, list(_mentions(nouns, readings, objects)))


def _mentions(nouns: Sequence[Phrase], readings: Sequence[Sequence[Choice]], objects: Sequence[Mapping[str, Any]]) -> Iterator[Mention]:
    for i, noun in enumerate(nouns):
        chosen = {index for reading in readings for index in reading[i]}
        yield Mention(noun.stop - 1, noun.first, sorted(chosen or _matching(noun.meaning, objects)), noun.meaning.kind is None)


def truth_share(captions: Mapping[int, str], scenes: Mapping[int, Truth], lexicon: Lexicon) -> dict[str, float]:
    """Over image ids: `true`, the share of captions that are true of their scene; `claims`, the mean number of claims per caption;
    `true_kind`, `true_colour`, ... the share of claims of each sort that are true by themselves; `captions`, their number.

    Raises: InputError, an image without a scene.
    """
    true, claims, true_claims = 0, Counter[str](), Counter[str]()
    for image_id, caption in captions.items():
        if image_id not in scenes:
            raise InputError(f"image_id {image_id} has a caption but no drawn scene; captions and scenes must be of one split")
        verdict = caption_truth(caption, scenes[image_id], lexicon)
        true += verdict.true
        claims.update(claim.about for claim in verdict.claims)
        true_claims.update(claim.about for claim in verdict.claims if claim.true)
    total = max(len(captions), 1)
    shares = {f"true_{about}": true_claims[about] / number for about, number in sorted(claims.items())}
    return {"true": true / total, "claims": claims.total() / total, **shares, "captions": float(len(captions))}


def read_scenes(path: Path) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """The lexicon and the scenes by image id of a `scenes_*.json`. Raises: InputError, the file is missing or something else."""
    record = read_json(path, "drawn scenes")
    if not isinstance(record, dict) or not {"lexicon", "scenes"} <= record.keys():
        raise InputError(f"{path}: expected drawn scenes with `lexicon` and `scenes`; draw the data set again")
    return record["lexicon"], {int(image_id): scene for image_id, scene in record["scenes"].items()}


def names_in_scenes(path: Path) -> Callable[[int, Sequence[str]], list[tuple[int, int, str, list[int]]]]:
    """(image id, tokens of a caption) -> for each object phrase (its first word, the word after its noun, kind, objects that it may name).

    Phrases that name no kind (`three shapes`) are left out. Raises: InputError, as `read_scenes`.
    """
    lexicon, truths = read_scenes(path)
    kinds = {**lexicon["kinds"], **lexicon["kind_plurals"]}

    def names(image_id: int, tokens: Sequence[str]) -> list[tuple[int, int, str, list[int]]]:
        mentions = caption_truth(" ".join(tokens), truths[image_id], lexicon).mentions
        return [(m.first, m.word_index + 1, kinds[tokens[m.word_index]], m.objects) for m in mentions if not m.generic]

    return names


def _matching(description: Description, objects: Sequence[Mapping[str, Any]]) -> list[int]:
    """The objects with these attributes."""
    attributes = [(key, value) for key in ("kind", "colour", "size") if (value := getattr(description, key)) is not None]
    return [i for i, item in enumerate(objects) if all(item[key] == value for key, value in attributes)]


def _choices(description: Description, objects: Sequence[Mapping[str, Any]]) -> list[Choice]:
    """The sets of objects that a phrase may stand for."""
    matching = _matching(description, objects)
    if description.number is None:
        return [frozenset([i]) for i in matching]
    return [frozenset(matching)] if len(matching) == description.number else []


def _readings(
    choices: list[list[Choice]], related: list[Link], group: int | None, scene: Truth, lexicon: Lexicon
) -> Iterator[list[Choice]]:
    """Every choice of objects for phrases that makes the whole caption true; `group` is the phrase before `including`."""

    def extend(chosen: list[Choice], used: Choice) -> Iterator[list[Choice]]:
        if len(chosen) == len(choices):
            if all(_holds(link, chosen, scene, lexicon) for link in related):
                yield chosen
            return
        for objects in choices[len(chosen)]:
            if group is not None and len(chosen) == group:
                yield from extend([*chosen, objects], used)
            elif not objects & used and (group is None or objects <= chosen[group]):
                yield from extend([*chosen, objects], used | objects)

    if choices:
        yield from extend([], frozenset())


def _is_possible(link: Link, choices: list[list[Choice]], scene: Truth, lexicon: Lexicon) -> bool:
    """Whether some objects make this link true, whatever else the caption says."""
    if link.other is None:
        pairs = [(one, frozenset[int]()) for one in choices[link.subject]]
    else:
        pairs = [(one, other) for one in choices[link.subject] for other in choices[link.other] if not one & other]
    return any(_holds(link._replace(subject=0, other=None if link.other is None else 1), pair, scene, lexicon) for pair in pairs)


def _holds(link: Link, chosen: Sequence[Choice], scene: Truth, lexicon: Lexicon) -> bool:
    if link.other is None:
        return all(_has_position(scene["objects"][i], link.meaning, scene, lexicon) for i in chosen[link.subject])
    return all(_are_related(i, j, link.meaning, scene, lexicon) for i in chosen[link.subject] for j in chosen[link.other])


def _are_related(i: int, j: int, relation: str, scene: Truth, lexicon: Lexicon) -> bool:
    if relation in ("front", "behind"):
        return list((i, j) if relation == "front" else (j, i)) in [list(pair) for pair in scene["in_front"]]
    one, other = scene["objects"][i], scene["objects"][j]
    axis = "x" if relation in ("left", "right") else "y"
    distance = other[axis] - one[axis]
    return (distance if relation in ("left", "above") else -distance) >= lexicon["true_distance"]


def _has_position(item: Mapping[str, Any], position: str, scene: Truth, lexicon: Lexicon) -> bool:
    across, down = item["x"] / scene["width"] - 0.5, item["y"] / scene["height"] - 0.5
    if position == "middle":
        return max(abs(across), abs(down)) <= lexicon["true_middle"]
    sides = {"left": -across, "right": across, "top": -down, "upper": -down, "bottom": down, "lower": down}
    return all(sides[side] > lexicon["true_place"] for side in position.split())


def _attribute_claims(noun: Phrase, tokens: Sequence[str], objects: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Kind, then colour of that kind, then size of that kind and colour, then the count: each is true if an object has all of these."""
    kind, colour, size, number = noun.meaning
    text = " ".join(tokens[noun.first : noun.stop])
    steps = [("kind", kind, (kind, None, None)), ("colour", colour, (kind, colour, None)), ("size", size, (kind, colour, size))]
    claims = [Claim(about, text, bool(_matching(Description(*known), objects))) for about, value, known in steps if value is not None]
    if number is not None:
        claims.append(Claim("count", text, len(_matching(noun.meaning, objects)) == number))
    return claims
