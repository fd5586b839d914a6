"""How well a captioner does on drawn scenes: its captions and maps compared with what was drawn, beside two controls."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from captioner.caption import Caption
from captioner.data.captions import CaptionSet
from captioner.maps.health import Health, health, mean_health
from captioner.maps.pointing import PointingRecord, pointing
from captioner.metrics.scores import score
from captioner.progress import progress
from captioner.scenes.example import CAPTIONS
from captioner.scenes.truth import caption_truth, read_scenes, truth_share

BATCH = 100


class SplitScores(NamedTuple):
    """The scores of one split's captions and maps."""

    corpus: dict[str, float]
    truth: dict[str, float]
    pointing: dict[str, float]
    """Over all words for a kind; a word that names nothing in the scene has no target."""
    named: dict[str, float]
    """Over those whose phrase names something in the scene."""
    health: Health


def score_split(captioner: Any, captions: CaptionSet, scenes: Path, search: Any) -> SplitScores:
    """Caption a split with a search, and compare captions and maps with what was drawn."""
    lexicon, truths = read_scenes(scenes)
    generated: dict[int, str] = {}
    records: list[PointingRecord] = []
    maps: list[Health] = []
    for first in progress(range(0, len(captions), BATCH), f"captioning {scenes.stem}", unit="batch"):
        indices = range(first, min(first + BATCH, len(captions)))
        photos = [captions.path(index) for index in indices]
        for index, caption in zip(indices, captioner.caption(photos, search=search, batch_size=BATCH), strict=True):
            image_id = captions.image_ids[index]
            assert isinstance(image_id, int), image_id  # scenes are numbered
            generated[image_id] = caption.text
            maps.append(health(caption.alphas))
            records += pointing_records(caption, truths[image_id], lexicon)
    return SplitScores(
        score(generated, captions.references),
        truth_share(generated, truths, lexicon),
        pointing(records),
        pointing(record for record in records if record.targets),
        mean_health(maps),
    )


def pointing_records(caption: Caption, scene: Mapping[str, Any], lexicon: Mapping[str, Any]) -> Iterator[PointingRecord]:
    """A record for each noun that names a kind: its map, and the boxes of the objects that its phrase may name."""
    for mention in caption_truth(caption.text, scene, lexicon).mentions:
        if not mention.generic:
            boxes = [scene["objects"][index]["box"] for index in mention.objects]
            yield PointingRecord(caption.alphas[mention.word_index], caption.box, boxes)


def score_extra_captions(path: Path, captions: CaptionSet) -> dict[str, float]:
    """The scores of one more drawn caption per image against the five references."""
    return score({entry["image_id"]: entry["caption"] for entry in json.loads(path.read_bytes())}, captions.references)


def reference_truth(captions: CaptionSet, scenes: Path, seed: int = 0) -> dict[str, float]:
    """The checker's controls: `true`, the share of references that are true of their scene; `shuffled`, of another scene; and
    `claims`, the mean number of claims per reference."""
    lexicon, truths = read_scenes(scenes)
    references = captions.references
    shuffled = dict(zip(references, derangement(list(references.values()), seed), strict=True))

    def mean(key: str, captions_of: Mapping[Any, Sequence[str]]) -> float:
        shares = [truth_share({image: of_image[k] for image, of_image in captions_of.items()}, truths, lexicon) for k in range(CAPTIONS)]
        return sum(share[key] for share in shares) / CAPTIONS

    return {"true": mean("true", references), "shuffled": mean("true", shuffled), "claims": mean("claims", references)}


def derangement(values: list[Any], seed: int) -> list[Any]:
    """The values in a random order in which none keeps its place."""
    order = list(range(len(values)))
    random.Random(seed).shuffle(order)
    moved = list(values)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        moved[here] = values[there]
    return moved
