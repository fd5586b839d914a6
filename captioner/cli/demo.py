"""`make demo`: draw scenes, train on them, score, caption held-out scenes, write the gallery; say how long each took."""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from captioner.atomic_files import write_atomically
from captioner.caption import Caption
from captioner.cli.help import Formatter, Parser, texts, usage
from captioner.cli.searching import count, with_beam
from captioner.data.captions import CaptionSet
from captioner.errors import InputError
from captioner.explain.pointing import PointingRecord, pointing
from captioner.maps.health import Health, health, mean_health
from captioner.metrics.scores import score
from captioner.metrics.truth import caption_truth, read_scenes, truth_share
from captioner.model import Captioner
from captioner.progress import progress
from captioner.search.search import Search

SHOWN = {"val": 16, "test": 8}
"""Held-out scenes in the gallery, by split."""
BATCH = 100
EXAMPLES = [
    ("captioner demo", "minutes on two cores"),
    ("captioner demo data.train=5000 trainer.max_epochs=2 seed=1", "fewer scenes and epochs, another seed"),
]


class Scored(NamedTuple):
    """One split, captioned and held against the drawn truth."""

    corpus: dict[str, float]
    truth: dict[str, float]
    pointing: dict[str, float]
    """Over all words for a kind; what names nothing in the scene points at nothing."""
    named: dict[str, float]
    """Over those whose phrase names something in the scene."""
    health: Health


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; words other than options are overrides as of `captioner train`. Raises: InputError, as train and predict do."""
    from captioner.cli import predict, train

    given = list(sys.argv[1:] if arguments is None else arguments)
    options, overrides = parser().parse_known_args(given)
    seconds: dict[str, float] = {}
    train.set_up_logging()
    with timed(seconds, "drawing"):
        config, _ = train.configure(["experiment=scenes", *overrides])
        source = drawn(config)
        splits = source.splits()
        summary = source.draw()
    print(described(summary))
    with timed(seconds, "training"):
        code = train.run(config, None)
    if code:
        return code
    folder = Path(config.run_folder)
    captioner = Captioner.load(folder)
    search = with_beam(captioner.search, options.beam)
    with timed(seconds, "scoring"):
        scored = {split: held_to_truth(captioner, splits[split], source.scenes[split], search) for split in ("val", "test")}
        sixth = {split: sixth_scores(source.sixth[split], splits[split]) for split in ("val", "test")}
        controls = {split: reference_truth(splits[split], source.scenes[split]) for split in ("val", "test")}
    print(table(scored, sixth, controls, str(search)))
    gallery = folder / "gallery"
    with timed(seconds, "gallery"):
        shown = [str(splits[split].path(i)) for split, count in SHOWN.items() for i in range(min(count, len(splits[split])))]
        beam = [] if options.beam is None else ["--beam", str(options.beam)]
        code = predict.main([*shown, "--model", str(folder), "--out", str(gallery), *beam])
    record = {split: {**s.corpus, **s.truth, **{f"pointing_{k}": v for k, v in s.pointing.items()}} for split, s in scored.items()}
    write_atomically(folder / "results" / "demo.json", json.dumps({"seconds": seconds, **record}, indent=1) + "\n")
    print("\nseconds   " + "   ".join(f"{name} {value:.0f}" for name, value in seconds.items()) + f"   in all {sum(seconds.values()):.0f}")
    print(f"the model        {folder / 'model'}\nthe numbers      {folder / 'results'}\nthe gallery      {gallery / 'index.html'}")
    print(f"your own scene   captioner predict PICTURE --model {folder} --out captioned")
    return code


def parser() -> argparse.ArgumentParser:
    asked = Parser(
        prog="captioner demo",
        usage=usage("captioner demo [KEY=VALUE ...] [--beam N]"),
        description=texts(
            "Draws scenes with captions and masks, trains the soft-attention captioner on them, scores it, captions scenes that it has not "
            "seen, and writes the gallery. Other words are overrides, as of `captioner train`."
        ),
        epilog=texts(EXAMPLES),
        formatter_class=Formatter,
    )
    asked.add_argument("--beam", type=count, metavar="N", help="beams of the search (left out: the search of the recipe, a beam of 3)")
    return asked


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - began, 1)


def drawn(config: Any) -> Any:
    """The data source of a composed configuration. Raises: InputError, other data than drawn scenes."""
    from captioner.data.scenes.scenes import Scenes
    from captioner.training.build import build_source
    from captioner.training.configuration import plain

    source = build_source(plain(config))
    if not isinstance(source, Scenes):
        raise InputError("the demo is about drawn scenes; for other data use captioner train and captioner predict")
    return source


def described(summary: Mapping[str, Any]) -> str:
    images = ", ".join(f"{count:,} {split}" for split, count in summary["images"].items())
    return (
        f"drawn scenes: {images}; never together in training: {', '.join(summary['unseen_combinations'])}\n"
        f"references' own leave-one-out BLEU-4 {100 * summary['references_BLEU-4']:.1f} (x 100); "
        f"boxes cover {100 * summary['covered']:.1f} % of the image"
    )


def held_to_truth(captioner: Captioner, captions: CaptionSet, scenes: Path, search: Search) -> Scored:
    """Caption a split, freely, and hold captions and maps against what was drawn."""
    lexicon, truths = read_scenes(scenes)
    said: dict[int, str] = {}
    records: list[PointingRecord] = []
    maps: list[Health] = []
    for first in progress(range(0, len(captions), BATCH), f"captioning {scenes.stem}", unit="batch"):
        indices = range(first, min(first + BATCH, len(captions)))
        photos = [captions.path(index) for index in indices]
        for index, caption in zip(indices, captioner.caption(photos, search=search, batch_size=BATCH), strict=True):
            image_id = captions.image_ids[index]
            assert isinstance(image_id, int), image_id  # scenes are numbered
            said[image_id] = caption.text
            maps.append(health(caption.alphas))
            records += pointing_records(caption, truths[image_id], lexicon)
    return Scored(
        score(said, captions.references),
        truth_share(said, truths, lexicon),
        pointing(records),
        pointing(record for record in records if record.targets),
        mean_health(maps),
    )


def pointing_records(caption: Caption, scene: Mapping[str, Any], lexicon: Mapping[str, Any]) -> Iterator[PointingRecord]:
    """A record for each noun that names a kind: its map, and the boxes of the objects that its phrase may name."""
    for mention in caption_truth(caption.text, scene, lexicon).mentions:
        if not mention.generic:
            boxes = [scene["objects"][thing]["box"] for thing in mention.objects]
            yield PointingRecord(caption.alphas[mention.word_index], caption.box, boxes)


def sixth_scores(path: Path, captions: CaptionSet) -> dict[str, float]:
    """What a further drawn caption of each image scores against its five."""
    return score({entry["image_id"]: entry["caption"] for entry in json.loads(path.read_bytes())}, captions.references)


def reference_truth(captions: CaptionSet, scenes: Path, seed: int = 0) -> dict[str, float]:
    """The checker's controls: references of their own scene, and of another one; and the claims that a reference makes."""
    lexicon, truths = read_scenes(scenes)
    references = captions.references
    of_others = dict(zip(references, derangement(list(references.values()), seed), strict=True))

    def mean(key: str, captions_of: Mapping[Any, Sequence[str]]) -> float:
        shares = [truth_share({i: told[k] for i, told in captions_of.items()}, truths, lexicon)[key] for k in range(5)]
        return sum(shares) / len(shares)

    return {"true": mean("true", references), "shuffled": mean("true", of_others), "claims": mean("claims", references)}


def derangement(items: list[Any], seed: int) -> list[Any]:
    """The items in a random order, none in its own place."""
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    moved = list(items)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        moved[here] = items[there]
    return moved


def table(
    scored: Mapping[str, Scored], sixth: Mapping[str, Mapping[str, float]], controls: Mapping[str, Mapping[str, float]], search: str
) -> str:
    """Everything x 100 but the claims, which are counts."""
    rows: list[tuple[str, Callable[[str], float]]] = [
        *[(name, lambda split, name=name: 100 * scored[split].corpus[name]) for name in ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr")],
        *[(f"  {name} of a sixth caption", lambda split, name=name: 100 * sixth[split][name]) for name in ("BLEU-4", "ROUGE-L", "CIDEr")],
        ("captions true of their scene", lambda split: 100 * scored[split].truth["true"]),
        ("  references", lambda split: 100 * controls[split]["true"]),
        ("  references of other scenes", lambda split: 100 * controls[split]["shuffled"]),
        ("claims a caption", lambda split: scored[split].truth["claims"]),
        ("  a reference", lambda split: controls[split]["claims"]),
        ("peak of an object word's map in its box", lambda split: 100 * scored[split].pointing["peak"]),
        ("  of words that name something there", lambda split: 100 * scored[split].named["peak"]),
        ("  uniform map", lambda split: 100 * scored[split].pointing["uniform"]),
        ("  peak at the centre", lambda split: 100 * scored[split].pointing["centre"]),
        ("entropy of a word's map, of an even one's", lambda split: 100 * scored[split].health.entropy),
    ]
    lines = [f"{name:<42}{spelt(value('val')):>8}{spelt(value('test')):>22}" for name, value in rows]
    head = f"{search}, free-running (x 100, claims aside)"
    return "\n".join(["", f"{head:<42}{'val':>8}{'unseen combinations':>22}", *lines])


def spelt(value: float) -> str:
    """A figure of the table; a mean over nothing is none."""
    return "none" if math.isnan(value) else f"{value:.1f}"
