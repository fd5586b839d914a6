"""`make demo`: draw scenes, train on them, score, caption held-out scenes, write the gallery, and print the seconds of each stage."""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioner.cli.arguments import positive_number
from captioner.cli.help import Formatter, Parser, texts, usage
from captioner.cli.searching import with_beam_width
from captioner.errors import InputError
from captioner.json_files import write_json
from captioner.model import Captioner
from captioner.saved_models import example_photos, pretrained_names
from captioner.scenes.scoring import SplitScores, reference_truth, score_extra_captions, score_split

GALLERY = {"val": 16, "test": 8}
"""Held-out scenes in the gallery, by split."""
EXAMPLES = [
    ("captioner demo", "minutes on two cores"),
    ("captioner demo data.train=5000 trainer.max_epochs=2 seed=1", "fewer scenes and epochs, another seed"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; words other than options are overrides as of `captioner train`. Raises: InputError, as train and predict do."""
    from captioner.cli import train

    options, overrides = parser().parse_known_args(sys.argv[1:] if arguments is None else arguments)
    seconds: dict[str, float] = {}
    train.set_up_logging()
    with timed(seconds, "drawing"):
        own = ["callbacks.writer.latest=null"]  # a model of drawn scenes is not what `predict photo.jpg` should take
        config, _ = train.configure(["experiment=scenes", *own, *overrides], "demo")
        source = scenes_source(config)
        splits = source.splits()
        summary = source.draw()
    print(summary_lines(summary))
    with timed(seconds, "training"):
        code = train.run(config, None)
    if code:
        return code
    folder = Path(config.run_folder)
    captioner = Captioner.load(folder)
    search = with_beam_width(captioner.search, options.beam)
    with timed(seconds, "scoring"):
        scores = {split: score_split(captioner, splits[split], source.scenes[split], search) for split in ("val", "test")}
        extra = {split: score_extra_captions(source.extra_captions[split], splits[split]) for split in ("val", "test")}
        controls = {split: reference_truth(splits[split], source.scenes[split]) for split in ("val", "test")}
    print(table(scores, extra, controls, str(search)))
    gallery = folder / "gallery"
    with timed(seconds, "gallery"):
        images = [str(splits[split].path(i)) for split, number in GALLERY.items() for i in range(min(number, len(splits[split])))]
        code = write_gallery(gallery, captioner, search, images)
    record = {split: {**s.corpus, **s.truth, **{f"pointing_{k}": v for k, v in s.pointing.items()}} for split, s in scores.items()}
    write_json(folder / "results" / "demo.json", {"seconds": seconds, **record})
    print("\nseconds   " + "   ".join(f"{name} {value:.0f}" for name, value in seconds.items()) + f"   in all {sum(seconds.values()):.0f}")
    print(f"the model        {folder / 'model'}\nthe numbers      {folder / 'results'}\nthe gallery      {gallery / 'index.html'}")
    print(f"your own scene   captioner predict PICTURE --model {folder} --out captioned")
    if pretrained_names():
        print("your own photo   captioner predict PHOTO --out captioned")
    return code


def write_gallery(folder: Path, captioner: Captioner, search: Any, scenes: list[str]) -> int:
    """Caption held-out scenes, and photographs by the model in the package; return how many images failed."""
    from captioner.cli import predict
    from captioner.cli.inputs import result_names
    from captioner.cli.results import Results

    photos = [str(path) for path in example_photos()] if pretrained_names() else []
    names = result_names([*scenes, *photos])
    options = predict.parser().parse_args([*scenes, "--out", str(folder)])
    predict.check(options)
    with Results(folder, options.save, None, "Captions") as results:
        first = predict.with_word_ids(captioner, search)
        failed = predict.caption_all(captioner, first, scenes, names[: len(scenes)], results, options)
        if photos:
            of_photos = Captioner.load(pretrained_names()[0])
            its_own = predict.with_word_ids(of_photos, of_photos.search)
            failed += predict.caption_all(of_photos, its_own, photos, names[len(scenes) :], results, options)
    return min(failed, 1)


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="captioner demo",
        usage=usage("captioner demo [KEY=VALUE ...] [--beam N]"),
        description=texts(
            "Draws scenes with captions and masks, trains the soft-attention captioner on them, scores it, captions scenes that it has not "
            "seen, and writes the gallery. Other words are overrides, as of `captioner train`."
        ),
        epilog=texts(EXAMPLES),
        formatter_class=Formatter,
    )
    parser.add_argument(
        "--beam", type=positive_number, metavar="N", help="beams of the search (left out: the search of the recipe, a beam of 3)"
    )
    return parser


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 1)


def scenes_source(config: Any) -> Any:
    """The data source of a composed configuration. Raises: InputError, it is not drawn scenes."""
    from captioner.scenes.scenes import Scenes
    from captioner.training.configuration import plain
    from captioner.training.run_parts import build_source

    source = build_source(plain(config))
    if not isinstance(source, Scenes):
        raise InputError("the demo is about drawn scenes; for other data use captioner train and captioner predict")
    return source


def summary_lines(summary: Mapping[str, Any]) -> str:
    images = ", ".join(f"{count:,} {split}" for split, count in summary["images"].items())
    return (
        f"drawn scenes: {images}; combinations that training never shows: {', '.join(summary['unseen_combinations'])}\n"
        f"leave-one-out BLEU-4 of the references {100 * summary['references_BLEU-4']:.1f} (x 100); "
        f"boxes cover {100 * summary['covered']:.1f} % of the image"
    )


def table(
    scores: Mapping[str, SplitScores], extra: Mapping[str, Mapping[str, float]], controls: Mapping[str, Mapping[str, float]], search: str
) -> str:
    """Everything is x 100 but the claims, which are counts."""
    rows: list[tuple[str, Callable[[str], float]]] = [
        *[(name, lambda split, name=name: 100 * scores[split].corpus[name]) for name in ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr")],
        *[(f"  {name} of a sixth caption", lambda split, name=name: 100 * extra[split][name]) for name in ("BLEU-4", "ROUGE-L", "CIDEr")],
        ("captions true of their scene", lambda split: 100 * scores[split].truth["true"]),
        ("  references", lambda split: 100 * controls[split]["true"]),
        ("  references of other scenes", lambda split: 100 * controls[split]["shuffled"]),
        ("claims per caption", lambda split: scores[split].truth["claims"]),
        ("  per reference", lambda split: controls[split]["claims"]),
        ("peak of an object word's map in its box", lambda split: 100 * scores[split].pointing["peak"]),
        ("  of words that name something there", lambda split: 100 * scores[split].named["peak"]),
        ("  uniform map", lambda split: 100 * scores[split].pointing["uniform"]),
        ("  peak at the centre", lambda split: 100 * scores[split].pointing["centre"]),
        ("entropy of a word's map, of an even one's", lambda split: 100 * scores[split].health.entropy),
    ]
    lines = [f"{name:<42}{percentage(value('val')):>8}{percentage(value('test')):>22}" for name, value in rows]
    head = f"{search}, free-running (x 100, claims aside)"
    return "\n".join(["", f"{head:<42}{'val':>8}{'unseen combinations':>22}", *lines])


def percentage(value: float) -> str:
    """A figure of the table; a mean over nothing is printed as none."""
    return "none" if math.isnan(value) else f"{value:.1f}"
