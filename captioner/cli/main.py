"""The command `captioner`: finds the command's file, and turns what goes wrong into one line and an exit code."""

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from captioner import __version__, processor
from captioner.cli.help import texts
from captioner.errors import InputError
from captioner.processes import is_first_process, started_by_first_process

COMMANDS = {
    "train": "train a captioner: Hydra overrides, e.g. data.batch_size=32",
    "predict": "caption images, and see where every word looked",
    "evaluate": "score captions against references: BLEU, ROUGE-L, CIDEr",
    "ground": "compare the maps of words that name objects with boxes and masks",
    "cache": "compute region features once, for a frozen encoder",
    "compact": "write a trained model again in fewer bits",
    "demo": "draw scenes, train on them, score, caption, write the gallery",
}

EXAMPLES = [
    ("captioner train", "train on drawn scenes, without a download"),
    ("captioner train experiment=coco data.root=/data/coco", "train on COCO 2017 as it is distributed"),
    ("captioner predict photos/ --out captioned", "caption by the newest trained model: captions, heat maps and a gallery"),
    ("captioner predict photo.jpg --model outputs/latest/model --beam 5", ""),
    ("captioner evaluate outputs/latest/results/captions_val.json annotations/captions_val2017.json", "score captions that a run has left"),
    (
        "captioner evaluate --model outputs/latest/model annotations/captions_val2017.json --images val2017",
        "caption images by a model, then score",
    ),
    (
        "captioner ground outputs/latest/model --annotations instances_val2017.json --captions captions_val2017.json --images val2017",
        "measure whether the maps lie on the objects",
    ),
    ("captioner compact outputs/latest smaller", "the trained model in a quarter of its size"),
]

DONE, USAGE, INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done; 1 some inputs failed; 2 usage or configuration; 130 interrupted."""
    try:
        with terminable():
            code = run(list(sys.argv[1:] if arguments is None else arguments))
            sys.stdout.flush()
            return code
    except InputError as error:
        return complain(str(error))
    except KeyboardInterrupt:
        if is_first_process():
            print("captioner: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        return complain(f"{error.filename or 'what was to be written'}: {error.strerror}; make room, or write to another disk")
    except (ImportError, RuntimeError) as error:
        if "torchvision::" not in str(error) and not is_missing(error):
            raise
        return complain(mismatch(error))


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does: what is whole is kept, and the exit code says so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if started_by_first_process():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN if started_by_first_process() else interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def run(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help", "help"):
        print(usage())
        return DONE if given else USAGE
    if given[0] in ("-V", "--version"):
        print(f"captioner {__version__}")
        return DONE
    command, arguments = given[0], given[1:]
    if command not in COMMANDS:
        hint = "; captioner ground measures maps, captioner predict --explain shows explanations" if command == "explain" else ""
        raise InputError(f"there is no command {command!r}; the commands are {', '.join(COMMANDS)}{hint}")
    processor.set_environment()
    processor.keep_freed_memory()
    speak_up(command)
    return int(import_module(f"captioner.cli.{command}").main(arguments) or DONE)


def is_missing(error: Exception) -> bool:
    return isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in ("torch", "torchvision")


def mismatch(error: Exception) -> str:
    """Why torch and torchvision cannot be used together, and what to do."""
    mend = "install both at once: pip install --upgrade torch torchvision"
    if is_missing(error):
        return f"{error.name} is not installed; {mend}"  # type: ignore[attr-defined]
    return f"torch {installed('torch')} and torchvision {installed('torchvision')} were not made for each other; {mend}"


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(of unknown version)"


def speak_up(command: str) -> None:
    """Log lines of this package go to standard error; training has its own arrangement."""
    if command == "train":
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("captioner: %(message)s"))
    log = logging.getLogger("captioner")
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False


def complain(message: str) -> int:
    """One line on standard error, however many the message has."""
    print(f"captioner: error: {' '.join(message.split())}", file=sys.stderr)
    return USAGE


def usage() -> str:
    more = (
        "`captioner COMMAND --help` says more about a command. Exit codes: 0 done; 1 some inputs failed, the rest is done; "
        "2 the command line, a file or the configuration is wrong; 130 interrupted."
    )
    return texts("usage: captioner COMMAND ...", COMMANDS, EXAMPLES, more)


if __name__ == "__main__":
    sys.exit(main())
