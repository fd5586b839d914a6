"""Which objects a scene holds and where: attributes, places, which object covers which. No pixel is coloured here."""

import random
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from captioner.scenes.shapes import coverage, patch_side

KINDS = ("circle", "square", "triangle", "star", "heart", "cross")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = {"small": (13.4, 15.0), "large": (22.0, 24.5)}
"""Range of the side of the upright object's box, in pixels; the two sizes differ by at least 7."""

MAX_TILTS = {"circle": 0.0, "square": 7.0, "triangle": 10.0, "star": 36.0, "heart": 12.0, "cross": 12.0}
"""The largest rotation in either direction, in degrees: none makes one kind look like another."""

COUNT_WEIGHTS = (15, 35, 30, 20)
"""How often a scene holds one, two, three or four objects, in percent."""

MIN_BORDER, MIN_GAP = 2.0, 3.0
"""In pixels: the least distance of a box from the image's edge, and of two boxes that do not overlap."""

MIN_VISIBLE, MIN_HIDDEN, MIN_SIDE = 0.65, 0.08, 12
"""At least this share of a covered object is visible, and at least that share is hidden; the side of every visible box in pixels."""

OVERLAP_PROBABILITY = 0.4
"""How often one of several objects covers a part of another."""

LAYOUT_ATTEMPTS, PLACEMENT_ATTEMPTS = 60, 40
"""How often the layout of a scene, and the place of an object in it, is drawn before others are sampled."""

VAL_ONE_IN = 8
"""One in so many scene keys belongs to val, and train never draws those: the two never share a scene."""


class SceneObject(NamedTuple):
    """One object; `x`, `y` the centre and `side` of its upright box in pixels, `tilt` in degrees."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    side: float
    tilt: float


class Scene(NamedTuple):
    objects: list[SceneObject]
    """Back to front."""
    masks: Bool[np.ndarray, "objects height width"]
    """Visible pixels."""
    in_front: list[tuple[int, int]]
    """(i, j): object i covers part of object j."""


def unseen_combinations(seed: int) -> frozenset[tuple[str, str]]:
    """The (kind, colour) pairs that only the test split shows: each colour loses one kind, each kind one or two of eight colours."""
    rng = random.Random(f"unseen/{seed}")
    kinds, colours = list(KINDS), list(COLOURS)
    rng.shuffle(kinds)
    rng.shuffle(colours)
    return frozenset((kinds[i % len(kinds)], colour) for i, colour in enumerate(colours))


def scene_key(objects: Sequence[SceneObject]) -> str:
    """Scenes with equal keys count as the same scene: objects by kind, colour, size and place on a grid of 4 px."""
    return ";".join(sorted(f"{o.kind} {o.colour} {o.size} {int(o.x) // 4} {int(o.y) // 4}" for o in objects))


def belongs_to_val(objects: Sequence[SceneObject]) -> bool:
    return zlib.crc32(scene_key(objects).encode()) % VAL_ONE_IN == 0


def sample_scene(rng: random.Random, split: str, unseen: frozenset[tuple[str, str]], image_size: int) -> Scene:
    """A scene of the split: test shows at least one unseen combination; train and val show none and share no scene."""
    while True:
        attributes = _sample_attributes(rng, split, unseen)
        top = rng.randrange(1, len(attributes)) if len(attributes) > 1 and rng.random() < OVERLAP_PROBABILITY else None
        for _ in range(LAYOUT_ATTEMPTS):
            objects = _place_objects(rng, attributes, top, image_size)
            if not objects or (split != "test" and belongs_to_val(objects) != (split == "val")):
                continue
            scene = _with_visible_masks(objects, image_size)
            if scene is not None:
                return scene


def _sample_attributes(rng: random.Random, split: str, unseen: frozenset[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """(kind, colour, size) of each object; sometimes one repeats another's kind and colour, so that there is something to count."""
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


def _place_objects(rng: random.Random, attributes: list[tuple[str, str, str]], top: int | None, image_size: int) -> list[SceneObject]:
    """Find room for every object, with object `top` over the edge of an earlier one; empty when the attempts run out."""
    objects: list[SceneObject] = []
    partner = -1
    for i, (kind, colour, size) in enumerate(attributes):
        side, tilt = rng.uniform(*SIZES[size]), rng.uniform(-1, 1) * MAX_TILTS[kind]
        if i == top:
            below = [j for j in range(i) if objects[j].colour != colour]
            partner = rng.choice(below) if below else -1
        for _ in range(PLACEMENT_ATTEMPTS):
            if i == top and partner >= 0:
                x, y = _overlapping_centre(rng, objects[partner], side)
            else:
                x, y = (rng.uniform(MIN_BORDER + side / 2, image_size - MIN_BORDER - side / 2) for _ in "xy")
            item = SceneObject(kind, colour, size, x, y, side, tilt)
            if _is_inside(item, image_size) and all(_are_apart(item, o) for j, o in enumerate(objects) if i != top or j != partner):
                break
        else:
            return []
        objects.append(item)
    return objects


def _overlapping_centre(rng: random.Random, under: SceneObject, side: float) -> tuple[float, float]:
    """A centre so near to `under` that the two boxes overlap a little."""
    reach = (under.side + side) / 2
    along, across = reach * rng.uniform(0.55, 0.9), reach * rng.uniform(-0.7, 0.7)
    if rng.random() < 0.5:
        along = -along
    dx, dy = (along, across) if rng.random() < 0.5 else (across, along)
    return under.x + dx, under.y + dy


def _is_inside(item: SceneObject, image_size: int) -> bool:
    margin = MIN_BORDER + item.side / 2
    return margin <= item.x <= image_size - margin and margin <= item.y <= image_size - margin


def _are_apart(one: SceneObject, other: SceneObject) -> bool:
    return max(abs(one.x - other.x), abs(one.y - other.y)) >= (one.side + other.side) / 2 + MIN_GAP


def drawing_square(item: SceneObject, image_size: int) -> tuple[int, int, int]:
    """(left, top, side) of the square of pixels in which an object is drawn; it may reach over the image's edge."""
    side = patch_side(item.side)
    return round(item.x - side / 2), round(item.y - side / 2), side


def _with_visible_masks(objects: list[SceneObject], image_size: int) -> Scene | None:
    """The scene with its visible pixels; None when an object is hidden too much, or two boxes meet and neither object covers the other."""
    full = np.zeros((len(objects), image_size, image_size), bool)
    for i, item in enumerate(objects):
        left, top, side = drawing_square(item, image_size)
        patch = coverage(item.kind, side, item.x - left, item.y - top, item.side, item.tilt) >= 0.5
        paste(full[i], patch, left, top)
    visible, in_front = full.copy(), []
    for i, item in enumerate(objects):
        for j in range(i):
            if _are_apart(item, objects[j]):
                continue
            hidden = int((full[i] & full[j]).sum())
            if hidden < MIN_HIDDEN * int(full[j].sum()):
                return None
            visible[j] &= ~full[i]
            in_front.append((i, j))
    for mask, whole in zip(visible, full, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if mask.sum() < MIN_VISIBLE * whole.sum() or min(np.ptp(rows), np.ptp(columns)) + 1 < MIN_SIDE:
            return None
    return Scene(objects, visible, in_front)


def paste(canvas: np.ndarray, patch: np.ndarray, left: int, top: int) -> None:
    """Write the part of `patch` that lies on `canvas`."""
    on_canvas, on_patch = overlap(canvas.shape[0], patch.shape[0], left, top)
    canvas[on_canvas] = patch[on_patch]


def overlap(canvas: int, patch: int, left: int, top: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of a square canvas and of a square patch on it, with its corner at (left, top), where the two meet."""
    rows, columns = (slice(max(start, 0), min(start + patch, canvas)) for start in (top, left))
    return (rows, columns), (slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left))
