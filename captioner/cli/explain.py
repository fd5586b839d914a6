"""`captioner explain`: do the maps of object words lie on the objects? Against boxes and masks, beside maps that know nothing."""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from captioner.atomic_files import check_writable, write_atomically
from captioner.cli.help import Formatter, Parser, texts, usage
from captioner.cli.predict import load_models, print_error, split_list
from captioner.cli.report import aligned, hundredth, interval
from captioner.cli.searching import count, natural, with_beam
from captioner.data.captions import CaptionSet, read_coco_captions, read_references
from captioner.data.image_batches import open_batches
from captioner.data.images import original_size
from captioner.data.instances import Instance, fit_to_photo, read_instances_and_sizes
from captioner.data.object_words import PhraseFinder, category_phrases
from captioner.errors import InputError
from captioner.ids import ImageKey
from captioner.progress import progress
from captioner.scenes.truth import names_in_scenes, read_scenes
from captioner.tokenizer import tokenize

CAPTIONS = ("generated", "references")
LABELS = {
    "pointing_box": "peak in the box",
    "pointing_mask": "peak in the mask",
    "correctness": "share inside the box, best word of a phrase",
    "correctness_noun": "share inside the box, the noun",
    "iou": "localisation, IoU",
    "localised": "localisation, IoU of 0.5 or more",
}
FAITH = {
    "deletion": "p of the word while pixels go, area (low is good)",
    "insertion": "p of the word while pixels come, area",
    "hidden": "what hiding the peak costs log p",
    "chance": "  hiding as much anywhere",
    "agreement": "rank correlation with the first map",
}
RULES = """Words of a caption that name one of COCO's 80 categories (plurals and synonyms too), or with --scenes the phrases that name a \
drawn object, are compared with the boxes and masks of such objects in the image. Each number is a mean over words, with a 95 % bootstrap \
interval over images. Three baselines know nothing of the image: a uniform map, a map at the centre, and maps of the same class from other \
images (shuffled). For localisation a map is cut at a share of its highest value: at each class's own, chosen on training images \
(--train-...), or at --threshold."""
EXAMPLES = [
    (
        "captioner explain outputs/latest --annotations instances_val2017.json --captions captions_val2017.json --images val2017",
        "photos with COCO's boxes and masks",
    ),
    (
        "captioner explain outputs/latest --annotations instances_val.json --captions captions_val.json --images val "
        "--scenes scenes_val.json --train-annotations instances_train.json --train-captions captions_train.json --train-images train "
        "--train-scenes scenes_train.json",
        "drawn scenes; the training scenes choose where a map is cut",
    ),
    (
        "captioner explain outputs/latest --annotations instances_val2017.json --captions captions_val2017.json --images val2017 "
        "--explain attention,gradcam,jacobian --of generated --faithfulness --limit 200 --json grounding.json",
        "other explanations too, of generated captions, and what hiding a place does to the word",
    ),
]
CODES = "exit codes: 0 done; 1 some images failed, each is named on standard error, the rest is done; 2 the command line or a file is wrong"


class Source(NamedTuple):
    """Images with captions, their objects, and which words name them."""

    captions: CaptionSet
    instances: Mapping[ImageKey, Sequence[Instance]]
    sizes: Mapping[ImageKey, tuple[int, int]]
    """(width, height) that the objects were marked at, where the file says it."""
    names: PhraseFinder
    absent: list[ImageKey]
    """Images that are listed and not on disk."""


class Gathered(NamedTuple):
    """What one pass over a source found."""

    words: dict[str, dict[str, list[Any]]]
    """Kind of caption -> explanation -> object words."""
    left_out: dict[str, Counter[str]]
    places: dict[ImageKey, Any]
    failed: list[ImageKey]
    faith: list[Any]
    scaled: list[str]
    """Photos of another size than the annotations say, but of the same shape."""
    misfits: list[str]
    """Of another shape: the first words of a complaint."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Raises: InputError, usage or configuration."""
    options = parser().parse_args(arguments)
    check(options)
    scenes = options.scenes or [None] * len(options.annotations)
    splits = zip(options.annotations, options.captions, options.images, scenes, strict=True)
    sources = [read_source(*files, options.limit) for files in splits]
    twice = [image for image, times in Counter(key for source in sources for key in source.captions.keys).items() if times > 1]
    if twice:
        raise InputError(f"--captions: image {twice[0]} is in several of the splits; give each image once")
    training = None
    if options.train_annotations:
        given = (options.train_annotations, options.train_captions, options.train_images, options.train_scenes)
        training = [read_source(*given, options.train_limit)]
    captioner = load_models([options.model], options.device)
    options.search = with_beam(captioner.search, options.beam)
    found = gather(captioner, sources, options, options.faithfulness)
    learnt = None if training is None else gather(captioner, training, options)
    if not found.places:
        print_error("no image could be captioned; there is nothing to score")
        return 1
    record = report(found, learnt, options)
    print(shown(record))
    if options.json:
        write_atomically(options.json, json.dumps(record, indent=1) + "\n")
    return 1 if found.failed else 0


def parser() -> argparse.ArgumentParser:
    asked = Parser(
        prog="captioner explain",
        usage=usage("captioner explain MODEL --annotations FILE ... --captions FILE ... --images DIR ... [other options]"),
        description=texts("Measures whether the maps of words that name objects lie on these objects."),
        epilog=texts(RULES, EXAMPLES, CODES),
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    add = asked.add_argument
    add("model", type=Path, metavar="MODEL", help="a model/ folder, a run's folder or a .ckpt")
    files: dict[str, Any] = {"type": Path, "nargs": "+", "metavar": "FILE"}
    add("--annotations", required=True, **files, help="COCO instances: boxes and masks; several files, of several splits, as one set")
    add("--captions", required=True, **files, help="COCO captions of the same images, a file for each")
    add("--images", required=True, **{**files, "metavar": "DIR"}, help="the folder of the images of each")
    add("--scenes", **files, help="the truth of drawn scenes, scenes_*.json: says which object a phrase names")
    add(
        "--explain", default="attention", metavar="KINDS", help="maps: attention,gradcam,jacobian,smoothgrad,integrated_gradients,occlusion"
    )
    add("--of", default=",".join(CAPTIONS), metavar="CAPTIONS", help=f"whose words: {' and '.join(CAPTIONS)} (both)")
    add("--beam", type=count, metavar="N", help="beam width of generated captions (left out: the model's own search)")
    add("--limit", type=count, metavar="N", help="only the first N images of each split")
    add("--faithfulness", action="store_true", help="also what hiding and showing does to the words' probabilities, of generated captions")
    add("--json", type=Path, metavar="FILE", help="write every number, as fractions")
    add("--batch-size", type=count, default=32, metavar="N", help="images at a time (32)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    add("--bootstrap", type=natural, default=1000, metavar="N", help="resamples for the intervals; 0: none (1000)")
    add("--seed", type=natural, default=0, metavar="N", help="of the resamples and of the shuffled images (0)")
    add = asked.add_argument_group("where a map is cut for localisation").add_argument
    add(
        "--threshold", type=share, metavar="SHARE", help="of a map's highest value, the same for all classes (0.5, without training images)"
    )
    add("--train-annotations", type=Path, metavar="FILE", help="instances of training images: each class has its own threshold")
    add("--train-captions", type=Path, metavar="FILE", help="their captions")
    add("--train-images", type=Path, metavar="DIR", help="their folder")
    add("--train-scenes", type=Path, metavar="FILE", help="their truth, of drawn scenes")
    add("--train-limit", type=count, default=500, metavar="N", help="only the first N of them (500)")
    return asked


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is read; `explain` and `of` become lists."""
    from captioner.explain.kinds import KINDS

    for name, known in (("explain", tuple(KINDS)), ("of", CAPTIONS)):
        asked = list(dict.fromkeys(split_list(getattr(options, name))))
        strange = [kind for kind in asked if kind not in known]
        if strange or not asked:
            raise InputError(f"--{name} {getattr(options, name)}: {(strange or ['nothing'])[0]!r} is not among {', '.join(known)}")
        setattr(options, name, asked)
    counts = {name: len(getattr(options, name)) for name in ("annotations", "captions", "images", "scenes") if getattr(options, name)}
    if len(set(counts.values())) > 1:
        raise InputError(f"one file of each kind for every split, not {', '.join(f'{number} --{name}' for name, number in counts.items())}")
    given = [name for name in ("annotations", "captions", "images") if getattr(options, f"train_{name}")]
    if given and len(given) < 3:
        raise InputError(f"--train-{given[0]}: give --train-annotations, --train-captions and --train-images together")
    if given and options.threshold is not None:
        raise InputError("--threshold: the training images choose the thresholds; give one or the other")
    if options.train_scenes and not given:
        raise InputError("--train-scenes: give --train-annotations, --train-captions and --train-images, too")
    if given and bool(options.train_scenes) != bool(options.scenes):
        raise InputError("--scenes and --train-scenes: of drawn scenes give both, of photos neither")
    if options.faithfulness and "generated" not in options.of:
        raise InputError("--faithfulness is of generated captions; let --of hold them")
    if options.json and options.json.is_dir():
        raise InputError(f"--json {options.json} is a folder; name a file")
    if options.json:
        check_writable(options.json.parent, "--json")


def read_source(annotations: Path, captions: Path, images: Path, scenes: Path | None, limit: int | None) -> Source:
    """Raises: InputError, a file is wrong, or the files are of different images."""
    spoken = read_coco_captions(captions, images, missing="skip")
    instances, sizes = read_instances_and_sizes(annotations)
    known = [index for index, key in enumerate(spoken.keys) if key in instances]
    if not known:
        raise InputError(f"{annotations}: lists none of the images of {captions}; give the instances of the same images")
    if len(known) < len(spoken):
        print_error(f"{annotations}: does not list {len(spoken) - len(known)} of {len(spoken)} images of {captions}; they are left out")
    chosen = spoken.select(known[:limit])
    there = set(spoken.keys)
    absent = [] if limit else [key for key in read_references(captions).captions if key not in there]
    if scenes is None:
        return Source(chosen, instances, sizes, category_phrases(instances), absent)
    _, truths = read_scenes(scenes)
    for image in chosen.keys:
        if image not in truths or len(truths[image]["objects"]) != len(instances[image]):
            raise InputError(f"{scenes}: is not of the images of {annotations} (image {image}); give the files of one split")
    return Source(chosen, instances, sizes, names_in_scenes(scenes), absent)


def gather(captioner: Any, sources: Sequence[Source], options: argparse.Namespace, faithful: bool = False) -> Gathered:
    """Caption, force, and keep the maps of object words, batch by batch; where a batch fails, its images are tried alone."""
    words: dict[str, dict[str, list[Any]]] = {of: {kind: [] for kind in options.explain} for of in options.of}
    found = Gathered(words, {of: Counter() for of in options.of}, {}, [image for source in sources for image in source.absent], [], [], [])
    for source in sources:
        gather_split(captioner, source, options, faithful, found)
    if found.scaled:
        print_error(
            f"{len(found.scaled)} photos have another size than their annotations say ({found.scaled[0]}); boxes and masks are scaled"
        )
    if found.misfits:
        print_error(
            f"{found.misfits[0]}; {len(found.misfits)} photos like this are left out: give the photos that the annotations describe"
        )
    return found


def gather_split(captioner: Any, source: Source, options: argparse.Namespace, faithful: bool, found: Gathered) -> None:
    """Add one source's words to `found`."""
    keys = source.captions.keys
    looking = progress(range(len(source.captions)), "looking", len(source.captions))
    for read, refused in open_batches(looking, source.captions.path, options.batch_size):
        for index, refusal in refused.items():
            found.failed.append(keys[index])
            print_error(str(refusal))
        opened = {index: image for index, image in read.items() if fits(source, index, image, found)}
        try:
            look_at(captioner, source, opened, options, found, faithful)
        except (RuntimeError, ValueError):
            for index, image in opened.items():
                try:
                    look_at(captioner, source, {index: image}, options, found, faithful)
                except (RuntimeError, ValueError) as error:
                    found.failed.append(keys[index])
                    print_error(f"{source.captions.path(index)}: {str(error) or type(error).__name__}")


def fits(source: Source, index: int, image: Image.Image, found: Gathered) -> bool:
    """Whether what the file marks can be found on the photo; where it cannot, or has to be scaled, this is noted."""
    key, name = source.captions.keys[index], source.captions.names[index]
    told = source.sizes.get(key)
    try:
        things = fit_to_photo(source.instances[key], told, original_size(image))
    except InputError as error:
        found.failed.append(key)
        found.misfits.append(f"{name}: {error}")
        return False
    if things != list(source.instances[key]):
        width, height = original_size(image)
        found.scaled.append(f"{name} has {width} x {height} pixels")
    return True


def look_at(
    captioner: Any, source: Source, opened: Mapping[int, Image.Image], options: argparse.Namespace, found: Gathered, faithful: bool
) -> None:
    """Add one batch to `found`, all of it or nothing."""
    import torch

    from captioner.explain.grounding import Place
    from captioner.explain.kinds import KINDS
    from captioner.explain.spoken import object_words, read_phrases

    if not opened:
        return
    keys = source.captions.keys
    ids = [keys[index] for index in opened]
    prepared, boxes = zip(*(captioner.transform.prepare(image) for image in opened.values()), strict=True)
    pixels = torch.stack(prepared)
    both = zip(ids, opened.values(), boxes, strict=True)
    places = {
        image: Place(
            *original_size(picture), box, fit_to_photo(source.instances[image], source.sizes.get(image), original_size(picture))
        ).check()
        for image, picture, box in both
    }
    spoken, left_out = {}, {}
    for of, said in tokens_of(captioner, source, list(opened), pixels, options).items():
        left_out[of] = Counter[str]()
        common = (source.names, captioner.vocabulary, left_out[of])
        spoken[of] = [
            [read_phrases(image, tokens, places[image], *common) for tokens in captions] for image, captions in zip(ids, said, strict=True)
        ]
    explanations = {kind: KINDS[kind]() for kind in options.explain}
    words = {of: object_words(captioner, pixels, captions, explanations) for of, captions in spoken.items()}
    faith = faithfulness_of(captioner, opened, spoken["generated"], options) if faithful else []
    found.places.update(places)
    found.faith.extend(faith)
    for of in options.of:
        found.left_out[of].update(left_out[of])
        for kind in options.explain:
            found.words[of][kind] += [word for of_image in words[of][kind] for word in of_image]


def tokens_of(captioner: Any, source: Source, indices: Sequence[int], pixels: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Kind of caption -> the captions, as tokens, of each image; captions without words are none."""
    said: dict[str, Any] = {}
    if "generated" in options.of:
        captioner.eval()
        found = captioner.generate(pixels.to(captioner.device), options.search)
        said["generated"] = [[list(captions[0].words)] for captions in found]
    if "references" in options.of:
        said["references"] = [[tokenize(caption) for caption in source.captions.captions_of(index)] for index in indices]
    return {of: [[tokens for tokens in captions if tokens] for captions in of_images] for of, of_images in said.items()}


def faithfulness_of(captioner: Any, opened: Mapping[int, Image.Image], spoken: Sequence[Sequence[Any]], options: argparse.Namespace) -> Any:
    """Of the nouns of each image's caption; images without any are left out."""
    from captioner.explain.faithfulness import faithfulness
    from captioner.explain.kinds import explain

    found = []
    for image, captions in zip(opened.values(), spoken, strict=True):
        for caption in captions:
            nouns = sorted({stop - 1 for _, stop, _, _ in caption.phrases})
            if nouns:
                maps = explain(captioner, image, caption.tokens, options.explain)
                found.append(faithfulness(captioner, image, caption.tokens, maps, only=nouns, seed=options.seed))
    return found


def report(found: Gathered, learnt: Gathered | None, options: argparse.Namespace) -> dict[str, Any]:
    """Every number, as fractions."""
    from captioner.explain.faithfulness import summary

    record: dict[str, Any] = {"model": str(options.model), "annotations": [str(path) for path in options.annotations]}
    record["search"] = str(options.search)
    record["images"] = len(found.places)
    for of in options.of:
        record[of] = {"words": 0, "images": 0, "left_out": dict(found.left_out[of]), "thresholds": {}, "by_class": {}}
        for kind in options.explain:
            words = found.words[of][kind]
            if not words:
                continue
            masked = sum(all(found.places[word.image].things[index].drawn for index in word.objects) for word in words)
            record[of] |= {"words": len(words), "masked_words": masked, "images": len({word.image for word in words})}
            cuts = cuts_for(of, kind, learnt, options)
            record[of][kind], record[of]["by_class"][kind] = grounded(words, found.places, cuts, options)
            record[of]["thresholds"][kind] = {"all": cuts[0].common, **cuts[0].own}
    if found.faith:
        estimates = summary(found.faith, max(1, options.bootstrap), options.seed)
        record["faithfulness"] = {kind: {name: one._asdict() for name, one in row.items()} for kind, row in estimates.items()}
    return record | ({"failed": found.failed} if found.failed else {})


def cuts_for(of: str, kind: str, learnt: Gathered | None, options: argparse.Namespace) -> tuple[Any, Any]:
    """Where the words' maps are cut, and where the centred one is."""
    from captioner.explain.grounding import Cuts, chosen_cuts

    words = [] if learnt is None else learnt.words[of][kind]
    if learnt is None or not words:
        if learnt is not None:
            print_error(f"no training image's caption ({of}) names its objects: maps are cut at half of their highest value")
        fixed = Cuts({}, options.threshold or 0.5)
        return fixed, fixed
    return chosen_cuts(words, learnt.places), chosen_cuts(words, learnt.places, centre=True)


def grounded(words: Any, places: Any, cuts: tuple[Any, Any], options: argparse.Namespace) -> tuple[Any, Any]:
    """The means over all words, and those of each class's words without the baselines."""
    import numpy as np

    from captioner.explain.grounding import MEASURES, means, ratios, scored

    scores = scored(words, places, *cuts, options.seed)
    of_class = defaultdict(list)
    for word, row in zip(words, scores[:, 0], strict=True):
        of_class[word.category].append(row)
    classes = {}
    for category, rows in sorted(of_class.items()):
        own = ratios(np.sum([[*~np.isnan(row), *np.nan_to_num(row)] for row in rows], axis=0))
        known = {name: value for name, value in zip(MEASURES, own.tolist(), strict=True) if not np.isnan(value)}
        classes[category] = {"words": len(rows), **known}
    return means(scores, [word.image for word in words], options.bootstrap, options.seed), classes


def shown(record: Mapping[str, Any]) -> str:
    """The tables, x 100."""
    from captioner.explain.grounding import METHODS

    parts = []
    for of in CAPTIONS:
        if of not in record:
            continue
        told = record[of]
        out = ", ".join(f"{number} {reason}" for reason, number in sorted(told["left_out"].items(), key=lambda pair: -pair[1]))
        head = f"{of}: {told['words']} object words in {told['images']} of {record['images']} images"
        parts.append(f"\n{head}; left out: {out or 'none'}")
        lines = []
        for kind in told["thresholds"]:
            lines.append([f"{kind}, x 100", *(cell for method in METHODS for cell in (method, "95 % interval"))])
            for measure, label in LABELS.items():
                if told[kind][measure]:
                    lines.append([f"  {label}", *(cell for method in METHODS for cell in cells(told[kind][measure].get(method)))])
        if lines:
            parts.append(aligned(lines))
            if not told["masked_words"]:
                parts.append("the annotations draw no mask of these objects, so that nothing is said of peaks in masks")
            elif told["masked_words"] < told["words"]:
                parts.append(
                    f"{LABELS['pointing_mask']}: of the {told['masked_words']} words whose objects all have a mask in the annotations"
                )
            cuts = (f"{kind} {told['thresholds'][kind]['all']:g}" for kind in told["thresholds"])
            classes = max(len(cuts) - 1 for cuts in told["thresholds"].values())
            parts.append(
                f"maps are cut at shares of their peak: {', '.join(cuts)}" + (f"; {classes} classes at their own" if classes else "")
            )
    if "faithfulness" in record:
        parts.append(faith_table(record["faithfulness"]))
    return "\n".join(parts).lstrip("\n")


def faith_table(rows: Mapping[str, Any]) -> str:
    lines = [["generated: faithfulness", *(cell for kind in rows for cell in (kind, "95 % interval"))]]
    for name, label in FAITH.items():
        values = [rows[kind][name] for kind in rows]
        spelt = [(f"{one['value']:.3f}", f"[{one['low']:.3f}, {one['high']:.3f}]") for one in values]
        lines.append([f"  {label}", *(cell for pair in spelt for cell in pair)])
    return "\n" + aligned(lines)


def cells(one: Mapping[str, float] | None) -> tuple[str, str]:
    if one is None:
        return "", ""
    return hundredth(one["value"]), interval(None if one["low"] is None else [one["low"], one["high"]])
