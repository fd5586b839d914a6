"""`captioner ground`: do the maps of object words lie on the objects? Against boxes and masks, beside maps that know nothing."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.atomic_files import check_writable
from captioner.cli.arguments import add_batch_size, add_device, add_json, command_parser, positive_number, share, split_list, whole_number
from captioner.cli.predict import load_models, print_error
from captioner.cli.report import aligned, hundredth, interval
from captioner.cli.searching import with_beam_width
from captioner.errors import InputError
from captioner.explain.names import EXPLANATIONS
from captioner.json_files import write_json

CAPTIONS = ("generated", "references")
FEW_CLASSES = 12
"""Of so many classes, as Flickr30k Entities has, the table has a line each; the JSON file has all."""
LABELS = {
    "pointing_box": "peak in the box",
    "pointing_mask": "peak in the mask",
    "correctness": "share inside the box, best word of a phrase",
    "correctness_noun": "share inside the box, the noun",
    "iou": "localisation, IoU",
    "localised": "localisation, IoU of 0.5 or more",
}
FAITHFULNESS = {
    "deletion": "p of the word while pixels go, area (low is good)",
    "insertion": "p of the word while pixels come, area",
    "hidden": "what hiding the peak costs log p",
    "chance": "  hiding as much anywhere",
    "agreement": "rank correlation with the first map",
}
RULES = """Words of a caption that name one of COCO's 80 categories (plurals and synonyms too), or with --scenes the phrases that name a \
drawn object, or with --entities the phrases that Flickr30k Entities marks, are compared with the boxes and masks of such objects in \
the image. Each number is a mean over words, with a 95 % bootstrap \
interval over images. Three baselines know nothing of the image: a uniform map, a map at the centre, and maps of the same class from other \
images (shuffled). For localisation a map is cut at a share of its highest value: at each class's own, chosen on training images \
(--train-...), or at --threshold."""
EXAMPLES = [
    (
        "captioner ground outputs/latest --annotations instances_val2017.json --captions captions_val2017.json --images val2017",
        "photos with COCO's boxes and masks",
    ),
    (
        "captioner ground outputs/latest --annotations instances_val.json --captions captions_val.json --images val "
        "--scenes scenes_val.json --train-annotations instances_train.json --train-captions captions_train.json --train-images train "
        "--train-scenes scenes_train.json",
        "drawn scenes; the training scenes choose where a map is cut",
    ),
    (
        "captioner ground outputs/latest --entities annotations.zip --captions captions_val.json --images val",
        "photos of Flickr with the boxes of Flickr30k Entities, also by the kind of phrase",
    ),
    (
        "captioner ground outputs/latest --annotations instances_val2017.json --captions captions_val2017.json --images val2017 "
        "--explain attention,gradcam,jacobian --of generated --faithfulness --limit 200 --json grounding.json",
        "other explanations too, of generated captions, and what hiding a place does to the word",
    ),
]
CODES = "exit codes: 0 done; 1 some images failed, each is named on standard error, the rest is done; 2 the command line or a file is wrong"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Raises: InputError, usage or configuration."""
    options = make_parser().parse_args(arguments)
    check(options)
    from captioner.explain.evaluation import GroundingSettings, collect_maps, evaluate
    from captioner.explain.grounding_data import read_entity_data, read_grounding_data

    if options.entities:
        files_of_splits = zip(options.entities, options.captions, options.images, strict=True)
        data = [read_entity_data(*files, options.limit) for files in files_of_splits]
    else:
        scenes = options.scenes or [None] * len(options.annotations)
        splits = zip(options.annotations, options.captions, options.images, scenes, strict=True)
        data = [read_grounding_data(*files, options.limit, print_error) for files in splits]
    several_times = [image for image, times in Counter(key for part in data for key in part.captions.keys).items() if times > 1]
    if several_times:
        raise InputError(f"--captions: image {several_times[0]} is in several of the splits; give each image once")
    training_data = None
    if options.train_annotations:
        files = (options.train_annotations, options.train_captions, options.train_images, options.train_scenes)
        training_data = [read_grounding_data(*files, options.train_limit, print_error)]
    captioner = load_models([options.model], options.device)
    settings = GroundingSettings(
        explanations=options.explain,
        captions=options.of,
        search=with_beam_width(captioner.search, options.beam),
        batch_size=options.batch_size,
        threshold=options.threshold,
        resamples=options.bootstrap,
        seed=options.seed,
    )
    collected = collect_maps(captioner, data, settings, print_error, options.faithfulness)
    training = None if training_data is None else collect_maps(captioner, training_data, settings, print_error)
    if not collected.places:
        print_error("no image could be captioned; there is nothing to score")
        return 1
    record = {"model": str(options.model), "annotations": [str(path) for path in options.annotations or options.entities]}
    record |= evaluate(collected, training, settings, print_error)
    print(tables(record))
    if options.json:
        write_json(options.json, record)
    return 1 if collected.failed else 0


def make_parser() -> argparse.ArgumentParser:
    way = "captioner ground MODEL (--annotations FILE ... | --entities PATH ...) --captions FILE ... --images DIR ... [other options]"
    about = "Measures whether the maps of words that name objects lie on these objects."
    command = command_parser("ground", (way,), about, RULES, EXAMPLES, CODES)
    add = command.add_argument
    add("model", type=Path, metavar="MODEL", help="a model/ folder, a run's folder or a .ckpt")
    files: dict[str, Any] = {"type": Path, "nargs": "+", "metavar": "FILE"}
    add("--annotations", **files, help="COCO instances: boxes and masks; several files, of several splits, as one set")
    entities = "in its place Flickr30k Entities, boxes of the captions' phrases: annotations.zip, or its folder, for each file of captions"
    add("--entities", **{**files, "metavar": "PATH"}, help=entities)
    add("--captions", required=True, **files, help="COCO captions of the same images, a file for each")
    add("--images", required=True, **{**files, "metavar": "DIR"}, help="the folder of the images of each")
    add("--scenes", **files, help="the truth of drawn scenes, scenes_*.json: says which object a phrase names")
    add("--explain", default="attention", metavar="KINDS", help=f"maps: {','.join(EXPLANATIONS)}")
    add("--of", metavar="CAPTIONS", help=f"whose words: {' and '.join(CAPTIONS)} (both; of --entities the references)")
    add("--beam", type=positive_number, metavar="N", help="beam width of generated captions (left out: the model's own search)")
    add("--limit", type=positive_number, metavar="N", help="only the first N images of each split")
    add("--faithfulness", action="store_true", help="also what hiding and showing does to the words' probabilities, of generated captions")
    add_json(command, "every number")
    add_batch_size(command, 32)
    add_device(command)
    add("--bootstrap", type=whole_number, default=1000, metavar="N", help="resamples for the intervals; 0: none (1000)")
    add("--seed", type=whole_number, default=0, metavar="N", help="of the resamples and of the shuffled images (0)")
    add = command.add_argument_group("where a map is cut for localisation").add_argument
    add(
        "--threshold", type=share, metavar="SHARE", help="of a map's highest value, the same for all classes (0.5, without training images)"
    )
    add("--train-annotations", type=Path, metavar="FILE", help="instances of training images: each class has its own threshold")
    add("--train-captions", type=Path, metavar="FILE", help="their captions")
    add("--train-images", type=Path, metavar="DIR", help="their folder")
    add("--train-scenes", type=Path, metavar="FILE", help="their truth, of drawn scenes")
    add("--train-limit", type=positive_number, default=500, metavar="N", help="only the first N of them (500)")
    return command


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is read; `explain` and `of` become lists."""
    if bool(options.annotations) == bool(options.entities):
        raise InputError("give --annotations, COCO's instances, or --entities, Flickr30k Entities: one of the two")
    for name in ("scenes", "train_annotations"):
        if options.entities and getattr(options, name):
            raise InputError(f"--{name.replace('_', '-')} goes with --annotations, not with --entities")
    options.of = options.of or ("references" if options.entities else ",".join(CAPTIONS))
    for name, known in (("explain", tuple(EXPLANATIONS)), ("of", CAPTIONS)):
        chosen = list(dict.fromkeys(split_list(getattr(options, name))))
        strange = [kind for kind in chosen if kind not in known]
        if strange or not chosen:
            raise InputError(f"--{name} {getattr(options, name)}: {(strange or ['nothing'])[0]!r} is not among {', '.join(known)}")
        setattr(options, name, chosen)
    counts = {
        name: len(getattr(options, name)) for name in ("annotations", "entities", "captions", "images", "scenes") if getattr(options, name)
    }
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


def tables(record: Mapping[str, Any]) -> str:
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
            if len(told["by_class"][kind]) <= FEW_CLASSES:
                parts.append(class_table(told["by_class"]))
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
        parts.append(faithfulness_table(record["faithfulness"]))
    return "\n".join(parts).lstrip("\n")


def class_table(by_class: Mapping[str, Any]) -> str:
    """The numbers of each class by its own maps, x 100."""
    lines = []
    for kind, classes in by_class.items():
        lines.append([f"{kind} by class, x 100", "words", "peak in the box", "share inside (noun)", "IoU"])
        for name, row in sorted(classes.items(), key=lambda pair: -pair[1]["words"]):
            values = [hundredth(row[measure]) for measure in ("pointing_box", "correctness_noun", "iou")]
            lines.append([f"  {name}", str(row["words"]), *values])
    return "\n" + aligned(lines)


def faithfulness_table(rows: Mapping[str, Any]) -> str:
    lines = [["generated: faithfulness", *(cell for kind in rows for cell in (kind, "95 % interval"))]]
    for name, label in FAITHFULNESS.items():
        values = [rows[kind][name] for kind in rows]
        spelt = [(f"{one['value']:.3f}", f"[{one['low']:.3f}, {one['high']:.3f}]") for one in values]
        lines.append([f"  {label}", *(cell for pair in spelt for cell in pair)])
    return "\n" + aligned(lines)


def cells(one: Mapping[str, float] | None) -> tuple[str, str]:
    if one is None:
        return "", ""
    return hundredth(one["value"]), interval(None if one["low"] is None else [one["low"], one["high"]])
