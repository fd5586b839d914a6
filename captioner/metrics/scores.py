"""Captions against references, from raw text to a row of corpus scores."""

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from captioner.errors import ArgumentError
from captioner.metrics.bleu import Bleu
from captioner.metrics.cider import Cider
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.java import Unavailable, meteor, spice
from captioner.metrics.meteor_nltk import meteor_nltk
from captioner.metrics.ngrams import References, Tokens
from captioner.metrics.rouge import rouge_l
from captioner.metrics.statistics import ImageStatistics, corpus_scores, mean_statistics
from captioner.tokenizer import tokenize

logger = logging.getLogger(__name__)

METRICS = ("bleu", "rouge", "cider")
"""What is scored unless something else is asked for."""
EVERY = (*METRICS, "cider-plain", "meteor", "meteor-nltk", "spice")
"""All that can be asked for."""

PROGRAMS: dict[str, tuple[str, Callable[..., ImageStatistics]]] = {
    "meteor": ("METEOR", meteor),
    "meteor-nltk": ("METEOR-nltk", meteor_nltk),
    "spice": ("SPICE", spice),
}


class Scorer:
    """Scores for the same images again and again: their references are tokenised and counted once.

    `frequencies` are the document frequencies of both CIDErs; left out, the references' own.
    Raises: ValueError, no images, an image without references, or a metric of another name than EVERY.
    """

    def __init__(
        self, references: Mapping[Any, Sequence[str]], metrics: Sequence[str] = METRICS, frequencies: DocumentFrequencies | None = None
    ) -> None:
        self.metrics = check_metrics(metrics)
        self.images = list(references)
        """The order of all rows."""
        for image in self.images:
            if isinstance(references[image], str) or not references[image]:
                raise ArgumentError("references", f"of image {image} must be a list of one or more captions, not {references[image]!r}")
        self.references = References([[tokenize(caption) for caption in references[image]] for image in self.images])
        self.ciders = {
            name: Cider(self.references, plain=plain, frequencies=frequencies)
            for name, key, plain in (("CIDEr", "cider", False), ("CIDEr-plain", "cider-plain", True))
            if key in self.metrics
        }

    def __call__(self, captions: Mapping[Any, str]) -> dict[str, float]:
        """Corpus scores as fractions: BLEU-1 .. BLEU-4, ROUGE-L (0 to 1), CIDEr (0 to 10) ..., and `images`, how many were scored.

        METEOR and SPICE are absent where they cannot be had, and the log says why; METEOR-nltk then stands in for METEOR, if it can.
        Raises: ValueError, captions are not of exactly the images of the references.
        """
        return corpus_scores(self.statistics(captions)) | {"images": len(self.images)}

    def statistics(self, captions: Mapping[Any, str]) -> list[ImageStatistics]:
        """What each image, in the order of `images`, adds to each score that can be had."""
        check_images(captions, self.images)
        return self.of_tokens([tokenize(captions[image]) for image in self.images])

    def of_tokens(self, candidates: Sequence[Tokens]) -> list[ImageStatistics]:
        """`statistics` of captions that are tokens already, in the order of `images`."""
        texts = [self.references.of(image) for image in range(len(self.images))]
        parts = []
        if "bleu" in self.metrics:
            parts.append(Bleu(self.references).statistics(candidates).additive())
        if "rouge" in self.metrics:
            parts.append(mean_statistics("ROUGE-L", rouge_l(candidates, texts)))
        parts.extend(mean_statistics(name, cider.scores(candidates)) for name, cider in self.ciders.items())
        found: dict[str, ImageStatistics | None] = {
            name: score_or_warn(name, candidates, texts) for name in ("meteor", "spice") if name in self.metrics
        }
        if "meteor-nltk" in self.metrics or found.get("meteor", ()) is None:
            asked = logging.WARNING if "meteor-nltk" in self.metrics else logging.DEBUG
            found["meteor-nltk"] = score_or_warn("meteor-nltk", candidates, texts, asked)
        return parts + [part for name in EVERY if (part := found.get(name)) is not None]


def score_or_warn(
    name: str, candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], level: int = logging.WARNING
) -> ImageStatistics | None:
    """A metric of another program; None where that cannot be had, which a line of the log at this level explains."""
    title, function = PROGRAMS[name]
    try:
        return function(candidates, references)
    except Unavailable as reason:
        logger.log(level, "%s is left out: %s", title, reason)
        return None


def score(
    captions: Mapping[Any, str],
    references: Mapping[Any, Sequence[str]],
    metrics: Sequence[str] = METRICS,
    frequencies: DocumentFrequencies | None = None,
) -> dict[str, float]:
    """Corpus scores of one caption an image; keys as `Scorer` gives them.

    Scored are the images of `captions`; references of others are left aside, of CIDEr's document frequencies too, as coco-caption does.
    With one image CIDEr is 0, since every idf is. Raises: ValueError, no captions, or an image without references.
    """
    without = [image for image in captions if image not in references]
    if without:
        raise ValueError(f"no references for {first_few(without)} of the {len(captions)} images with a caption")
    return Scorer({image: references[image] for image in captions}, metrics, frequencies)(captions)


def check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(metrics)
    for name in chosen:
        if name not in EVERY:
            raise ArgumentError("metrics", f"are some of {', '.join(EVERY)}, not {name!r}")
    return chosen


def check_images(captions: Mapping[Any, str], images: Sequence[Any]) -> None:
    missing = [image for image in images if image not in captions]
    if missing:
        raise ValueError(f"no caption for {first_few(missing)} of the {len(images)} images")
    if len(captions) > len(images):
        known = set(images)
        raise ValueError(f"no references for {first_few([image for image in captions if image not in known])} of the captions")


def first_few(items: Sequence[Hashable], show: int = 3) -> str:
    """How many, and the first few: "2 (7, 9)"."""
    return f"{len(items)} ({', '.join(map(str, items[:show]))}{', ...' if len(items) > show else ''})"
