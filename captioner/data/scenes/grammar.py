"""Sentences about a scene, all of them true and clear, and the lexicon that says what their words mean.

A caption names one to three objects by colour and kind, some by size, and says one thing more: where an only object lies, how
two objects lie to each other, or how many there are. What is near a threshold is never said.
"""

import random
from collections.abc import Callable
from typing import Any

from captioner.data.scenes.layout import COLOURS, Scene, Thing

KIND_WORDS = {
    "circle": (("circle", 7), ("disc", 3)),
    "square": (("square", 7), ("box", 3)),
    "triangle": (("triangle", 1),),
    "star": (("star", 1),),
    "heart": (("heart", 1),),
    "cross": (("cross", 7), ("plus", 3)),
}
"""The words for a kind and how often each is taken."""

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
"""Centres this far apart (pixels) are said to lie left or above; a checker accepts it from the lesser distance on."""

CLEAR_SLANT = 1.25
"""And the distance named is so many times the other one."""

CLEAR_PLACE, TRUE_PLACE = 0.1, 0.0
"""An object is said to lie left or at the top from this share of the image off its middle line; accepted from the lesser on."""

CLEAR_MIDDLE, TRUE_MIDDLE = 0.1, 0.2
"""`In the middle` is said within this share of the image from its middle, on both axes; accepted within the greater."""


TRIES = 50
"""Frames drawn before a scene is given up as one that cannot be described clearly."""


def plural(noun: str) -> str:
    return noun + "es" if noun.endswith(("s", "x")) else noun + "s"


def lexicon() -> dict[str, Any]:
    """What a reader of captions needs: words and phrases by what they mean, and the distances from which relations hold."""
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


def pick(rng: random.Random, choices: tuple[tuple[str, int], ...]) -> str:
    return rng.choices([word for word, _ in choices], [weight for _, weight in choices])[0]


def name(rng: random.Random, thing: Thing, sized: bool, article: str = "a") -> str:
    """A singular phrase: `a small red circle`."""
    words = [thing.colour, pick(rng, KIND_WORDS[thing.kind])]
    if sized:
        words.insert(0, pick(rng, SIZE_WORDS[thing.size]))
    if article == "a" and words[0][0] in "aeiou":
        article = "an"
    return " ".join([article, *words])


def pair_names(rng: random.Random, one: Thing, other: Thing, sized: tuple[bool, bool]) -> tuple[str, str]:
    """Phrases for two objects; where both phrases mean the same, the second says `another`."""

    def meaning(thing: Thing, with_size: bool) -> tuple[str, ...]:
        return (thing.kind, thing.colour, thing.size) if with_size else (thing.kind, thing.colour)

    same = meaning(one, sized[0]) == meaning(other, sized[1]) or meaning(one, False) == meaning(other, sized[1])
    return name(rng, one, sized[0]), name(rng, other, sized[1], "another" if same else "a")


def place(thing: Thing, image_size: int) -> str | None:
    """The clear position of an object in the image; None where there is none."""
    across, down = thing.x / image_size - 0.5, thing.y / image_size - 0.5
    if max(abs(across), abs(down)) <= CLEAR_MIDDLE:
        return "middle"
    if min(abs(across), abs(down)) >= CLEAR_PLACE:
        return f"{'upper' if down < 0 else 'lower'} {'left' if across < 0 else 'right'}"
    if abs(across) > abs(down):
        return "left" if across < 0 else "right"
    return "top" if down < 0 else "bottom"


def relation(rng: random.Random, scene: Scene, i: int, j: int) -> str | None:
    """A clear relation of object i to object j; None where there is none."""
    if (i, j) in scene.in_front:
        return "front"
    if (j, i) in scene.in_front:
        return "behind"
    dx, dy = scene.things[j].x - scene.things[i].x, scene.things[j].y - scene.things[i].y
    if abs(dx) >= CLEAR_DISTANCE and abs(dx) >= CLEAR_SLANT * abs(dy):
        return "left" if dx > 0 else "right"
    if abs(dy) >= CLEAR_DISTANCE and abs(dy) >= CLEAR_SLANT * abs(dx):
        return "above" if dy > 0 else "below"
    return None


def order(rng: random.Random, scene: Scene) -> list[int]:
    """The objects in an order in which someone might name them: large ones sooner."""
    return sorted(range(len(scene.things)), key=lambda i: rng.random() - (0.5 if scene.things[i].size == "large" else 0.0))


def caption(rng: random.Random, scene: Scene, image_size: int) -> str | None:
    """One sentence; the frame is drawn anew until the scene allows it. None where no frame seems to fit."""
    if len(scene.things) == 1:
        return _alone(rng, scene, image_size) + " ."
    frames: list[Callable[[random.Random, Scene], str | None]] = [_related, _listed, _counted]
    for _ in range(TRIES):
        sentence = rng.choices(frames, (60, 20, 20))[0](rng, scene)
        if sentence is not None:
            return sentence + " ."
    return None


def _alone(rng: random.Random, scene: Scene, image_size: int) -> str:
    thing = scene.things[0]
    noun = name(rng, thing, sized=True)
    where = pick(rng, POSITION_WORDS[place(thing, image_size) or "middle"])
    frames = ("{noun} {where}", "there is {noun} {where}", "{noun} is {where}", "{where} there is {noun}", "{where} is {noun}")
    return rng.choices(frames, (4, 4, 3, 2, 1))[0].format(noun=noun, where=where)


def _related(rng: random.Random, scene: Scene) -> str | None:
    i, j = order(rng, scene)[:2]
    how = relation(rng, scene, i, j)
    if how is None:
        return None
    one, other = pair_names(rng, scene.things[i], scene.things[j], (rng.random() < 0.5, rng.random() < 0.25))
    frames = ["{one} {how} {other}", "{one} is {how} {other}", "there is {one} {how} {other}"]
    weights = [4, 4, 4]
    if how not in ("front", "behind"):
        frames += ["{one} {verb} {how} {other}", *(["{how} {other} is {one}"] if "another" not in other else [])]
        weights += [1] * (len(frames) - len(weights))
    frame = rng.choices(frames, weights)[0]
    return frame.format(one=one, other=other, how=pick(rng, RELATION_WORDS[how]), verb=rng.choice(("sits", "lies")))


def _listed(rng: random.Random, scene: Scene) -> str | None:
    chosen = order(rng, scene)[:3]
    things = [scene.things[i] for i in chosen]
    opening = "there is " if rng.random() < 0.4 else ""
    if len(things) == 2:
        return opening + "{} and {}".format(*pair_names(rng, things[0], things[1], (True, True)))
    if len({(thing.kind, thing.colour) for thing in things}) < 3:
        return None
    names = [name(rng, thing, sized=False) for thing in things]
    return opening + "{} , {} and {}".format(*names)


def _counted(rng: random.Random, scene: Scene) -> str | None:
    """How many there are of some kind, of some colour, of both, or in all, and an object or two by name."""
    things = scene.things
    first = things[order(rng, scene)[0]]
    by = rng.choices(("kind and colour", "kind", "colour", "all"), (5, 3, 2, 3))[0]
    group = [t for t in things if (t.kind == first.kind or "kind" not in by) and (t.colour == first.colour or "colour" not in by)]
    others = [t for t in things if t not in group]
    if len(group) < 2 or (by != "all" and not others):
        return None
    noun = pick(rng, KIND_WORDS[first.kind]) if "kind" in by else rng.choice(GENERIC)
    number = next(word for word, value in NUMBERS.items() if value == len(group))
    count = " ".join([number, *([first.colour] if "colour" in by else []), plural(noun)])
    opening = "there are " if rng.random() < 0.5 else ""
    if by != "all":
        return f"{opening}{count} and {name(rng, rng.choice(others), sized=rng.random() < 0.7)}"
    if len(things) == 2:
        return f"{opening}{count} , one of them {name(rng, first, sized=True)}"
    one, other = pair_names(rng, first, rng.choice([t for t in things if t is not first]), (False, False))
    return f"{opening}{count} including {one} and {other}"
