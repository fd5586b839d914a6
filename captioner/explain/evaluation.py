"""Evaluate the maps of words that name objects: gather them from captioned images, and compare them with boxes and masks."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from captioner.data.image_batches import open_batches
from captioner.data.images import original_size
from captioner.data.instances import fit_to_photo
from captioner.errors import InputError
from captioner.explain.faithfulness import faithfulness, summary
from captioner.explain.grounding import MEASURES, Place, Thresholds, Word, class_thresholds, mean_scores, ratios, score_words
from captioner.explain.grounding_data import GroundingData
from captioner.explain.kinds import KINDS, explain
from captioner.explain.object_maps import NamedPhrases, find_phrases, object_words
from captioner.ids import ImageKey
from captioner.model import Captioner
from captioner.progress import progress
from captioner.tokenizer import tokenize

CAPTIONS = ("generated", "references")
"""Whose words are evaluated: those of the captioner's own captions, and those of the references."""


class GroundingSettings(NamedTuple):
    """What is evaluated, and how."""

    explanations: Sequence[str] = ("attention",)
    captions: Sequence[str] = CAPTIONS
    search: Any = None
    """The search of generated captions; None takes the captioner's own."""
    batch_size: int = 32
    threshold: float | None = None
    """Of a map's highest value, for localisation; None: 0.5, or each class's own where there are training images."""
    resamples: int = 1000
    """Of the bootstrap; 0 computes no intervals."""
    seed: int = 0


class CollectedMaps(NamedTuple):
    """The maps of object words of all images, and which images failed."""

    words: dict[str, dict[str, list[Word]]]
    """Kind of caption -> explanation -> object words."""
    left_out: dict[str, Counter[str]]
    """Kind of caption -> reason -> how many phrases were left out for it."""
    places: dict[ImageKey, Place]
    failed: list[ImageKey]
    faithfulness: list[Any]
    scaled: list[str]
    """Photos of another size than the annotations state, but of the same shape."""
    misfits: list[str]
    """Photos of another shape: the beginning of a complaint."""


def collect_maps(
    captioner: Captioner,
    data: Sequence[GroundingData],
    settings: GroundingSettings,
    warn: Callable[[str], object],
    with_faithfulness: bool = False,
) -> CollectedMaps:
    """Caption, teacher-force, and keep the maps of object words, batch by batch.

    Where a batch fails, its images are tried one by one. `warn` gets a line for each image that fails.
    """
    words: dict[str, dict[str, list[Word]]] = {of: {kind: [] for kind in settings.explanations} for of in settings.captions}
    missing = [image for part in data for image in part.missing]
    collected = CollectedMaps(words, {of: Counter() for of in settings.captions}, {}, missing, [], [], [])
    for part in data:
        collect_part(captioner, part, settings, warn, with_faithfulness, collected)
    if collected.scaled:
        other_size = f"{len(collected.scaled)} photos have another size than their annotations say ({collected.scaled[0]})"
        warn(f"{other_size}; boxes and masks are scaled")
    if collected.misfits:
        left_out = f"{len(collected.misfits)} photos like this are left out"
        warn(f"{collected.misfits[0]}; {left_out}: give the photos that the annotations describe")
    return collected


def collect_part(
    captioner: Captioner,
    data: GroundingData,
    settings: GroundingSettings,
    warn: Callable[[str], object],
    with_faithfulness: bool,
    collected: CollectedMaps,
) -> None:
    """Add the words of one part of the data to `collected`."""
    keys = data.captions.keys
    indices = progress(range(len(data.captions)), "looking", len(data.captions))
    for images, refused in open_batches(indices, data.captions.path, settings.batch_size):
        for index, refusal in refused.items():
            collected.failed.append(keys[index])
            warn(str(refusal))
        opened = {index: image for index, image in images.items() if fits_annotations(data, index, image, collected)}
        try:
            collect_batch(captioner, data, opened, settings, with_faithfulness, collected)
        except (RuntimeError, ValueError):
            for index, image in opened.items():
                try:
                    collect_batch(captioner, data, {index: image}, settings, with_faithfulness, collected)
                except (RuntimeError, ValueError) as error:
                    collected.failed.append(keys[index])
                    warn(f"{data.captions.path(index)}: {str(error) or type(error).__name__}")


def fits_annotations(data: GroundingData, index: int, image: Image.Image, collected: CollectedMaps) -> bool:
    """Whether the marked objects can be placed on the photo. `collected` notes where they cannot, or have to be scaled."""
    key, name = data.captions.keys[index], data.captions.names[index]
    marked_size = data.sizes.get(key)
    try:
        things = fit_to_photo(data.instances[key], marked_size, original_size(image))
    except InputError as error:
        collected.failed.append(key)
        collected.misfits.append(f"{name}: {error}")
        return False
    if things != list(data.instances[key]):
        width, height = original_size(image)
        collected.scaled.append(f"{name} has {width} x {height} pixels")
    return True


def collect_batch(
    captioner: Captioner,
    data: GroundingData,
    opened: Mapping[int, Image.Image],
    settings: GroundingSettings,
    with_faithfulness: bool,
    collected: CollectedMaps,
) -> None:
    """Add one batch to `collected`, all of it or nothing."""
    if not opened:
        return
    ids = [data.captions.keys[index] for index in opened]
    prepared, boxes = zip(*(captioner.transform.prepare(image) for image in opened.values()), strict=True)
    pixels = torch.stack(prepared)
    places = {key: place_of(data, key, image, box) for key, image, box in zip(ids, opened.values(), boxes, strict=True)}
    left_out = {of: Counter[str]() for of in settings.captions}
    phrases: dict[str, list[list[NamedPhrases]]] = {}
    for of, tokens_of_images in caption_tokens(captioner, data, list(opened), pixels, settings).items():
        common = (data.names, captioner.vocabulary, left_out[of])
        pairs = zip(ids, tokens_of_images, strict=True)
        phrases[of] = [[find_phrases(key, tokens, places[key], *common) for tokens in captions] for key, captions in pairs]
    explanations = {kind: KINDS[kind]() for kind in settings.explanations}
    words = {of: object_words(captioner, pixels, captions, explanations) for of, captions in phrases.items()}
    scores = batch_faithfulness(captioner, opened, phrases["generated"], settings) if with_faithfulness else []
    collected.places.update(places)
    collected.faithfulness.extend(scores)
    for of in settings.captions:
        collected.left_out[of].update(left_out[of])
        for kind in settings.explanations:
            collected.words[of][kind] += [word for words_of_image in words[of][kind] for word in words_of_image]


def place_of(data: GroundingData, key: ImageKey, image: Image.Image, box: Any) -> Place:
    """An image's objects on its own pixels. Raises: InputError, see `Place.check`."""
    size = original_size(image)
    return Place(*size, box, fit_to_photo(data.instances[key], data.sizes.get(key), size)).check()


def caption_tokens(
    captioner: Captioner,
    data: GroundingData,
    indices: Sequence[int],
    pixels: Float[Tensor, "images 3 height width"],
    settings: GroundingSettings,
) -> dict[str, list[list[list[str]]]]:
    """Kind of caption -> the captions of each image, as tokens; a caption without words is left out."""
    captions: dict[str, list[list[list[str]]]] = {}
    if "generated" in settings.captions:
        captioner.eval()
        captions["generated"] = [[list(found[0].words)] for found in captioner.generate(pixels.to(captioner.device), settings.search)]
    if "references" in settings.captions:
        captions["references"] = [[tokenize(caption) for caption in data.captions.captions_of(index)] for index in indices]
    return {of: [[tokens for tokens in of_image if tokens] for of_image in of_images] for of, of_images in captions.items()}


def batch_faithfulness(
    captioner: Captioner, opened: Mapping[int, Image.Image], phrases: Sequence[Sequence[NamedPhrases]], settings: GroundingSettings
) -> list[Any]:
    """The faithfulness of the nouns' maps, of each image's caption; captions without nouns are left out."""
    scores = []
    for image, captions in zip(opened.values(), phrases, strict=True):
        for caption in captions:
            nouns = sorted({stop - 1 for _, stop, _, _ in caption.phrases})
            if nouns:
                maps = explain(captioner, image, caption.tokens, settings.explanations)
                scores.append(faithfulness(captioner, image, caption.tokens, maps, only=nouns, seed=settings.seed))
    return scores


def evaluate(
    collected: CollectedMaps, training: CollectedMaps | None, settings: GroundingSettings, warn: Callable[[str], object]
) -> dict[str, Any]:
    """Every figure, as fractions, with 95 % intervals over images.

    `training` are the maps of training images, which choose the threshold of each class.
    """
    record: dict[str, Any] = {"search": str(settings.search), "images": len(collected.places)}
    for of in settings.captions:
        record[of] = {"words": 0, "images": 0, "left_out": dict(collected.left_out[of]), "thresholds": {}, "by_class": {}}
        for kind in settings.explanations:
            words = collected.words[of][kind]
            if not words:
                continue
            masked = sum(all(collected.places[word.image].things[index].drawn for index in word.objects) for word in words)
            record[of] |= {"words": len(words), "masked_words": masked, "images": len({word.image for word in words})}
            thresholds = thresholds_for(of, kind, training, settings, warn)
            record[of][kind], record[of]["by_class"][kind] = score_by_class(words, collected.places, thresholds, settings)
            record[of]["thresholds"][kind] = {"all": thresholds[0].common, **thresholds[0].by_class}
    if collected.faithfulness:
        estimates = summary(collected.faithfulness, max(1, settings.resamples), settings.seed)
        record["faithfulness"] = {kind: {name: estimate._asdict() for name, estimate in row.items()} for kind, row in estimates.items()}
    return record | ({"failed": collected.failed} if collected.failed else {})


def thresholds_for(
    of: str, kind: str, training: CollectedMaps | None, settings: GroundingSettings, warn: Callable[[str], object]
) -> tuple[Thresholds, Thresholds]:
    """The thresholds of the words' own maps, and those of the map at the centre."""
    words = [] if training is None else training.words[of][kind]
    if training is None or not words:
        if training is not None:
            warn(f"no training image's caption ({of}) names its objects: maps are cut at half of their highest value")
        fixed = Thresholds({}, settings.threshold or 0.5)
        return fixed, fixed
    return class_thresholds(words, training.places), class_thresholds(words, training.places, centre=True)


def score_by_class(
    words: Sequence[Word], places: Mapping[ImageKey, Place], thresholds: tuple[Thresholds, Thresholds], settings: GroundingSettings
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The means over all words, and those of the words of each class without the baselines."""
    scores = score_words(words, places, *thresholds, settings.seed)
    rows_by_class = defaultdict(list)
    for word, row in zip(words, scores[:, 0], strict=True):
        rows_by_class[word.category].append(row)
    classes = {}
    for category, rows in sorted(rows_by_class.items()):
        means = ratios(np.sum([[*~np.isnan(row), *np.nan_to_num(row)] for row in rows], axis=0))
        finite = {name: value for name, value in zip(MEASURES, means.tolist(), strict=True) if not np.isnan(value)}
        classes[category] = {"words": len(rows), **finite}
    return mean_scores(scores, [word.image for word in words], settings.resamples, settings.seed), classes
