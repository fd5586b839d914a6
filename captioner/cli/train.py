"""`captioner train`: Hydra overrides -> a run."""

import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from captioner.cli.help import texts
from captioner.cli.help import usage as ways
from captioner.errors import InputError

log = logging.getLogger(__name__)

CHATTY = (
    "lightning",
    "lightning.pytorch",
    "lightning.fabric",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.distributed",
)
DONE, INTERRUPTED = 0, 130

USAGE = "captioner train [KEY=VALUE ...] [GROUP=CHOICE ...] [--cfg job] [--help]"
ABOUT = "Trains an image captioner. Without arguments it draws scenes and trains on them (experiment=scenes, no download)."
GROUPS = "groups and choices (the file conf/GROUP/CHOICE.yaml says what each key means):"
EXAMPLES = [
    ("captioner train", "drawn scenes"),
    ("captioner train experiment=coco data.root=/data/coco", "COCO 2017 as it is distributed"),
    (
        "captioner train experiment=coco data.root=/data/coco encoder=resnet50 optimizer.lr=2e-4 trainer.devices=4 trainer.strategy=ddp",
        "the same with another encoder and learning rate, on four GPUs",
    ),
    (
        "captioner train data=captions data.train.annotations=a.json data.train.images=a data.val.annotations=b.json data.val.images=b "
        "encoder=resnet50",
        "any files in COCO captions format",
    ),
    ("captioner train attention=hard objective=hard attention/score=scaled_dot", "hard attention, and another score"),
    ("captioner train debug=fast data.train=200 data.val=20 data.test=20", "one short epoch, to see that everything runs"),
    ("captioner train rerun=outputs/scenes/2025-01-31_12-00-00 seed=1", "a run again from its beginning, with other values"),
    ("captioner train resume=outputs/latest/checkpoints/last.ckpt", "a run goes on from the end of an epoch"),
    (
        "captioner train resume=outputs/latest/checkpoints/last.ckpt trainer.max_epochs=20",
        "it goes on for more epochs (the schedule of the learning rate stretches over scheduler.epochs)",
    ),
    ("captioner train init=outputs/latest data=folder data.root=photos", "a trained model learns on new data and keeps its words"),
]
MORE = """data=folder takes photos with a table of captions beside them, for example captions.csv with the first line file_name,caption. \
The columns may have other usual names (image, text ...) and commas, semicolons, tabs or | between them; a column split is used where \
there is one; JSON lines are read too, and so is a .txt of captions beside each photo.

GROUP/PART=CHOICE chooses a part of a choice; KEY=null empties a value; +KEY=VALUE adds one. --cfg job prints the composed \
configuration and ends. A run's files are in outputs/<experiment or data>/<date_time>; outputs/latest leads to the newest.
exit codes: 0 done; 2 the command line, a file or the configuration is wrong; 130 interrupted (what was best so far is kept)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train by a list of overrides. Raises: InputError, one line for the user."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if any(word in ("-h", "--help") for word in words):
        print(usage())
        return DONE
    words, prints_configuration = take_cfg(words)
    set_up_logging()
    config, resume = configure(words)
    if prints_configuration:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config), end="")
        return DONE
    return run(config, resume)


def usage() -> str:
    from captioner.kinds import conf_folder
    from captioner.training.configuration import groups

    choices = {group: shortened(names) for group, names in groups(conf_folder()).items()}
    return texts(f"usage: {ways(USAGE)}", ABOUT, GROUPS, choices, EXAMPLES, MORE)


def shortened(names: list[str], width: int = 110) -> str:
    """Names on one line; where they are too many, the first ones and how many more there are."""
    lines = (f"{', '.join(names[:count])}, and {len(names) - count} more" for count in range(len(names) - 1, 0, -1))
    return next((line for line in (", ".join(names), *lines) if len(line) <= width), names[0])


def take_cfg(words: list[str]) -> tuple[list[str], bool]:
    """The words without `--cfg job` (or `-c job`), and whether it was among them. Raises: InputError, any other option."""
    rest, has_cfg, remaining = [], False, iter(words)
    for word in remaining:
        if word in ("--cfg", "-c") and next(remaining, None) != "job":
            raise InputError(f"{word} is followed by job: captioner train ... --cfg job")
        if word in ("--cfg", "-c", "--cfg=job"):
            has_cfg = True
        elif word.startswith("-"):
            raise InputError(f"{word}: there is no such option; there are --help and --cfg job, all else is KEY=VALUE or GROUP=CHOICE")
        else:
            rest.append(word)
    return rest, has_cfg


def set_up_logging() -> None:
    """Our own log lines go to standard error, above a progress bar; Lightning's messages and tips are not shown."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("lightning", "torch.utils.data", "torch.optim.lr_scheduler", "hydra"):
        warnings.filterwarnings("ignore", module=rf"{module}.*")
    ours = logging.getLogger("captioner")
    handler = AboveBar()
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours.handlers = [handler]
    ours.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.ERROR)
    ours.propagate = False


class AboveBar(logging.Handler):
    """Lines on standard error that do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        line = self.format(record)
        tqdm.write(line if record.levelno < logging.WARNING else f"captioner: {line}", file=sys.stderr)


def configure(words: list[str], name: str | None = None) -> tuple[Any, Path | None]:
    """(configuration, checkpoint to go on from) of a command line.

    `name` is that of the folder of the run's folder; None, the experiment or else the data.
    """
    from captioner.training.configuration import compose_run

    earlier = {name: value for name, _, value in map(split_word, words) if name in ("resume", "rerun")}
    rest = [word for word in words if split_word(word)[0] not in earlier and split_word(word)[::2] != ("run_folder", "null")]
    typed = {split_word(word)[0] for word in rest}
    if len(earlier) == 2:
        raise InputError("rerun= repeats a run from its beginning, resume= goes on with one: give one of them")
    if earlier and "init" in typed:
        raise InputError(f"init= begins another run with a trained model, {next(iter(earlier))}= keeps to its run: give one of them")
    for way, value in earlier.items():
        return configure_again(way, Path(value).expanduser(), rest, typed)
    if not typed & {"experiment", "data"}:
        rest = ["experiment=scenes", *rest]
    return in_new_folder(lambda folder: compose_run([*rest, *folder]), name or run_name(rest), typed), None


def configure_again(name: str, path: Path, words: list[str], typed: set[str]) -> tuple[Any, Path | None]:
    """The same of an earlier run, to which `name` ("rerun" or "resume") points; `typed` are the keys of the words."""
    from captioner.training import recorded

    before = recorded.recorded_run(path) if name == "rerun" else recorded.recorded_checkpoint(path)
    recorded.check_lookups(before, typed, path)
    config = in_new_folder(lambda folder: recorded.override_run(before, [*words, *folder], f"{name}="), recorded_name(before), typed)
    recorded.check_trust(config, typed, path)
    if name == "rerun":
        return config, None
    recorded.check_acting(before, config, typed, path)
    return config, path


def split_word(word: str) -> tuple[str, str, str]:
    """key=value as (key, "=", value) without quotes around the value."""
    name, equals, value = word.partition("=")
    return name, equals, value.strip("'\"")


def run_name(words: list[str]) -> str:
    """The experiment, or else the data, that the words name."""
    values = {name: value for name, _, value in map(split_word, words)}
    return next((value for value in (values.get("experiment"), values.get("data")) if value and value != "null"), "run")


def recorded_name(recorded: Mapping[str, Any]) -> str:
    """The experiment or data that a recorded run's folder is named after, where that is a plain name."""
    name = Path(str(recorded.get("run_folder") or "")).parent.name
    return name if re.fullmatch(r"\w[\w.-]*", name) else "run"


def in_new_folder(make: Callable[[list[str]], Any], name: str, typed: set[str]) -> Any:
    """The configuration with its run's folder in it, one that does not exist yet unless the user gave it."""
    from captioner.training.run_folder import STAMP

    if "run_folder" in typed:
        os.environ.pop(STAMP, None)
        return make([])
    if int(os.environ.get("LOCAL_RANK", "0")) and STAMP in os.environ:  # a further process of a run on several devices
        return make([f"run_folder='${{outputs}}/{name}/{os.environ[STAMP]}'"])
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1001):
        os.environ[STAMP] = stamp + (f"_{number}" if number > 1 else "")
        config = make([f"run_folder='${{outputs}}/{name}/{os.environ[STAMP]}'"])
        if not Path(config.run_folder).exists():
            return config
    raise InputError(f"{config.outputs}/{name} holds a thousand runs of this second; give run_folder=")


def run(config: Any, resume: Path | None) -> int:
    """Train, then say how well and where everything is."""
    from captioner.training.run import train

    started = time.perf_counter()
    outcome = train(config, resume)
    if int(os.environ.get("LOCAL_RANK", "0")):
        return INTERRUPTED if outcome.interrupted else DONE
    if outcome.scores:
        print(table(outcome.scores))
    print(places(outcome.folder, time.perf_counter() - started))
    return INTERRUPTED if outcome.interrupted else DONE


def table(scores: dict[str, Any]) -> str:
    """Corpus scores x 100 in a line under their names."""
    values = {name: value for name, value in scores.items() if isinstance(value, float)}
    head = "  ".join(f"{name:>7}" for name in values)
    row = "  ".join(f"{100 * value:7.1f}" for value in values.values())
    about = f"val, {scores.get('images', 0):,} images, {scores.get('search', 'search')}, epoch {scores.get('epoch', '?')} (x 100)"
    return f"\n{about}\n{head}\n{row}\n"


def places(folder: Path, seconds: float) -> str:
    """Where a run's files are, as far as it wrote them."""
    contents = {
        "model/": "the captioner: captioner predict IMAGE --model " + str(folder),
        "results/": "captions and scores of the validation images",
        "checkpoints/": "best.ckpt, last.ckpt: resume=PATH goes on",
        "metrics.csv": "the numbers of every logged step and epoch",
        "config.yaml": f"rerun={folder} repeats the run",
    }
    lines = [f"  {name:<14}{what}" for name, what in contents.items() if (folder / name).exists()]
    return "\n".join([f"{folder}  ({seconds:.0f} s)", *lines])
