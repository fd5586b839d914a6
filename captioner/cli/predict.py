"""`captioner predict`: caption images, and show where every word looked."""

import argparse
import logging
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.atomic_files import check_writable
from captioner.cli.arguments import add_batch_size, add_device, command_parser, split_list, whole_number
from captioner.cli.inputs import image_paths, result_names
from captioner.cli.references import References
from captioner.cli.results import SAVE_KINDS, Results, check_names
from captioner.cli.searching import add_search, kind_of, make_search, search_flags, with_word_ids
from captioner.data.image_batches import open_batches
from captioner.errors import BrokenModelError, InputError, UnwritableError, one_line
from captioner.explain.names import EXPLANATIONS
from captioner.maps.gallery import ATTENTION
from captioner.processor import set_threads
from captioner.progress import progress
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)

DEFAULT_SAVE = "overlay,arrays,gallery"
LATEST = Path("outputs/latest")
NamedImage = tuple[str, str, Image.Image]
"""Path, name of the results, image."""

EXAMPLES = [
    ("captioner predict photo.jpg", "print the caption, by the newest model that was trained here, or by the one in the package"),
    ("captioner predict photos/ --recursive --out captioned", "write sheets, arrays and a gallery: open captioned/index.html"),
    ("captioner predict photo.jpg --search sample --captions 5 --top-p 0.9 --seed 1", "sample five captions"),
    ("captioner predict photo.jpg --require dog --no-bad-ending --no-repeat 3", "say what a caption must contain and avoid"),
    ("captioner predict photo.jpg --model one --model two", "decode with two models together"),
    ('captioner predict photo.jpg --caption "a dog runs" --out why', "show where the model looks for your own sentence"),
    ("captioner predict photo.jpg --save overlay,matrix,animation --out why", "write other pictures of the maps"),
    ("captioner predict photo.jpg --explain attention,gradcam,occlusion --out why", "write other explanations beside attention"),
    (
        "captioner predict 'val2017/*.jpg' --annotations captions_val2017.json --out val --save gallery",
        "write results.json too, in the COCO results format",
    ),
    ("find . -name '*.jpg' | captioner predict - --model outputs/scenes/2026-01-31_12-00-00", "take the list of files from a pipe"),
]
CODES = (
    "exit codes: 0 done; 1 some inputs failed and are named on standard error, the others are done; 2 the command line or a file is wrong"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Raises: InputError, usage or configuration."""
    options = parser().parse_args(arguments)
    check(options)
    paths, missing, left_out = image_paths(options.images, sys.stdin, options.recursive, options.out)
    for message in [*left_out, *missing]:
        print_error(message)
    names = result_names(paths)
    if options.out:
        check_names(paths, names, options.out, options.save, options.explain)
    references = References(options.annotations, paths) if options.annotations else None
    if not paths:
        return 1
    options.model = options.model or [default_model()]
    captioner = load_models(options.model, options.device)
    search = choose_search(captioner, options)
    search_in_ids = with_word_ids(captioner, search)
    if options.attention_mode:
        set_attention_mode(captioner, options.attention_mode, options.seed)
    results = Results(options.out, options.save, references, "Captions") if options.out else None
    with results or nullcontext():
        if options.caption is None:
            log_search(captioner, search, options)
        failed = caption_all(captioner, search_in_ids, paths, names, results, options)
    if results is not None:
        where = options.out / ("index.html" if results.gallery else "captions.jsonl")
        print(f"captioner: {results.count} of {len(paths)} images captioned: {where}", file=sys.stderr)
    return 1 if failed or missing else 0


def parser() -> argparse.ArgumentParser:
    about = "Captions images, and shows where the model looked for each word. Prints path<TAB>caption for each image."
    command = command_parser(
        "predict", ("captioner predict IMAGE ... [--model MODEL] [--out DIR] [other options]",), about, EXAMPLES, CODES
    )
    add = command.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders, globs, or - for a list of them on standard input")
    where = (
        "a model/ folder, a run's folder, a .ckpt, or the name of a model that comes with the package; default: outputs/latest, and "
        "where nothing was trained yet the model in the package; repeat it, and the models decode together"
    )
    add("--model", type=Path, action="append", metavar="MODEL", help=where)
    add("--out", type=Path, metavar="DIR", help="write captions.jsonl, and what --save names, to this folder")
    add_batch_size(command, 16)
    add_device(command)
    kinds = f"with --out, which maps to show, any of {','.join(EXPLANATIONS)} ({ATTENTION})"
    add("--explain", default=ATTENTION, metavar="KINDS", help=kinds)
    add("--save", metavar="KINDS", help=f"with --out, any of {','.join(SAVE_KINDS)}, or none ({DEFAULT_SAVE})")
    add("--caption", metavar="TEXT", help="show where the model looks for this sentence instead of its own")
    add("--annotations", type=Path, metavar="FILE", help="COCO annotations: file names to ids; writes results.json, shows references")
    add("--recursive", action="store_true", help="search subfolders, too")
    add(
        "--attention-mode",
        choices=("expectation", "argmax", "sample"),
        help="what hard attention reads: all regions by weight, the highest, or a sampled one (default: as trained)",
    )
    add(
        "--seed",
        type=whole_number,
        metavar="N",
        help="seed of --search sample and of --attention-mode sample (default: another one each time)",
    )
    add_search(command, "print N captions of each image, each with its log-probability; they are ranked after normalisation by length")
    return command


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is loaded; `options.save` becomes a set, `options.explain` a list."""
    kinds = chosen_kinds("explain", options.explain, EXPLANATIONS)
    if kinds != [ATTENTION] and options.out is None:
        raise InputError(f"--explain {options.explain} shows maps; say where with --out DIR")
    if kinds != [ATTENTION] and options.model is not None and len(options.model) > 1:
        raise InputError(f"--explain {options.explain} is of one model, but --model names {len(options.model)}")
    for name in ("save", "annotations"):
        if getattr(options, name) and options.out is None:
            raise InputError(f"--{name} says what to write; say where with --out DIR")
    save = DEFAULT_SAVE if options.save is None else options.save
    options.save = frozenset() if split_list(save) in ([], ["none"]) else frozenset(chosen_kinds("save", save, SAVE_KINDS))
    options.explain = kinds
    if options.caption is not None and not tokenize(options.caption):
        raise InputError(f"--caption {options.caption!r} holds no word")
    if options.caption is not None and search_flags(options):
        raise InputError(f"{search_flags(options)[0]} finds captions, but --caption gives the words: leave one of them out")
    if options.out and options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out {options.out} is a file; it must be a folder")
    if options.out:
        check_writable(options.out, "--out")


def chosen_kinds(flag: str, text: str, offered: Collection[str]) -> list[str]:
    """Each kind of a list once. Raises: InputError, none, or one that is not offered."""
    kinds = list(dict.fromkeys(split_list(text)))
    unknown = [kind for kind in kinds if kind not in offered]
    if unknown or not kinds:
        raise InputError(f"--{flag} {text}: {unknown[0] if unknown else ''!r} is not among {', '.join(offered)}")
    return kinds


def load_models(models: list[Path], device: str) -> Any:
    """One captioner, or the ensemble of several, on the device; `auto` takes an accelerator where there is one."""
    from captioner.devices import resolve_device
    from captioner.ensemble import load_captioner

    set_threads()
    try:
        resolved = resolve_device(device)
    except InputError as error:
        raise InputError(f"--{error}") from None
    return load_captioner(models, resolved)


def default_model() -> Path:
    """The newest model that was trained here, or the first that comes with the package. Raises: InputError, there is neither."""
    if LATEST.exists():
        print_error(f"the model is {LATEST}")
        return LATEST
    from captioner.saved_models import pretrained_names

    names = pretrained_names()
    if not names:
        raise InputError(f"{LATEST}: no trained model here; train one with `captioner train`, or name one with --model")
    print_error(f"the model is {names[0]}, which comes with the package (nothing was trained here: there is no {LATEST})")
    return Path(names[0])


def choose_search(captioner: Any, options: argparse.Namespace) -> Any:
    """The model's own search with what the flags change. Raises: InputError, a flag is refused."""
    search = make_search(options, captioner.search)
    if options.seed is not None and kind_of(search) != "sample" and options.attention_mode != "sample":
        raise InputError("--seed belongs to --search sample or --attention-mode sample: nothing else is sampled")
    return search


def log_search(captioner: Any, search: Any, options: argparse.Namespace) -> None:
    """Log which search finds the captions; and where models were trained with different searches, whose it is."""
    models = list(zip(options.model, captioner.members, strict=True))
    others = [f"{path} by {model.search}" for path, model in models if str(model.search) != str(captioner.search)]
    if others:
        log.info("the models were trained with different searches; that of %s is used, not %s", models[0][0], ", ".join(others))
    log.info("captions are found by %s", search)


def set_attention_mode(captioner: Any, mode: str, seed: int | None) -> None:
    """Raises: InputError, no hard attention."""
    import torch

    try:
        captioner.set_attention_mode(mode)
    except InputError as error:
        raise InputError(f"--attention-mode {mode}: {error}") from None
    if seed is not None:
        torch.manual_seed(seed)


def caption_all(
    captioner: Any, search: Any, paths: list[str], names: list[str], results: Results | None, options: argparse.Namespace
) -> int:
    """Caption batch by batch, print and write as captions come; return how many images failed."""
    failed = 0
    bar = iter(progress(range(len(paths)), "captioning"))
    for opened, refused in open_batches(zip(paths, names, strict=True), lambda path_and_name: path_and_name[0], options.batch_size):
        for refusal in refused.values():
            failed += print_error(str(refusal))
        batch = [(path, name, image) for (path, name), image in opened.items()]
        for path, name, image, caption in caption_batch(captioner, search, batch, options):
            if isinstance(caption, Exception):
                failed += print_error(f"{path}: {one_line(caption)}")
                continue
            print_caption(path, caption, options.captions)
            try:
                if results is not None:
                    results.add(path, name, caption, explain_words(captioner, path, image, caption, options.explain))
            except UnwritableError:
                raise
            except (InputError, OSError) as error:
                failed += print_error(str(error))
        for _ in range(len(opened) + len(refused)):
            next(bar)
    next(bar, None)
    return failed


def caption_batch(
    captioner: Any, search: Any, batch: list[NamedImage], options: argparse.Namespace
) -> Iterator[tuple[str, str, Image.Image, Any]]:
    """Each image with its caption, or with the exception in its place: where the batch fails, its images are tried one by one.

    Raises: BrokenModelError, no image can be captioned.
    """
    captions: list[Any] | None = None
    if options.caption is None and batch:
        with suppress(RuntimeError, ValueError, MemoryError):
            captions = captioner.caption([image for _, _, image in batch], search=search, batch_size=options.batch_size)
    for number, (path, name, image) in enumerate(batch):
        yield path, name, image, captions[number] if captions is not None else caption_one(captioner, search, image, options)


def caption_one(captioner: Any, search: Any, image: Image.Image, options: argparse.Namespace) -> Any:
    """The image's caption, or the exception in its place. Raises: BrokenModelError."""
    try:
        return captioner.caption(image, search=search) if options.caption is None else captioner.align(image, options.caption)
    except BrokenModelError as error:
        raise BrokenModelError(f"{', '.join(map(str, options.model))}: {error}") from None
    except (RuntimeError, ValueError, MemoryError) as error:
        out_of_memory = isinstance(error, MemoryError) or "allocate" in str(error)  # torch's errors of both kinds of memory say so
        hint = "out of memory while it was captioned; ask for fewer beams, or fewer --captions"
        return MemoryError(hint) if out_of_memory else error


def explain_words(captioner: Any, path: str, image: Image.Image, caption: Any, kinds: list[str]) -> dict[str, Any]:
    """Maps by the kind of explanation. Raises: InputError, the machine cannot compute them (out of memory, say)."""
    others = [kind for kind in kinds if kind != ATTENTION]
    maps = dict.fromkeys(kinds, caption.alphas)
    if others and caption.words:
        from captioner.explain.kinds import explain

        try:
            maps |= explain(captioner, image, caption.words, others)
        except RuntimeError as error:
            raise InputError(f"{path}: --explain {','.join(others)}: {one_line(error)}") from None
    return maps


def print_caption(path: str, caption: Any, captions: int | None) -> None:
    """The caption's line; or so many lines, of alternatives too, each with its log-probability. `caption` keeps no more alternatives."""
    if captions is None:
        print_line(f"{path}\t{caption.text}")
    else:
        caption.alternatives = caption.alternatives[: captions - 1]
        for one in (caption, *caption.alternatives):
            print_line(f"{path}\t{one.text}\t{one.log_prob:.3f}")
    if caption.familiar is False:
        print_error(f"{path}: probably unlike the images that the model learned from: the words are less probable than usual")
    if not caption.satisfied:
        print_error(f"{path}: no caption was found that meets every constraint; this one is the best of those that do not")


def print_line(text: str) -> None:
    """A line on standard output, which does not cut the progress bar in two."""
    from tqdm import tqdm

    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stdout)


def print_error(message: str) -> int:
    """A line on standard error; returns 1, to count failures."""
    from tqdm import tqdm

    tqdm.write(f"captioner: {' '.join(message.split())}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return 1
