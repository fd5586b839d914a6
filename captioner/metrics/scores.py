"""Captions against references, from raw text to a row of corpus scores."""

from collections.abc import Hashable, Iterable, Mapping, Sequence

from captioner.metrics.bleu import Bleu
from captioner.metrics.cider import CiderD
from captioner.metrics.ngrams import References
from captioner.metrics.rouge import rouge_l
from captioner.tokenizer import tokenize

METRICS = ("bleu", "rouge", "cider")


class Scorer:
    """Scores for the same images again and again: their references are tokenised and counted once.

    Raises: ValueError, no images, an image without references, or a metric of another name than METRICS.
    """

    def __init__(self, references: Mapping[int, Sequence[str]], metrics: Sequence[str] = METRICS) -> None:
        self.metrics = check_metrics(metrics)
        self.images = list(references)
        for image in self.images:
            if isinstance(references[image], str) or not references[image]:
                raise ValueError(f"references of image {image} must be a list of one or more captions, not {references[image]!r}")
        self.references = References([[tokenize(caption) for caption in references[image]] for image in self.images])
        self.bleu = Bleu(self.references)
        self.cider = CiderD(self.references) if "cider" in self.metrics else None

    def __call__(self, captions: Mapping[int, str]) -> dict[str, float]:
        """Corpus scores as fractions: BLEU-1 .. BLEU-4, ROUGE-L (0 to 1), CIDEr (0 to 10), and `images`, how many were scored.

        Raises: ValueError, captions are not of exactly the images of the references.
        """
        check_images(captions, self.images)
        candidates = [tokenize(captions[image]) for image in self.images]
        row: dict[str, float] = {}
        if "bleu" in self.metrics:
            row |= {f"BLEU-{n}": value for n, value in enumerate(self.bleu.scores(candidates), 1)}
        if "rouge" in self.metrics:
            row["ROUGE-L"] = float(rouge_l(candidates, [self.references.of(image) for image in range(len(self.images))]).mean())
        if self.cider is not None:
            row["CIDEr"] = float(self.cider.scores(candidates).mean())
        return row | {"images": len(self.images)}


def score(captions: Mapping[int, str], references: Mapping[int, Sequence[str]], metrics: Sequence[str] = METRICS) -> dict[str, float]:
    """Corpus scores of one caption an image; keys as `Scorer` gives them.

    Scored are the images of `captions`; references of others are left aside, of CIDEr's document frequencies too, as coco-caption does.
    With one image CIDEr is 0, since every idf is. Raises: ValueError, no captions, or an image without references.
    """
    without = [image for image in captions if image not in references]
    if without:
        raise ValueError(f"no references for {some(without)} of the {len(captions)} images with a caption")
    return Scorer({image: references[image] for image in captions}, metrics)(captions)


def check_metrics(metrics: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(metrics)
    for name in chosen:
        if name not in METRICS:
            raise ValueError(f"metrics are some of {', '.join(METRICS)}, not {name!r}")
    return chosen


def check_images(captions: Mapping[int, str], images: Sequence[int]) -> None:
    missing = [image for image in images if image not in captions]
    if missing:
        raise ValueError(f"no caption for {some(missing)} of the {len(images)} images")
    if len(captions) > len(images):
        known = set(images)
        raise ValueError(f"no references for {some([image for image in captions if image not in known])} of the captions")


def some(items: Sequence[Hashable], show: int = 3) -> str:
    """How many, and the first few: "2 (7, 9)"."""
    return f"{len(items)} ({', '.join(map(str, items[:show]))}{', ...' if len(items) > show else ''})"
