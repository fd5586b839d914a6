"""Does what a map shows matter to the model? What hiding and showing it does to the word's probability, beside a map drawn at random.

Everything is done to the prepared image, on which maps are interpolated as a sheet shows them (`maps.geometry.heat_maps`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from captioner.data.pixels import to_rgb
from captioner.errors import ArgumentError
from captioner.explain.explanation import prefixes, teacher_forced_rollout
from captioner.maps.geometry import heat_maps
from captioner.metrics.bootstrap import intervals
from captioner.metrics.statistics import ImageStatistics, mean
from captioner.model import Captioner

RANDOM = "random"
"""The name of the baseline."""


class Faithfulness(NamedTuple):
    """What was measured of a map, a number a word."""

    deletion: Float[np.ndarray, " words"]
    """Area under p(word) while pixels turn grey, the map's highest first, over the share of pixels: low where the map is faithful."""
    insertion: Float[np.ndarray, " words"]
    """Area under p(word) while the pixels of a blurred image turn sharp, the map's highest first: high where it is faithful."""
    hidden: Float[np.ndarray, " words"]
    """What log p(word) loses when the square that holds most of the map is grey."""
    chance: Float[np.ndarray, " words"]
    """The mean of what it loses for squares of that size anywhere."""
    agreement: Float[np.ndarray, " words"]
    """Spearman's rank correlation with the first map, on that one's grid; nan where either is flat."""


class Estimate(NamedTuple):
    """A mean over words, its bootstrap interval over images, and how many words it is of."""

    value: float
    low: float
    high: float
    words: int


class Probe(NamedTuple):
    """One image and caption that maps are tried on."""

    captioner: Captioner
    image: Float[Tensor, "3 height width"]
    blurred: Float[Tensor, "3 height width"]
    ids: Int[Tensor, " ids"]
    steps: int
    side: int
    """Of the square, in pixels."""
    batch_size: int


@torch.no_grad()
def faithfulness(
    captioner: Captioner,
    image: Image.Image,
    words: Sequence[str],
    maps: Mapping[str, Float[np.ndarray, "_ rows cols"]],
    *,
    only: Sequence[int] | None = None,
    steps: int = 20,
    window: float = 0.2,
    chances: int = 32,
    blur: float = 0.05,
    seed: int = 0,
    batch_size: int = 64,
) -> dict[str, Faithfulness]:
    """Of each of `maps`, by name (as `explain` gives them: a map a word, over the transform's box), and of "random", noise on the first's
    grid.

    Deletion and insertion go in `steps` equal shares of the pixels and use the trapezium rule; areas are in 0 .. 1. Grey is the mean colour
    of the transform; `blur` is the Gaussian's deviation, `window` the square's side, both as shares of the shorter side; `chances` squares
    are drawn. Of equally high pixels the noise decides, so that an even map scores as "random"; every map meets the same noise (`seed`).
    `only`: the indices of the words to score; all where None. Source: Petsiuk et al. 2018, sec. 4.2, where the probability is a class's;
    `hidden`, `chance` and `agreement` are our own.
    Raises: ArgumentError, not a map a word, or a setting out of its range.
    """
    check(words, maps, steps=steps, chances=chances, window=window, blur=blur)
    captioner.eval()
    prepared = captioner.transform.prepare(to_rgb(image))[0].to(captioner.device)
    shorter = min(prepared.shape[1:])
    soft = functional.gaussian_blur(prepared, [2 * round(3 * blur * shorter) + 1] * 2, [blur * shorter] * 2)
    ids = torch.tensor(captioner.vocabulary.encode(list(words)), device=captioner.device)
    probe = Probe(captioner, prepared, soft, ids, steps, max(1, round(window * shorter)), batch_size)
    scored = list(range(len(words)) if only is None else only)
    rng = np.random.default_rng(seed)
    first = next(iter(maps.values()))
    noise = rng.random((len(words), *first.shape[1:]))
    chance = hidden_anywhere(probe, chances, rng)
    return {name: tried(probe, found, first, noise, chance, scored) for name, found in {**maps, RANDOM: noise}.items()}


def check(words: Sequence[str], maps: Mapping[str, np.ndarray], *, steps: int, chances: int, window: float, blur: float) -> None:
    if not words or not maps:
        raise ArgumentError("words", f"and maps must not be empty, but there are {len(words)} and {len(maps)}")
    for name, found in maps.items():
        if len(found) != len(words):
            raise ArgumentError(name, f"holds {len(found)} maps for {len(words)} words")
    if steps < 1 or chances < 1:
        raise ArgumentError("steps", f"(shares of pixels) and chances (squares) must be positive, not {steps} and {chances}")
    if not 0 < window <= 1 or not 0 < blur <= 1:
        raise ArgumentError("window", f"and blur are shares of the shorter side, in (0, 1], not {window} and {blur}")


def tried(
    probe: Probe,
    maps: Float[np.ndarray, "_ rows cols"],
    first: Float[np.ndarray, "_ rows2 cols2"],
    noise: Float[np.ndarray, "_ rows2 cols2"],
    chance: Float[np.ndarray, " _"],
    scored: Sequence[int],
) -> Faithfulness:
    """The scores of one kind of map, at the words `scored`."""
    found, ties = on_pixels(maps[scored], probe), on_pixels(noise[scored], probe)
    order = [np.lexsort((tie.ravel(), one.ravel()))[::-1] for one, tie in zip(found, ties, strict=True)]
    areas = np.array([curves(probe, highest, word).mean(1) for highest, word in zip(order, scored, strict=True)]).reshape(-1, 2)
    hidden = hidden_peak(probe, found, ties, scored)
    agreement = np.array([spearman(resized(maps[word], (first.shape[1], first.shape[2])), first[word]) for word in scored])
    return Faithfulness(areas[:, 0], areas[:, 1], hidden, chance[scored], agreement)


def on_pixels(maps: Float[np.ndarray, "words rows cols"], probe: Probe) -> Float[np.ndarray, "words height width"]:
    """Maps over the prepared image, as shares of their peaks; what differs by less than 10^-5 of it counts as equal."""
    height, width = probe.image.shape[1:]
    found = heat_maps(maps, (0.0, 0.0, float(width), float(height)), (width, height))
    peaks = np.abs(found).max(axis=(1, 2), keepdims=True, initial=0.0)
    return np.round(found / np.where(peaks > 0, peaks, 1), 5)


def curves(probe: Probe, order: Int[np.ndarray, " pixels"], word: int) -> Float[np.ndarray, "2 steps"]:
    """p(word) in the middle of each step (the mean of its ends), under deletion and under insertion of pixels in this order."""
    rank = np.empty(order.size, int)
    rank[order] = np.arange(order.size)
    counts = torch.arange(probe.steps + 1).double() / probe.steps * order.size
    gone = (torch.from_numpy(rank)[None] < counts[:, None]).view(-1, 1, *probe.image.shape[1:]).to(probe.image.device)
    deleted = probe.image.masked_fill(gone, 0.0)
    inserted = torch.where(gone, probe.image, probe.blurred)
    probabilities = log_prob(probe, torch.cat([deleted, inserted]), word).exp().view(2, -1).double().cpu().numpy()
    return (probabilities[:, 1:] + probabilities[:, :-1]) / 2


def log_prob(probe: Probe, images: Float[Tensor, "images 3 height width"], word: int) -> Float[Tensor, " images"]:
    """log p of one word, given those before it."""
    caption = prefixes(probe.ids)[word : word + 1, : word + 2]
    return torch.cat(
        [teacher_forced_rollout(probe.captioner, some, caption).log_probs[:, 0, word] for some in images.split(probe.batch_size)]
    )


def log_probs(probe: Probe, images: Float[Tensor, "images 3 height width"]) -> Float[np.ndarray, "images words"]:
    found = [teacher_forced_rollout(probe.captioner, some, probe.ids[None]).log_probs[:, 0, :-1] for some in images.split(probe.batch_size)]
    return torch.cat(found).double().cpu().numpy()


def hidden_anywhere(probe: Probe, chances: int, rng: np.random.Generator) -> Float[np.ndarray, " words"]:
    """What each word's log p loses by a grey square, the mean over squares drawn anywhere inside the image."""
    height, width = probe.image.shape[1:]
    tops, lefts = rng.integers(height - probe.side + 1, size=chances), rng.integers(width - probe.side + 1, size=chances)
    return log_probs(probe, probe.image[None])[0] - log_probs(probe, with_squares(probe, tops, lefts)).mean(0)


def hidden_peak(
    probe: Probe,
    maps: Float[np.ndarray, "words height width"],
    ties: Float[np.ndarray, "words height width"],
    scored: Sequence[int],
) -> Float[np.ndarray, " words"]:
    """What each word's log p loses by a grey square on the most of its own map; of equal squares, that with the most of `ties`."""
    corners = []
    for one, tie in zip(square_sums(maps, probe.side), square_sums(ties, probe.side), strict=True):
        most = np.where(one >= one.max() - 1e-4 * abs(one.max()), tie, -np.inf).argmax()
        corners.append(np.unravel_index(most, one.shape))
    if not corners:
        return np.zeros(0)
    tops, lefts = np.array(corners).T
    left = log_probs(probe, with_squares(probe, tops, lefts))
    return (log_probs(probe, probe.image[None]) - left)[np.arange(len(scored)), scored]


def square_sums(maps: Float[np.ndarray, "words height width"], side: int) -> Float[np.ndarray, "words tops lefts"]:
    """The sum of a map over each square of `side` pixels inside the image, by its upper left corner."""
    total = np.pad(maps.astype(float).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    return total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]


def with_squares(
    probe: Probe, tops: Int[np.ndarray, " squares"], lefts: Int[np.ndarray, " squares"]
) -> Float[Tensor, "squares 3 height width"]:
    down, across = (inside(starts, probe.side, size) for starts, size in zip((tops, lefts), probe.image.shape[1:], strict=True))
    return probe.image.masked_fill(torch.from_numpy(down[:, None, :, None] & across[:, None, None, :]).to(probe.image.device), 0.0)


def inside(starts: Int[np.ndarray, " squares"], side: int, pixels: int) -> Bool[np.ndarray, "squares pixels"]:
    at = np.arange(pixels)
    return (at >= starts[:, None]) & (at < starts[:, None] + side)


def resized(one: Float[np.ndarray, "rows cols"], size: tuple[int, int]) -> Float[np.ndarray, "_ _"]:
    """Means over the cells of another grid of the same extent."""
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(one.astype(float))[None], size)[0].numpy()


def spearman(one: Float[np.ndarray, "rows cols"], other: Float[np.ndarray, "rows cols"]) -> float:
    """The correlation of ranks, of which equal values share the mean; nan where either holds one value only."""
    first, second = (rank - rank.mean() for rank in (ranks(one.ravel()), ranks(other.ravel())))
    spread = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / spread) if spread > 0 else float("nan")


def ranks(values: Float[np.ndarray, " values"]) -> Float[np.ndarray, " values"]:
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[which]


def rows_of(found: Sequence[Mapping[str, Faithfulness]], kind: str) -> list[ImageStatistics]:
    """What each image adds to the means over words of one kind of map; also "gain", hidden less chance. nan counts for nothing."""
    parts = []
    for name in (*Faithfulness._fields, "gain"):
        values = [one[kind].hidden - one[kind].chance if name == "gain" else getattr(one[kind], name) for one in found]
        parts.append(ImageStatistics((name,), np.array([[np.nansum(value), np.sum(~np.isnan(value))] for value in values]), mean))
    return parts


def summary(found: Sequence[Mapping[str, Faithfulness]], resamples: int = 1000, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Kind of map -> measure -> its mean over the words of all images, with a 95 % bootstrap interval over images; nan where no
    word counts.

    `found` holds what `faithfulness` gave for each image. Raises: ArgumentError, no images.
    """
    if not found:
        raise ArgumentError("found", "holds what was measured of each image, and must not be empty")
    return {kind: {part.names[0]: estimate(part, resamples, seed) for part in rows_of(found, kind)} for kind in found[0]}


def estimate(part: ImageStatistics, resamples: int, seed: int) -> Estimate:
    """Of a mean over words; images without any are not drawn."""
    part = part._replace(rows=part.rows[part.rows[:, 1] > 0])
    if not len(part.rows):
        return Estimate(np.nan, np.nan, np.nan, 0)
    ((name, span),) = intervals([part], resamples, seed).items()
    return Estimate(part.corpus()[name], *span, int(part.rows[:, 1].sum()))
