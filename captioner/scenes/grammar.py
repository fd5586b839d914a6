"""True and clear sentences about a scene, and the lexicon that says what their words mean.

A caption names one to three objects by colour and kind, some by size, and adds one more fact: the position of a single object,
the relation of two objects, or how many there are. A fact that is near a threshold is never used.
"""

import random
from collections.abc import Callable
from typing import Any

from captioner.scenes.layout import COLOURS, Scene, SceneObject

KIND_WORDS = {
    "circle": (("circle", 7), ("disc", 3)),
    "square": (("square", 7), ("box", 3)),
    "triangle": (("triangle", 1),),
    "star": (("star", 1),),
    "heart": (("heart", 1),),
    "cross": (("cross", 7), ("plus", 3)),
}
"""The words for a kind, each with its weight."""

SIZE_WORDS = {"small": (("small", 5), ("little", 3), ("tiny", 2)), "large": (("large", 5), ("big", 3), ("huge", 2))}

GENERIC = ("shape", "object")

NUMBERS = {"two": 2, "three": 3, "four": 4}

RELATION_WORDS = {
    "left": (("to the left of", 5), ("left of", 3), ("on the left of", 2)),
    "right": (("to the right of", 5), ("right of", 3), ("on the right of", 2)),
    "above": (("above", 7), ("over", 3)),
    "below": (("below", 6), ("under", 3), ("beneath", 1)),
    "front": (("in front of", 6), ("partly covering", 4)),
    "behind": (("behind", 6), ("partly hidden by", 4)),
}

POSITION_WORDS = {
    "upper left": (("in the upper left", 5), ("in the top left", 5)),
    "upper right": (("in the upper right", 5), ("in the top right", 5)),
    "lower left": (("in the lower left", 5), ("in the bottom left", 5)),
    "lower right": (("in the lower right", 5), ("in the bottom right", 5)),
    "left": (("on the left", 6), ("on the left side", 4)),
    "right": (("on the right", 6), ("on the right side", 4)),
    "top": (("in the upper half", 6), ("in the top half", 4)),
    "bottom": (("in the lower half", 6), ("in the bottom half", 4)),
    "middle": (("in the middle", 6), ("in the centre", 4)),
}

CLEAR_DISTANCE, TRUE_DISTANCE = 12.0, 5.0
"""A caption says left or above when centres are this many pixels apart; the checker accepts it from the smaller distance on."""

CLEAR_SLANT = 1.25
"""The distance along the named axis is at least so many times the other one."""

CLEAR_PLACE, TRUE_PLACE = 0.1, 0.0
"""A caption says that an object is on the left or at the top when it is this share of the image away from the middle line; the
checker accepts it from the smaller share on."""

CLEAR_MIDDLE, TRUE_MIDDLE = 0.1, 0.2
"""A caption says `in the middle` within this share of the image from its middle, on both axes; the checker accepts the larger."""

ATTEMPTS = 50
"""Sentence frames drawn before a scene is given up, as one that cannot be described clearly."""


def plural(noun: str) -> str:
    return noun + "es" if noun.endswith(("s", "x")) else noun + "s"


def lexicon() -> dict[str, Any]:
    """What a reader of captions needs: the meaning of each word and phrase, and the distances from which relations hold."""
    kinds = {word: kind for kind, words in KIND_WORDS.items() for word, _ in words}
    return {
        "kinds": kinds,
        "kind_plurals": {plural(word): kind for word, kind in kinds.items()},
        "generic": list(GENERIC),
        "generic_plurals": [plural(word) for word in GENERIC],
        "colours": {colour: colour for colour in COLOURS},
        "sizes": {word: size for size, words in SIZE_WORDS.items() for word, _ in words},
        "numbers": dict(NUMBERS),
        "relations": {phrase: relation for relation, phrases in RELATION_WORDS.items() for phrase, _ in phrases},
        "positions": {phrase: place for place, phrases in POSITION_WORDS.items() for phrase, _ in phrases},
        "determiners": ["a", "an", "another"],
        "openers": ["there is", "there are", "we see"],
        "copulas": ["is", "are", "sits", "lies"],
        "including": ["including", "one of them", "among them"],
        "true_distance": TRUE_DISTANCE,
        "true_place": TRUE_PLACE,
        "true_middle": TRUE_MIDDLE,
    }


def choose_word(rng: random.Random, choices: tuple[tuple[str, int], ...]) -> str:
    return rng.choices([word for word, _ in choices], [weight for _, weight in choices])[0]


def object_phrase(rng: random.Random, item: SceneObject, sized: bool, article: str = "a") -> str:
    """A singular phrase: `a small red circle`."""
    words = [item.colour, choose_word(rng, KIND_WORDS[item.kind])]
    if sized:
        words.insert(0, choose_word(rng, SIZE_WORDS[item.size]))
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join([article, *words])


def pair_phrases(rng: random.Random, one: SceneObject, other: SceneObject, sized: tuple[bool, bool]) -> tuple[str, str]:
    """Phrases for two objects; where both have the same meaning, the second begins with `another`."""

    def meaning(item: SceneObject, with_size: bool) -> tuple[str, ...]:
        return (item.kind, item.colour, item.size) if with_size else (item.kind, item.colour)

    same = meaning(one, sized[0]) == meaning(other, sized[1]) or meaning(one, False) == meaning(other, sized[1])
    return object_phrase(rng, one, sized[0]), object_phrase(rng, other, sized[1], "another" if same else "a")


def clear_position(item: SceneObject, image_size: int) -> str:
    """The position of an object in the image; the four sides are used where no corner is clear."""
    across, down = item.x / image_size - 0.5, item.y / image_size - 0.5
    if max(abs(across), abs(down)) <= CLEAR_MIDDLE:
        return "middle"
    if min(abs(across), abs(down)) >= CLEAR_PLACE:
        return f"{'upper' if down < 0 else 'lower'} {'left' if across < 0 else 'right'}"
    if abs(across) > abs(down):
        return "left" if across < 0 else "right"
    return "top" if down < 0 else "bottom"


def clear_relation(scene: Scene, i: int, j: int) -> str | None:
    """A clear relation of object i to object j; None where there is none."""
    if (i, j) in scene.in_front:
        return "front"
    if (j, i) in scene.in_front:
        return "behind"
    dx, dy = scene.objects[j].x - scene.objects[i].x, scene.objects[j].y - scene.objects[i].y
    if abs(dx) >= CLEAR_DISTANCE and abs(dx) >= CLEAR_SLANT * abs(dy):
        return "left" if dx > 0 else "right"
    if abs(dy) >= CLEAR_DISTANCE and abs(dy) >= CLEAR_SLANT * abs(dx):
        return "above" if dy > 0 else "below"
    return None


def naming_order(rng: random.Random, scene: Scene) -> list[int]:
    """The objects in an order in which a person might name them: large ones tend to come first."""
    return sorted(range(len(scene.objects)), key=lambda i: rng.random() - (0.5 if scene.objects[i].size == "large" else 0.0))


def write_caption(rng: random.Random, scene: Scene, image_size: int) -> str | None:
    """One sentence; frames are drawn until the scene allows one. None where no frame seems to fit."""
    if len(scene.objects) == 1:
        return _single_object_caption(rng, scene, image_size) + " ."
    frames: list[Callable[[random.Random, Scene], str | None]] = [_relation_caption, _list_caption, _count_caption]
    for _ in range(ATTEMPTS):
        sentence = rng.choices(frames, (60, 20, 20))[0](rng, scene)
        if sentence is not None:
            return sentence + " ."
    return None


def _single_object_caption(rng: random.Random, scene: Scene, image_size: int) -> str:
    item = scene.objects[0]
    noun = object_phrase(rng, item, sized=True)
    where = choose_word(rng, POSITION_WORDS[clear_position(item, image_size)])
    frames = ("{noun} {where}", "there is {noun} {where}", "{noun} is {where}", "{where} there is {noun}", "{where} is {noun}")
    return rng.choices(frames, (4, 4, 3, 2, 1))[0].format(noun=noun, where=where)


def _relation_caption(rng: random.Random, scene: Scene) -> str | None:
    i, j = naming_order(rng, scene)[:2]
    relation = clear_relation(scene, i, j)
    if relation is None:
        return None
    one, other = pair_phrases(rng, scene.objects[i], scene.objects[j], (rng.random() < 0.5, rng.random() < 0.25))
    frames = ["{one} {how} {other}", "{one} is {how} {other}", "there is {one} {how} {other}"]
    weights = [4, 4, 4]
    if relation not in ("front", "behind"):
        frames += ["{one} {verb} {how} {other}", *(["{how} {other} is {one}"] if "another" not in other else [])]
        weights += [1] * (len(frames) - len(weights))
    frame = rng.choices(frames, weights)[0]
    return frame.format(one=one, other=other, how=choose_word(rng, RELATION_WORDS[relation]), verb=rng.choice(("sits", "lies")))


def _list_caption(rng: random.Random, scene: Scene) -> str | None:
    chosen = naming_order(rng, scene)[:3]
    objects = [scene.objects[i] for i in chosen]
    opening = "there is " if rng.random() < 0.4 else ""
    if len(objects) == 2:
        return opening + "{} and {}".format(*pair_phrases(rng, objects[0], objects[1], (True, True)))
    if len({(item.kind, item.colour) for item in objects}) < 3:
        return None
    names = [object_phrase(rng, item, sized=False) for item in objects]
    return opening + "{} , {} and {}".format(*names)


def _count_caption(rng: random.Random, scene: Scene) -> str | None:
    """How many objects there are of some kind, of some colour, of both or in total, with one or two of them named."""
    objects = scene.objects
    first = objects[naming_order(rng, scene)[0]]
    by = rng.choices(("kind and colour", "kind", "colour", "all"), (5, 3, 2, 3))[0]
    group = [o for o in objects if (o.kind == first.kind or "kind" not in by) and (o.colour == first.colour or "colour" not in by)]
    others = [o for o in objects if o not in group]
    if len(group) < 2 or (by != "all" and not others):
        return None
    noun = choose_word(rng, KIND_WORDS[first.kind]) if "kind" in by else rng.choice(GENERIC)
    number = next(word for word, value in NUMBERS.items() if value == len(group))
    count = " ".join([number, *([first.colour] if "colour" in by else []), plural(noun)])
    opening = "there are " if rng.random() < 0.5 else ""
    if by != "all":
        return f"{opening}{count} and {object_phrase(rng, rng.choice(others), sized=rng.random() < 0.7)}"
    if len(objects) == 2:
        return f"{opening}{count} , one of them {object_phrase(rng, first, sized=True)}"
    one, other = pair_phrases(rng, first, rng.choice([o for o in objects if o is not first]), (False, False))
    return f"{opening}{count} including {one} and {other}"
