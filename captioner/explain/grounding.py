"""Do maps of object words lie on the objects? Pointing, attention correctness and localisation, each beside maps that know nothing."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from captioner.box import Box
from captioner.data.instances import Instance
from captioner.errors import ArgumentError, InputError
from captioner.explain.components import largest_boxes
from captioner.maps.pointing import inside
from captioner.metrics.bootstrap import intervals
from captioner.metrics.statistics import ImageStatistics
from captioner.progress import progress

MEASURES = ("pointing_box", "pointing_mask", "correctness", "correctness_noun", "iou", "localised")
METHODS = ("map", "uniform", "centre", "shuffled")
CANDIDATES = np.array([0.01, 0.02, 0.03, *np.linspace(0.05, 0.95, 19)])
FINEST_SIDE = 128
"""Most pixels a side at which components are sought; a photo's box is exact to one part in so many of its longer side."""
MINIMUM_WORDS = 5
"""Training words from which a class chooses its own threshold."""


class Word(NamedTuple):
    """A phrase of a caption that names objects of the image, and the maps of its words."""

    image: Any
    category: str
    objects: tuple[int, ...]
    """Which of the image's objects it may name."""
    maps: Float32[np.ndarray, "words rows cols"]
    """Of each word of the phrase, the noun's the last."""


class Place(NamedTuple):
    """An image's objects, and what the model sees of it."""

    width: int
    height: int
    box: Box
    """(left, top, right, bottom) in original pixels."""
    things: Sequence[Instance]

    def check(self) -> "Place":
        """Raises: InputError, a mask was drawn for an image of another size (`on_photo` scales those of the same shape)."""
        for thing in self.things:
            size = thing.segmentation["size"] if isinstance(thing.segmentation, dict) else [self.height, self.width]
            if list(size) != [self.height, self.width]:
                told = f"{size[1]} x {size[0]} pixels, the image has {self.width} x {self.height}"
                raise InputError(f"the mask of a {thing.category} has {told}; give the images that the instances file describes")
        return self


class Target(NamedTuple):
    """What a phrase names, on the pixels that the model sees."""

    in_box: Bool[np.ndarray, "height width"]
    in_mask: Bool[np.ndarray, "height width"] | None
    """None where one of the objects has no mask."""
    boxes: Float[np.ndarray, "objects 4"]
    """(left, top, right, bottom) of the whole objects, from the corner of what is seen."""


class Thresholds(NamedTuple):
    """The shares of a map's highest pixel at which it is cut for localisation: a class's own, or that of all."""

    by_class: Mapping[str, float]
    common: float

    def of(self, category: str) -> float:
        return self.by_class.get(category, self.common)


def target_of(place: Place, objects: Sequence[int]) -> Target:
    """Pixels count by their centres."""
    left, top, right, bottom = (round(edge) for edge in place.box)
    things = [place.things[index] for index in objects]
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
    in_mask = np.zeros((len(y), len(x)), bool) if all(thing.drawn for thing in things) else None
    for thing in things if in_mask is not None else ():
        in_mask |= thing.mask(place.height, place.width)[top:bottom, left:right]
    corners = np.array([[x0 - left, y0 - top, x0 + w - left, y0 + h - top] for x0, y0, w, h in (thing.box for thing in things)])
    return Target(inside(x, y, [thing.box for thing in things]), in_mask, corners.reshape(-1, 4).astype(float))


def score_words(
    words: Sequence[Word], places: Mapping[Any, Place], thresholds: Thresholds, centre_thresholds: Thresholds, seed: int = 0
) -> Float[np.ndarray, "words methods measures"]:
    """Every measure of every word, by its own map and by maps that know nothing of the image (METHODS):

    uniform, the same everywhere; centre, a Gaussian around the middle of what the model sees, with a quarter of each side as its
    deviation; shuffled, the maps of a phrase of the same class of another image (of any class where there is none, nan with one image).

    pointing_box, pointing_mask: whether the centre of the noun's highest cell is in a box, in a mask, of an object that the phrase may
    name; of equally high cells the share. pointing_mask is nan where one of these objects has no mask. correctness: the share of a map
    inside the boxes, of the phrase's best word; correctness_noun: of its noun. For this the map is resized to the pixels that the model
    sees by bicubic interpolation, clipped at zero and normalised. iou: the box around the largest component of that map above its
    threshold is compared with the best true box, which may reach beyond what is seen; localised: iou is at least 0.5. A map of zeros
    counts as uniform.

    Sources: Zhang et al. 2016, sec. 4.2; Liu et al. 2017, sec. 3.1; Lu et al. 2017, sec. 5.4. In the last, maps are cut and boxes compared
    in the same way; the best word of a phrase is Liu's. A departure: Zhang's margin of 15 pixels around a box is left out.
    """
    found = np.full((len(words), len(METHODS), len(MEASURES)), np.nan)
    others = shuffled_controls(words, seed)
    of_image = defaultdict(list)
    for index, word in enumerate(words):
        of_image[word.image].append(index)
    for image, indices in progress(of_image.items(), "scoring", len(of_image)):
        targets: dict[tuple[tuple[int, ...], str], tuple[Target, Float[np.ndarray, "2 measures"]]] = {}
        for index in indices:
            word = words[index]
            key, threshold = (word.objects, word.category), thresholds.of(word.category)
            if key not in targets:
                target, even = target_of(places[image], word.objects), np.ones((1, *word.maps.shape[1:]), np.float32)
                centre = score_maps(CENTRE, target, centre_thresholds.of(word.category))
                targets[key] = target, np.stack([score_maps(even, target, threshold), centre])
            target, found[index, 1:3] = targets[key]
            found[index, 0] = score_maps(word.maps, target, threshold)
            if (other := others[index]) is not None:
                found[index, 3] = score_maps(words[other].maps, target, threshold)
    return found


def score_maps(maps: Float32[np.ndarray, "words rows cols"], target: Target, threshold: float) -> Float[np.ndarray, " measures"]:
    """MEASURES of one phrase; nan where there is nothing to compare the map with."""
    heats = resize_maps(maps, *target.in_box.shape)
    flat = heats.reshape(len(heats), -1)
    correctness = flat @ target.in_box.ravel().astype(np.float32) / flat.sum(1)
    (iou,) = ious(heats[-1], target, np.array([threshold]))
    in_box, in_mask = (np.nan if where is None else pointing_share(maps[-1], where) for where in (target.in_box, target.in_mask))
    return np.array([in_box, in_mask, correctness.max(), correctness[-1], iou, iou >= 0.5])


def pointing_share(alphas: Float32[np.ndarray, "rows cols"], where: Bool[np.ndarray, "height width"]) -> float:
    """Of the map's highest cells (equal within one part in 10^6), the share whose centre's pixel is `where`."""
    rows, cols = ((np.arange(cells) + 0.5) * pixels / cells for cells, pixels in zip(alphas.shape, where.shape, strict=True))
    there = where[np.ix_(rows.astype(int), cols.astype(int))]
    return float(there[alphas >= alphas.max() * (1 - 1e-6)].mean())


def resize_maps(maps: Float32[np.ndarray, "words rows cols"], height: int, width: int) -> Float32[np.ndarray, "words height width"]:
    """By bicubic interpolation, clipped at zero; what is zero everywhere becomes one everywhere."""
    heats = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], (height, width), mode="bicubic")[0].clamp_min_(0).numpy()
    heats[heats.reshape(len(heats), -1).max(1, initial=0) <= 0] = 1
    return heats


def ious(
    heat: Float32[np.ndarray, "height width"], target: Target, thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    """Intersection over union of the box at each threshold with the best of the true boxes."""
    stride = -(-max(heat.shape) // FINEST_SIDE)
    coarse = heat[stride // 2 :: stride, stride // 2 :: stride]
    boxes = largest_boxes(coarse >= coarse.max() * thresholds[:, None, None].astype(np.float32)) * stride
    boxes = np.minimum(boxes, [heat.shape[1], heat.shape[0]] * 2)[:, None]
    overlap = np.minimum(boxes[..., 2:], target.boxes[:, 2:]) - np.maximum(boxes[..., :2], target.boxes[:, :2])
    shared = overlap.clip(0).prod(-1)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1) + (target.boxes[:, 2:] - target.boxes[:, :2]).prod(-1)
    return (shared / np.maximum(areas - shared, 1e-9)).max(1)


def gaussian(cells: int) -> Float32[np.ndarray, "1 cells cells"]:
    away = (np.arange(cells) + 0.5) / cells - 0.5
    line = np.exp(-(away**2) / (2 * 0.25**2))
    return np.outer(line, line)[None].astype(np.float32)


CENTRE = gaussian(15)


def class_thresholds(words: Sequence[Word], places: Mapping[Any, Place], centre: bool = False) -> Thresholds:
    """For each class the threshold, of CANDIDATES, with the highest mean IoU over its words, and one over all words.

    A class with fewer than MINIMUM_WORDS words has none of its own.

    centre: of the centred map, not of the words' own. Raises: ArgumentError, no words.
    """
    if not words:
        raise ArgumentError("words", "must not be empty: there is nothing to choose thresholds on")
    of_class: dict[str, list[Float[np.ndarray, " thresholds"]]] = defaultdict(list)
    targets: dict[tuple[int, tuple[int, ...]], Target] = {}
    for word in progress(words, "choosing thresholds", unit="word"):
        key = word.image, word.objects
        if key not in targets:
            targets[key] = target_of(places[word.image], word.objects)
        heat = resize_maps(CENTRE if centre else word.maps[-1:], *targets[key].in_box.shape)[0]
        of_class[word.category].append(ious(heat, targets[key], CANDIDATES))
    everything = np.concatenate(list(of_class.values()))
    own = {category: best_threshold(np.array(rows)) for category, rows in of_class.items() if len(rows) >= MINIMUM_WORDS}
    return Thresholds(own, best_threshold(everything))


def best_threshold(rows: Float[np.ndarray, "words thresholds"]) -> float:
    return round(float(CANDIDATES[rows.mean(0).argmax()]), 2)


def shuffled_controls(words: Sequence[Word], seed: int) -> list[int | None]:
    """For each word another image's, of the same class where there is one; None with one image alone."""
    order = np.random.default_rng(seed).permutation(len(words)).tolist()
    of_class: dict[str, list[int]] = defaultdict(list)
    for index in order:
        of_class[words[index].category].append(index)
    found: list[int | None] = [None] * len(words)
    for ring in (order, *of_class.values()):
        for index, other in next_of_other_image(words, ring):
            found[index] = other
    return found


def next_of_other_image(words: Sequence[Word], ring: Sequence[int]) -> list[tuple[int, int]]:
    """Each entry of a ring with the next one of another image; those without such are left out."""
    if len({words[index].image for index in ring}) < 2:
        return []
    pairs = []
    for place, index in enumerate(ring):
        steps = range(1, len(ring))
        other = next(o for step in steps if words[o := ring[(place + step) % len(ring)]].image != words[index].image)
        pairs.append((index, other))
    return pairs


def mean_scores(
    scores: Float[np.ndarray, "words methods measures"], images: Sequence[Any], resamples: int = 1000, seed: int = 0
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Measure -> method -> `value`, the mean over words, and `low`, `high`, its 95 % bootstrap interval over images.

    Words whose own map has no number for a measure do not count for it; a method that some other word has no number for is left out.
    Intervals are None without `resamples` or with one image.
    """
    places = {image: place for place, image in enumerate(dict.fromkeys(images))}
    where = np.array([places[image] for image in images])
    known = np.broadcast_to(~np.isnan(scores[:, :1]), scores.shape).reshape(len(scores), -1)
    table = np.where(known, scores.reshape(len(scores), -1), 0)
    rows = np.zeros((int(where.max()) + 1, 2 * table.shape[1]))
    np.add.at(rows, where, np.hstack([known, table]))
    names = tuple(f"{method} {measure}" for method in METHODS for measure in MEASURES)
    part = ImageStatistics(names, rows, ratios)
    ends = intervals([part], resamples, seed) if resamples and len(rows) > 1 else {}
    values = part.corpus()
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for measure in MEASURES:
        found[measure] = {}
        for method in METHODS:
            name = f"{method} {measure}"
            if not np.isnan(values[name]):
                low, high = (None if end is None or np.isnan(end) else end for end in ends.get(name, (None, None)))
                found[measure][method] = {"value": values[name], "low": low, "high": high}
    return found


def ratios(sums: Float[np.ndarray, "*lead counts_and_sums"]) -> Float[np.ndarray, "*lead means"]:
    """The latter half by the former; nan where nothing was counted."""
    counts, totals = np.split(sums, 2, axis=-1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)
