"""`captioner predict`: caption images, and show where every word looked."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.atomic_files import check_writable
from captioner.cli.help import Formatter, Parser, texts, usage
from captioner.cli.inputs import image_paths, result_names
from captioner.cli.references import References
from captioner.cli.results import KINDS, Results, name_of_two_images, overwritten_input
from captioner.cli.searching import add_search, count, flags_given, in_words_of, kind_of, make_search, natural
from captioner.data.image_batches import open_batches
from captioner.errors import BrokenModelError, InputError, UnwritableError
from captioner.maps.gallery import ATTENTION
from captioner.processor import set_threads
from captioner.progress import progress
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)

DEFAULT_SAVE = "overlay,arrays,gallery"
LATEST = Path("outputs/latest")
EXPLANATIONS = (ATTENTION, "gradcam", "jacobian", "smoothgrad", "integrated_gradients", "occlusion")
"""The keys of `explain.kinds.KINDS`, which imports torch."""
Opened = tuple[str, str, Image.Image]
"""Path, name of the results, image."""

EXAMPLES = [
    ("captioner predict photo.jpg", "print the caption; the model is outputs/latest, the newest that was trained here"),
    ("captioner predict photos/ --recursive --out captioned", "write sheets, arrays and a gallery: open captioned/index.html"),
    ("captioner predict photo.jpg --search sample --captions 5 --top-p 0.9 --seed 1", "draw five captions"),
    ("captioner predict photo.jpg --require dog --no-bad-ending --no-repeat 3", "say what a caption must contain and avoid"),
    ("captioner predict photo.jpg --model one --model two", "let two models caption together"),
    ('captioner predict photo.jpg --caption "a dog runs" --out why', "show where the model looks for a sentence of yours"),
    ("captioner predict photo.jpg --save overlay,matrix,animation --out why", "write other pictures of the maps"),
    ("captioner predict photo.jpg --explain attention,gradcam,occlusion --out why", "write other explanations beside attention"),
    (
        "captioner predict 'val2017/*.jpg' --annotations captions_val2017.json --out val --save gallery",
        "write results.json too, in the COCO results format",
    ),
    ("find . -name '*.jpg' | captioner predict - --model outputs/scenes/2026-01-31_12-00-00", "take the list of files from a pipe"),
]
CODES = "exit codes: 0 done; 1 some inputs failed, each is named on standard error, the rest is done; 2 the command line or a file is wrong"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Raises: InputError, usage or configuration."""
    options = parser().parse_args(arguments)
    check(options)
    paths, missing, left_out = image_paths(options.images, sys.stdin, options.recursive, options.out)
    for message in [*left_out, *missing]:
        complain(message)
    names = result_names(paths)
    if options.out:
        victim = overwritten_input(paths, names, options.out, options.save, options.explain)
        if victim:
            raise InputError(f"--out {options.out} would overwrite the input {victim}; choose another folder")
        twice = name_of_two_images(names, options.explain, options.save)
        if twice:
            raise InputError(f"--explain or --save would write {twice}.png of two images; caption them one at a time, or rename one")
    references = References(options.annotations, paths) if options.annotations else None
    if not paths:
        return 1
    captioner = load_all(options.model, options.device)
    search = choose_search(captioner, options)
    searching = in_words_of(captioner, search)
    if options.attention_mode:
        set_attention_mode(captioner, options.attention_mode, options.seed)
    results = Results(options.out, options.save, references, "Captions") if options.out else None
    with results or nullcontext():
        if options.caption is None:
            tell_search(captioner, search, options)
        failed = caption_all(captioner, searching, paths, names, results, options)
    if results is not None:
        where = options.out / ("index.html" if results.gallery else "captions.jsonl")
        print(f"captioner: {results.count} of {len(paths)} images captioned: {where}", file=sys.stderr)
    return 1 if failed or missing else 0


def parser() -> argparse.ArgumentParser:
    asked = Parser(
        prog="captioner predict",
        usage=usage("captioner predict IMAGE ... [--model MODEL] [--out DIR] [other options]"),
        description=texts("Captions images, and shows where the model looked for each word. Prints path<TAB>caption for each image."),
        epilog=texts(EXAMPLES, CODES),
        formatter_class=Formatter,
        allow_abbrev=False,
    )
    add = asked.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders, globs, or - for a list of them on standard input")
    where = "a model/ folder, a run's folder or a .ckpt; left out: outputs/latest; given again: another that captions together with it"
    add("--model", type=Path, action="append", metavar="MODEL", help=where)
    add("--out", type=Path, metavar="DIR", help="write captions.jsonl, and what --save names, to this folder")
    add("--batch-size", type=count, default=16, metavar="N", help="images at a time (16)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")
    kinds = f"with --out, which maps to show, any of {','.join(EXPLANATIONS)} ({ATTENTION})"
    add("--explain", default=ATTENTION, metavar="KINDS", help=kinds)
    add("--save", metavar="KINDS", help=f"with --out, any of {','.join(KINDS)}, or none ({DEFAULT_SAVE})")
    add("--caption", metavar="TEXT", help="show where the model looks for this sentence instead of its own")
    add("--annotations", type=Path, metavar="FILE", help="COCO annotations: file names to ids; writes results.json, shows references")
    add("--recursive", action="store_true", help="look below folders too")
    add(
        "--attention-mode",
        choices=("expectation", "argmax", "sample"),
        help="how hard attention looks: at all regions by weight, at the highest, at a sampled one (default: as trained)",
    )
    add("--seed", type=natural, metavar="N", help="seed of --search sample and of --attention-mode sample (default: another one each time)")
    add_search(asked, "print N captions of each image, each with its log-probability; they are ranked after normalisation by length")
    return asked


def check(options: argparse.Namespace) -> None:
    """Refuse what cannot be done before anything is loaded; `options.save` becomes a set, `options.explain` a list."""
    check_explain(options)
    for name in ("save", "annotations"):
        if getattr(options, name) and options.out is None:
            raise InputError(f"--{name} says what to write; say where with --out DIR")
    wanted = listed(DEFAULT_SAVE if options.save is None else options.save)
    strange = [kind for kind in wanted if kind not in KINDS]
    if strange and wanted != ["none"]:
        raise InputError(f"--save {options.save}: {strange[0]!r} is not among {', '.join(KINDS)}")
    options.save = frozenset(wanted) & frozenset(KINDS)
    if options.caption is not None and not tokenize(options.caption):
        raise InputError(f"--caption {options.caption!r} holds no word")
    if options.caption is not None and flags_given(options):
        raise InputError(f"{flags_given(options)[0]} finds captions, but --caption gives the words: leave one of them out")
    if options.out and options.out.exists() and not options.out.is_dir():
        raise InputError(f"--out {options.out} is a file; it must be a folder")
    if options.out:
        check_writable(options.out, "--out")


def check_explain(options: argparse.Namespace) -> None:
    kinds = listed(options.explain)
    unknown = [kind for kind in kinds if kind not in EXPLANATIONS]
    if unknown or not kinds:
        raise InputError(f"--explain {options.explain}: {unknown[0] if unknown else ''!r} is not among {', '.join(EXPLANATIONS)}")
    if kinds != [ATTENTION] and options.out is None:
        raise InputError(f"--explain {options.explain} shows maps; say where with --out DIR")
    if set(kinds) != {ATTENTION} and options.model is not None and len(options.model) > 1:
        raise InputError(f"--explain {options.explain} is of one model, but --model names {len(options.model)}")
    options.explain = list(dict.fromkeys(kinds))


def listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def load(model: Path | None, device: str) -> Any:
    """The captioner, on the device asked for; `auto` takes an accelerator where there is one."""
    return load_all(None if model is None else [model], device)


def load_all(models: list[Path] | None, device: str) -> Any:
    """One captioner, or the ensemble of several."""
    if models is None and not LATEST.exists():
        raise InputError(f"{LATEST}: no trained model here; train one with `captioner train`, or name one with --model")
    from captioner.devices import resolve_device

    set_threads()
    try:
        chosen = resolve_device(device)
    except InputError as error:
        raise InputError(f"--{error}") from None
    from captioner.ensemble import load_captioner

    return load_captioner(models or [LATEST], chosen)


def choose_search(captioner: Any, options: argparse.Namespace) -> Any:
    """The model's own search with what the flags change. Raises: InputError, a flag is refused."""
    search = make_search(options, captioner.search)
    if options.seed is not None and kind_of(search) != "sample" and options.attention_mode != "sample":
        raise InputError("--seed belongs to --search sample or --attention-mode sample: nothing else is sampled")
    return search


def tell_search(captioner: Any, search: Any, options: argparse.Namespace) -> None:
    """Log which search finds the captions; and where several models were trained with different ones, whose it is."""
    models = list(zip(options.model or [LATEST], captioner.members, strict=True))
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
    """Caption batch by batch, printing and writing as it goes; return how many failed."""
    failed = 0
    bar = iter(progress(range(len(paths)), "captioning"))
    for opened, refused in open_batches(zip(paths, names, strict=True), lambda named: named[0], options.batch_size):
        for refusal in refused.values():
            failed += complain(str(refusal))
        batch = [(path, name, image) for (path, name), image in opened.items()]
        for path, name, image, caption in captioned(captioner, search, batch, options):
            if isinstance(caption, Exception):
                failed += complain(f"{path}: {' '.join(str(caption).split()) or type(caption).__name__}")
                continue
            tell(path, caption, options.captions)
            try:
                if results is not None:
                    results.add(path, name, caption, explanations(captioner, path, image, caption, options.explain))
            except UnwritableError:
                raise
            except (InputError, OSError) as error:
                failed += complain(str(error))
        for _ in range(len(opened) + len(refused)):
            next(bar)
    next(bar, None)
    return failed


def captioned(
    captioner: Any, search: Any, opened: list[Opened], options: argparse.Namespace
) -> Iterator[tuple[str, str, Image.Image, Any]]:
    """Each image with its caption, or with the exception that stands in for it: where a batch fails, its images are tried alone.

    Raises: BrokenModelError, no image can be captioned.
    """
    together: list[Any] | None = None
    if options.caption is None and opened:
        with suppress(RuntimeError, ValueError, MemoryError):
            together = captioner.caption([image for _, _, image in opened], search=search, batch_size=options.batch_size)
    for number, (path, name, image) in enumerate(opened):
        if together is not None:
            yield path, name, image, together[number]
            continue
        try:
            alone = captioner.caption(image, search=search) if options.caption is None else captioner.align(image, options.caption)
        except BrokenModelError as error:
            raise BrokenModelError(f"{', '.join(map(str, options.model or [LATEST]))}: {error}") from None
        except (RuntimeError, ValueError, MemoryError) as error:
            full = isinstance(error, MemoryError) or "allocate" in str(error)  # so torch's errors of both kinds of memory say
            alone = MemoryError("out of memory while it was captioned; ask for fewer beams, or fewer --captions") if full else error
        yield path, name, image, alone


def explanations(captioner: Any, path: str, image: Image.Image, caption: Any, kinds: list[str]) -> dict[str, Any]:
    """The maps asked for. Raises: InputError, the machine cannot make them (out of memory, say)."""
    others = [kind for kind in kinds if kind != ATTENTION]
    found = dict.fromkeys(kinds, caption.alphas)
    if others and caption.words:
        from captioner.explain.kinds import explain

        try:
            found |= explain(captioner, image, caption.words, others)
        except RuntimeError as error:
            raise InputError(f"{path}: --explain {','.join(others)}: {' '.join(str(error).split())}") from None
    return found


def tell(path: str, caption: Any, captions: int | None) -> None:
    """The caption's line; or a line for each of so many `captions`, with its log-probability. `caption` keeps no more alternatives."""
    if captions is None:
        say(f"{path}\t{caption.text}")
    else:
        caption.alternatives = caption.alternatives[: captions - 1]
        for text, log_prob in [(caption.text, caption.log_prob), *((other.text, other.log_prob) for other in caption.alternatives)]:
            say(f"{path}\t{text}\t{log_prob:.3f}")
    if not caption.satisfied:
        complain(f"{path}: no caption was found that meets every constraint; this one is the best of those that do not")


def say(text: str) -> None:
    """A line on standard output, which does not cut the progress bar in two."""
    from tqdm import tqdm

    encoding = sys.stdout.encoding or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stdout)


def complain(message: str) -> int:
    """A line on standard error; counts one failure."""
    from tqdm import tqdm

    tqdm.write(f"captioner: {' '.join(message.split())}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return 1
