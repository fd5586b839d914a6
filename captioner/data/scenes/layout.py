"""What is in a scene and where: attributes, places, who covers whom. No pixels are coloured here."""

import random
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from captioner.data.scenes.shapes import coverage, patch_side

KINDS = ("circle", "square", "triangle", "star", "heart", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = {"small": (13.4, 15.0), "large": (22.0, 24.5)}
"""Side of the upright object's box, in pixels: never within 7 px of the other size."""

TILTS = {"circle": 0.0, "square": 7.0, "triangle": 10.0, "star": 36.0, "heart": 12.0, "cross": 12.0}
"""Largest turn either way, in degrees: none makes one kind look like another."""

COUNT_WEIGHTS = (15, 35, 30, 20)
"""How often a scene holds one, two, three, four objects, in percent."""

BORDER, GAP = 2.0, 3.0
"""Least distance of a box from the image's edge, and of two boxes that do not overlap, in pixels."""

LEAST_VISIBLE, LEAST_HIDDEN, LEAST_SIDE = 0.65, 0.08, 12
"""A covered object shows at least this share and hides at least that share; every visible box is at least so many pixels a side."""

COVERS, PLACINGS, TRIES = 0.4, 60, 40
"""How often one of several objects covers part of another; how often a scene is laid out anew, and an object, before giving up."""

HELD_FOR_VAL = 8
"""One in so many scene keys belongs to val; train never draws those, so the two never share a scene."""


class Thing(NamedTuple):
    """One object; `x`, `y` the centre and `side` of its upright box in pixels, `tilt` in degrees."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    side: float
    tilt: float


class Scene(NamedTuple):
    things: list[Thing]
    """Back to front."""
    masks: Bool[np.ndarray, "objects height width"]
    """Visible pixels."""
    in_front: list[tuple[int, int]]
    """(i, j): object i covers part of object j."""


def unseen_combinations(seed: int) -> frozenset[tuple[str, str]]:
    """The (kind, colour) pairs that only test shows: each colour loses one kind, each kind one or two colours of eight."""
    rng = random.Random(f"unseen/{seed}")
    kinds, colours = list(KINDS), list(COLOURS)
    rng.shuffle(kinds)
    rng.shuffle(colours)
    return frozenset((kinds[i % len(kinds)], colour) for i, colour in enumerate(colours))


def scene_key(things: Sequence[Thing]) -> str:
    """Scenes with equal keys count as the same scene: objects by kind, colour, size and place on a grid of 4 px."""
    return ";".join(sorted(f"{t.kind} {t.colour} {t.size} {int(t.x) // 4} {int(t.y) // 4}" for t in things))


def belongs_to_val(things: Sequence[Thing]) -> bool:
    return zlib.crc32(scene_key(things).encode()) % HELD_FOR_VAL == 0


def sample_scene(rng: random.Random, split: str, unseen: frozenset[tuple[str, str]], image_size: int) -> Scene:
    """A scene of the split: test shows at least one unseen combination; train and val show none and share no scene."""
    while True:
        looks = _looks(rng, split, unseen)
        top = rng.randrange(1, len(looks)) if len(looks) > 1 and rng.random() < COVERS else None
        for _ in range(PLACINGS):
            things = _place(rng, looks, top, image_size)
            if not things or (split != "test" and belongs_to_val(things) != (split == "val")):
                continue
            scene = _cover(things, image_size)
            if scene is not None:
                return scene


def _looks(rng: random.Random, split: str, unseen: frozenset[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """(kind, colour, size) of each object; now and then one repeats another's kind and colour, so that there is something to count."""
    number = rng.choices((1, 2, 3, 4), COUNT_WEIGHTS)[0]
    pairs: list[tuple[str, str]] = [rng.choice(sorted(unseen))] if split == "test" else []
    while len(pairs) < number:
        if pairs and rng.random() < 0.2:
            pairs.append(rng.choice(pairs))
            continue
        pair = (rng.choice(KINDS), rng.choice(COLOURS))
        if split == "test" or pair not in unseen:
            pairs.append(pair)
    rng.shuffle(pairs)
    return [(kind, colour, rng.choice(("small", "large"))) for kind, colour in pairs]


def _place(rng: random.Random, looks: list[tuple[str, str, str]], top: int | None, image_size: int) -> list[Thing]:
    """Find room for every object, object `top` over the edge of one before it; empty when the tries run out."""
    things: list[Thing] = []
    partner = -1
    for i, (kind, colour, size) in enumerate(looks):
        side, tilt = rng.uniform(*SIZES[size]), rng.uniform(-1, 1) * TILTS[kind]
        if i == top:
            below = [j for j in range(i) if things[j].colour != colour]
            partner = rng.choice(below) if below else -1
        for _ in range(TRIES):
            if i == top and partner >= 0:
                x, y = _beside(rng, things[partner], side)
            else:
                x, y = (rng.uniform(BORDER + side / 2, image_size - BORDER - side / 2) for _ in "xy")
            thing = Thing(kind, colour, size, x, y, side, tilt)
            if _inside(thing, image_size) and all(_apart(thing, o) for j, o in enumerate(things) if i != top or j != partner):
                break
        else:
            return []
        things.append(thing)
    return things


def _beside(rng: random.Random, under: Thing, side: float) -> tuple[float, float]:
    """A centre near enough to `under` that boxes overlap a little."""
    reach = (under.side + side) / 2
    along, across = reach * rng.uniform(0.55, 0.9), reach * rng.uniform(-0.7, 0.7)
    if rng.random() < 0.5:
        along = -along
    dx, dy = (along, across) if rng.random() < 0.5 else (across, along)
    return under.x + dx, under.y + dy


def _inside(thing: Thing, image_size: int) -> bool:
    least = BORDER + thing.side / 2
    return least <= thing.x <= image_size - least and least <= thing.y <= image_size - least


def _apart(one: Thing, other: Thing) -> bool:
    return max(abs(one.x - other.x), abs(one.y - other.y)) >= (one.side + other.side) / 2 + GAP


def window(thing: Thing, image_size: int) -> tuple[int, int, int]:
    """(left, top, side) of the square of pixels that a thing is drawn in; may reach over the image's edge."""
    side = patch_side(thing.side)
    return round(thing.x - side / 2), round(thing.y - side / 2), side


def _cover(things: list[Thing], image_size: int) -> Scene | None:
    """Work out the visible pixels; None when an object is hidden too much or two boxes meet without covering."""
    full = np.zeros((len(things), image_size, image_size), bool)
    for i, thing in enumerate(things):
        left, top, side = window(thing, image_size)
        patch = coverage(thing.kind, side, thing.x - left, thing.y - top, thing.side, thing.tilt) >= 0.5
        paste(full[i], patch, left, top)
    seen, in_front = full.copy(), []
    for i, thing in enumerate(things):
        for j in range(i):
            if _apart(thing, things[j]):
                continue
            hidden = int((full[i] & full[j]).sum())
            if hidden < LEAST_HIDDEN * int(full[j].sum()):
                return None
            seen[j] &= ~full[i]
            in_front.append((i, j))
    for shown, whole in zip(seen, full, strict=True):
        rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
        if shown.sum() < LEAST_VISIBLE * whole.sum() or min(np.ptp(rows), np.ptp(columns)) + 1 < LEAST_SIDE:
            return None
    return Scene(things, seen, in_front)


def paste(canvas: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Write the part of `patch` that lies on `canvas`."""
    on_canvas, on_patch = overlap(canvas.shape[0], patch.shape[0], left, top)
    canvas[on_canvas] = patch[on_patch]


def overlap(canvas: int, patch: int, left: int, top: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of a square canvas and of a square patch laid on it at (left, top), where the two meet."""
    rows, columns = (slice(max(start, 0), min(start + patch, canvas)) for start in (top, left))
    return (rows, columns), (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
