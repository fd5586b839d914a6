"""`captioner evaluate`: scores of a results file, or of a model, against the captions of an annotation file."""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.data.captions import CaptionSet, read_coco_captions, read_references
from captioner.errors import InputError
from captioner.files import read_json, write_whole
from captioner.metrics.scores import METRICS, score, some
from captioner.progress import progress
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)

LATER = {"meteor": "METEOR", "spice": "SPICE"}

USAGE = """captioner evaluate RESULTS.json ANNOTATIONS.json [--metrics bleu,rouge,cider] [--partial] [--json FILE]
       captioner evaluate --model MODEL ANNOTATIONS.json --images DIR [--beam 3] [--batch-size 16] [--device auto] [--results FILE] ..."""

RULES = """rules:
  RESULTS is a list [{"image_id": 1, "caption": "a dog runs"}, ...], ANNOTATIONS a file in COCO captions format.
  Every image that has references needs exactly one caption: a missing one is an error (--partial scores those that are there, and
  CIDEr then counts its document frequencies over these), so is an image captioned twice, or one without references.
  A caption without words is scored as it is: 0.
  The table shows scores x 100, the JSON file fractions. CIDEr is coco-caption's, which is CIDEr-D.

examples:
  captioner evaluate outputs/latest/results/captions_val.json data/annotations/captions_val2017.json
  captioner evaluate results.json captions_val2017.json --metrics cider --json scores.json
  captioner evaluate --model outputs/latest/model captions_val2017.json --images val2017 --beam 5 --results results.json"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 scored; 1 scored without the images that could not be read (`--partial`)."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    metrics = choose_metrics(options.metrics)
    if options.model is None:
        if len(options.files) != 2 or options.images is not None:
            parser.error("give RESULTS.json and ANNOTATIONS.json, or --model MODEL with ANNOTATIONS.json and --images DIR")
        results, annotations = options.files
        references = read_references(annotations)
        captions, failed = read_results(results), 0
        about: dict[str, Any] = {"results": str(results)}
    else:
        if len(options.files) != 1 or options.images is None:
            parser.error("--model needs one file, ANNOTATIONS.json, and --images DIR, the folder of its images")
        annotations = options.files[0]
        images = read_coco_captions(annotations, options.images, missing="skip" if options.partial else "error")
        references = read_references(annotations)
        captions, failed = caption_all(images, options)
        failed += len(references) - len(images)
        about = {"model": str(options.model), "search": f"beam {options.beam}"}
        if options.results is not None:
            write_whole(options.results, json.dumps([{"image_id": image, "caption": said} for image, said in captions.items()]) + "\n")
    check_coverage(captions, references, str(about.get("results", "captions")), annotations, options.partial)
    scores = score(captions, references, metrics)
    print(table(scores))
    if options.json is not None:
        write_whole(options.json, json.dumps(scores | about | {"annotations": str(annotations)}, indent=1) + "\n")
    return 1 if failed else 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "captioner evaluate", USAGE, "Score captions.", RULES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="RESULTS.json ANNOTATIONS.json; with --model only ANNOTATIONS.json")
    add("--metrics", default=",".join(METRICS), help="some of bleu,rouge,cider,meteor,spice (default: %(default)s)")
    add("--partial", action="store_true", help="score the captions that are there, though others are missing")
    add("--json", type=Path, metavar="FILE", help="write the scores, as fractions")
    model = parser.add_argument_group("captioning first")
    add = model.add_argument
    add("--model", type=Path, help="a model folder, a run's folder or a .ckpt: caption the images, then score")
    add("--images", type=Path, metavar="DIR", help="the folder of the annotations' images")
    add("--beam", type=positive, default=3, help="beam width (default: %(default)s)")
    add("--batch-size", type=positive, default=16, help="images at a time (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, mps or auto (default)")
    add("--results", type=Path, metavar="FILE", help="write the captions in the COCO results format")
    return parser


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is expected, not {text!r}")
    return int(text)


def choose_metrics(text: str) -> list[str]:
    """Names to score by; those that cannot be had are left out and named on standard error."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in METRICS and name not in LATER:
            raise InputError(f"--metrics: there is no metric {name!r}; choose from {', '.join([*METRICS, *LATER])}")
        if name in LATER:
            log.warning("%s is left out: this version does not compute it", LATER[name])
    chosen = [name for name in METRICS if name in names]
    if not chosen:
        raise InputError(f"--metrics: no metric is left to compute; choose from {', '.join(METRICS)}")
    return chosen


def read_results(path: Path) -> dict[int, str]:
    """Image id -> caption from a file in the COCO results format. Raises: InputError, the first thing wrong, by file and key."""
    record = read_json(path, "caption results")
    if not isinstance(record, list):
        raise InputError(f'{path}: expected a list [{{"image_id": 1, "caption": "..."}}, ...], found {kind(record)}')
    if not record:
        raise InputError(f"{path}: the list of results is empty")
    captions: dict[int, str] = {}
    for index, entry in enumerate(record):
        if not isinstance(entry, dict):
            raise InputError(f"{path}: entry [{index}] must be an object with `image_id` and `caption`, found {kind(entry)}")
        for key, expected, name in (("image_id", int, "a whole number"), ("caption", str, "a string")):
            if key not in entry:
                raise InputError(f"{path}: entry [{index}] has no `{key}`")
            if not isinstance(entry[key], expected) or isinstance(entry[key], bool):
                raise InputError(f"{path}: [{index}].{key} must be {name}, found {kind(entry[key])}")
        if entry["image_id"] in captions:
            raise InputError(f"{path}: [{index}].image_id is {entry['image_id']}, which has a caption already; give one caption an image")
        captions[entry["image_id"]] = entry["caption"]
    return captions


def kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(type(value), "null")


def check_coverage(
    captions: Mapping[int, str], references: Mapping[int, Sequence[str]], name: str, annotations: Path, partial: bool
) -> None:
    """Hold the images captioned against those with references; log what the stated rules make of the rest."""
    unknown = [image for image in captions if image not in references]
    if unknown:
        raise InputError(f"{name}: images without a reference in {annotations}: {some(unknown)} of {len(captions)}")
    missing = [image for image in references if image not in captions]
    if missing and not (partial and captions):
        raise InputError(f"{name}: images without a caption: {some(missing)} of {len(references)}; --partial scores the others")
    if missing:
        log.warning("partial: %d of %d images have a caption and are scored", len(captions), len(references))
    empty = [image for image, caption in captions.items() if not tokenize(caption)]
    if empty:
        log.warning("captions without a word, which score 0: images %s", some(empty))


def caption_all(images: CaptionSet, options: argparse.Namespace) -> tuple[dict[int, str], int]:
    """Captions of all images, and how many could not be read (only with `--partial`, otherwise the first one is the error)."""
    from captioner.cli.predict import load  # here, so that scoring a results file needs neither torch nor an image library
    from captioner.data.images import open_image
    from captioner.model import batches

    model = load(options.model, options.device)
    captions: dict[int, str] = {}
    failed = 0
    for batch in batches(progress(range(len(images)), "captioning", total=len(images)), options.batch_size):
        opened = {}
        for index in batch:
            try:
                opened[int(images.image_ids[index])] = open_image(images.path(index))
            except InputError as error:
                if not options.partial:
                    raise
                log.warning("%s; it is left out", error)
                failed += 1
        if opened:
            said = model.caption(list(opened.values()), beam=options.beam, batch_size=options.batch_size)
            captions |= {image: caption.text for image, caption in zip(opened, said, strict=True)}
    return captions, failed


def table(scores: Mapping[str, float]) -> str:
    """One row under its names, x 100 but for the number of images."""
    cells = {name: f"{value:.0f}" if name == "images" else f"{100 * value:.1f}" for name, value in scores.items()}
    widths = {name: max(len(name), len(cell)) for name, cell in cells.items()}
    return "\n".join("  ".join(texts[name].rjust(widths[name]) for name in cells) for texts in ({name: name for name in cells}, cells))
