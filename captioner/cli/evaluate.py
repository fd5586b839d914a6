"""`captioner evaluate`: scores of a results file, or of a model, against the captions of an annotation file."""

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.atomic_files import check_writable
from captioner.cli.arguments import add_batch_size, add_device, add_json, command_parser, split_list, whole_number
from captioner.cli.report import sentences, table
from captioner.cli.searching import add_search, kind_of, make_search, search_flags, with_word_ids
from captioner.data.captions import CaptionSet, read_coco_captions, read_references
from captioner.errors import InputError, one_line
from captioner.ids import ImageKey
from captioner.json_files import write_json
from captioner.metrics.diversity import diversity
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.ngrams import References
from captioner.metrics.scores import EVERY, METRICS, Scorer
from captioner.metrics.systems import (
    System,
    common_images,
    compare_systems,
    drop_images,
    read_system,
    score_record,
    warn_of_empty_captions,
)
from captioner.progress import progress
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)

ORDER = 4
FEWEST = 20
"""Resamples with which p can fall below 0.05."""

USAGE = (
    "captioner evaluate RESULTS.json ANNOTATIONS.json [options]",
    "captioner evaluate --model MODEL ANNOTATIONS.json --images DIR [options]",
)

RULES = """rules:
  RESULTS is a list [{"image_id": 1, "caption": "a dog runs"}, ...], ANNOTATIONS a file in COCO captions format.
  Every image that has references needs exactly one caption. A missing caption is an error (with --partial the others are scored, and \
CIDEr counts its document frequencies over these), and so is an image that has two captions, or no reference.
  A caption without words is scored as it is: 0.
  References marked is_rejected or is_precanned, as VizWiz has them, are left out, which a line says (--keep-rejected keeps them). Ids \
are whole numbers of any size, or strings; 12, 12.0 and "12" are one image.
  With --model, an image that is absent or cannot be read is named and left out, the others are scored, and the exit code is 1 \
(with --partial absent images are not asked for).
  A metric that cannot run here is left out of table and file, and a line says why. CIDEr is coco-caption's, which is CIDEr-D.
  The table shows scores and shares x 100, the vocabulary as a number of words, and the length in words; the file holds fractions.

  95 % intervals: percentile bootstrap over images. CIDEr keeps its document frequencies, so its interval is for these.
  --compare resamples the images for both systems together. p is how often two equally good systems would differ by as much or more \
(approximate randomization, two-sided): below 0.05 a system is called better, else the difference may be noise. Each score is tested by \
itself: of twenty scores of equal systems, one will be called different. With few images the interval is too narrow, and p decides.
  --diversity: distinct-1 and -2 (different words and bigrams a word), self-BLEU (each caption against all others), vocabulary, \
length, captions not among the training captions, captions that end in a function word ("a dog on the"), captions with <unk>."""
CODES = "exit codes: 0 scored; 1 scored without the images that failed; 2 the command line or a file is wrong"
EXAMPLES = [
    ("captioner evaluate outputs/latest/results/captions_val.json annotations/captions_val2017.json", "score what a run has said"),
    ("captioner evaluate results.json captions_val2017.json --metrics bleu,cider,meteor --json scores.json", "some metrics, and a file"),
    ("captioner evaluate results.json captions_val2017.json --compare others.json", "say which of two systems is better"),
    (
        "captioner evaluate results.json captions_val2017.json --diversity --training-captions captions_train2017.json",
        "say how much captions repeat one another, and the training captions",
    ),
    (
        "captioner evaluate --model outputs/latest/model captions_val2017.json --images val2017 --beam 5 --results results.json",
        "caption images by a model, then score",
    ),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit codes: 0 scored; 1 scored without the images that could not be captioned."""
    options = parse(arguments)
    metrics = choose_metrics(options.metrics)
    annotations = options.files[-1]
    rejected = "keep" if options.keep_rejected else "skip"
    references, without = read_references(annotations, rejected=rejected)
    frequencies = None if options.df is None else read_frequencies(options.df)
    training = None if options.training_captions is None else read_training_captions(options.training_captions, rejected)
    others = [] if options.compare is None else [read_system(options.compare)]
    systems = [read_system(options.files[0]) if options.model is None else from_model(annotations, references, options), *others]
    failed = systems[0].failed
    if failed and not systems[0].captions:
        log.error("no image could be captioned; there is nothing to score")
        return 1
    systems = [drop_images(system, without, annotations) for system in systems]
    images = common_images(systems, references, annotations, options.partial)
    scorer = Scorer({image: references[image] for image in images}, metrics, frequencies)
    if options.save_df is not None:
        (frequencies or DocumentFrequencies.of(scorer.references)).save(options.save_df)
    reports, parts = [], []
    for system in systems:
        tokens = [tokenize(system.captions[image]) for image in images]
        warn_of_empty_captions(system, [image for image, words in zip(images, tokens, strict=True) if not words])
        parts.append(scorer.of_tokens(tokens))
        more = {"diversity": diversity(tokens, training)} if options.diversity or training is not None else {}
        if not parts[-1]:
            raise InputError(f"--metrics {options.metrics}: none of them can be had here")
        reports.append(score_record(parts[-1], len(images), options.bootstrap, options.seed or 0) | more | system.about)
    record = reports[0] | {"annotations": str(annotations)} | ({"failed": failed} if failed else {})
    if others:
        record |= {"compare": reports[1], "differences": compare_systems(parts[0], parts[1], options.bootstrap, options.seed or 0)}
    print(table(record, len(references)))
    for line in sentences(record, [system.name for system in systems]):
        print(line)
    if options.json is not None:
        write_json(options.json, record)
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    options, others = parser.parse_known_args(arguments)
    numbers = [word for word in (*map(str, options.files), *others) if is_number(word)]
    if numbers and options.diversity:
        parser.error(f"--diversity {numbers[0]}: here it takes no value; the penalty of --search diverse is --diversity-penalty")
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if options.model is None and (len(options.files) != 2 or options.images is not None or options.results is not None):
        parser.error("give RESULTS.json and ANNOTATIONS.json, or --model MODEL with ANNOTATIONS.json and --images DIR")
    if options.model is not None and (len(options.files) != 1 or options.images is None):
        parser.error("--model needs one file, ANNOTATIONS.json, and --images DIR, the folder of its images")
    if options.model is None and search_flags(options):
        parser.error(f"{search_flags(options)[0]} finds captions: give --model MODEL as well, or leave it out")
    if options.compare is not None and options.bootstrap < FEWEST:
        parser.error(f"--compare needs --bootstrap {FEWEST} or more: with fewer resamples no difference can be told from noise")
    read = [*options.files, options.compare, options.df, options.training_captions]
    for name in ("json", "results", "save_df"):
        path = getattr(options, name)
        taken = [os.path.realpath(other) for other in read if other is not None]
        if path is not None and (path.is_dir() or os.path.realpath(path) in taken):
            parser.error(
                f"--{name.replace('_', '-')} {path} is {'a folder' if path.is_dir() else 'read by this command'}; name another file"
            )
        if path is not None:
            check_writable(path.parent, f"--{name.replace('_', '-')}")
        read.append(path)
    return options


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def make_parser() -> argparse.ArgumentParser:
    about = "Scores captions: those of a file, or those that a model finds now."
    parser = command_parser("evaluate", USAGE, about, RULES, CODES, EXAMPLES)
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="RESULTS.json ANNOTATIONS.json; with --model only ANNOTATIONS.json")
    add("--metrics", default=",".join(METRICS), help=f"some of {','.join(EVERY)} (default: %(default)s)")
    add("--partial", action="store_true", help="score the captions that are there, though others are missing")
    add("--keep-rejected", action="store_true", help="score against captions marked is_rejected or is_precanned (VizWiz), too")
    add("--compare", type=Path, metavar="OTHER", help="another system's results: which is better, and is it noise")
    add("--diversity", action="store_true", help="how diverse and how healthy the captions are, without references")
    add("--training-captions", type=Path, metavar="FILE", help="COCO captions: --diversity, and the share of captions not among these")
    add("--bootstrap", type=whole_number, default=1000, metavar="N", help="resamples for intervals and --compare; 0: none (%(default)s)")
    add("--seed", type=whole_number, metavar="N", help="of the resamples, and of what --search sample draws (default: 0)")
    add("--df", type=Path, metavar="FILE", help="CIDEr's document frequencies: saved ones (.npz), or COCO captions to count (.json)")
    add("--save-df", type=Path, metavar="FILE", help="save the document frequencies (.npz)")
    add_json(parser, "the scores")
    model = parser.add_argument_group("captioning first")
    add = model.add_argument
    add("--model", type=Path, help="a model folder, a run's folder or a .ckpt: caption the images, then score")
    add("--images", type=Path, metavar="DIR", help="the folder of the annotations' images")
    add_batch_size(model, 16)
    add_device(model)
    add("--results", type=Path, metavar="FILE", help="write the captions in the COCO results format")
    add_search(parser, "of --search sample: draw N captions of each image and take the best", also=False)
    return parser


def choose_metrics(text: str) -> list[str]:
    names = [name.lower() for name in split_list(text)]
    for name in names:
        if name not in EVERY:
            raise InputError(f"--metrics: there is no metric {name!r}; choose from {', '.join(EVERY)}")
    if not names:
        raise InputError(f"--metrics: no metric is named; choose from {', '.join(EVERY)}")
    return [name for name in EVERY if name in names]


def read_frequencies(path: Path) -> DocumentFrequencies:
    """Saved document frequencies, or those of the captions in a file in COCO captions format (.json)."""
    if path.suffix.lower() == ".json":
        captions = read_references(path, "captions for document frequencies").captions
        return DocumentFrequencies.of(References([[tokenize(text) for text in texts] for texts in captions.values()], ORDER))
    found = DocumentFrequencies.load(path)
    if len(found.counts) != ORDER:
        raise InputError(f"{path}: document frequencies of n-grams up to {len(found.counts)} words; CIDEr needs up to {ORDER}")
    return found


def read_training_captions(path: Path, rejected: str) -> list[list[str]]:
    """The tokens of every caption of a file in COCO captions format."""
    captions_of_images = read_references(path, "training captions", rejected).captions.values()
    return [tokenize(caption) for captions in captions_of_images for caption in captions]


def from_model(annotations: Path, references: Mapping[ImageKey, Sequence[str]], options: argparse.Namespace) -> System:
    """Captions of all images that can be read, written to --results."""
    images = read_coco_captions(annotations, options.images, missing="skip", rejected="keep" if options.keep_rejected else "skip")
    model, search = load_with_search(options)
    captions = caption_all(model, with_word_ids(model, search), images, options.batch_size)
    asked = images.keys if options.partial else list(references)
    about = {"model": str(options.model), "search": str(search)}
    if options.results is not None and captions:
        spelt = dict(zip(images.keys, images.image_ids, strict=True))
        write_json(options.results, [{"image_id": spelt[image], "caption": said} for image, said in captions.items()], indent=None)
    return System(str(options.model), captions, about, [image for image in asked if image not in captions])


def load_with_search(options: argparse.Namespace) -> tuple[Any, Any]:
    """The model, and its own search with what the flags change. Raises: InputError, no model, or a flag is refused."""
    from captioner.cli.predict import load_models  # here, so that scoring a results file needs neither torch nor an image library

    model = load_models([options.model], options.device)
    if options.search == "sample" and options.seed is None:
        options.seed = 0
    search = make_search(options, model.search)
    if options.captions is not None and kind_of(search) != "sample":
        raise InputError("--captions belongs to --search sample; of every other search the best caption is scored in any case")
    log.info("captions are found by %s", search)
    return model, search


def caption_all(model: Any, search: Any, images: CaptionSet, batch_size: int) -> dict[ImageKey, str]:
    """A caption by image of each image that can be read; the others are named."""
    from captioner.data.image_batches import open_batches

    captions: dict[ImageKey, str] = {}
    keys = images.keys
    for opened, refused in open_batches(progress(range(len(images)), "captioning", total=len(images)), images.path, batch_size):
        for error in refused.values():
            log.warning("%s; it is left out", error)
        for index, said in caption_batch(model, search, opened, images).items():
            captions[keys[index]] = said
    return captions


def caption_batch(model: Any, search: Any, opened: Mapping[int, Any], images: CaptionSet) -> dict[int, str]:
    """Together; where that fails, one by one, so that one image does not take the others with it."""
    if not opened:
        return {}
    try:
        said = model.caption(list(opened.values()), search=search, batch_size=len(opened))
        return {index: caption.text for index, caption in zip(opened, said, strict=True)}
    except (RuntimeError, ValueError) as error:
        if len(opened) > 1:
            return {i: said for index in opened for i, said in caption_batch(model, search, {index: opened[index]}, images).items()}
        log.warning("%s: %s; it is left out", images.path(next(iter(opened))), one_line(error))
        return {}
