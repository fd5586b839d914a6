"""The recorded configuration of an earlier run: read, checked as a stranger's, and changed by overrides that can act (rerun=, resume=).

It may come from a stranger. So it builds only what conf offers, looks nothing up in the environment, and writes only into the new run's
folder, below `outputs` and below the working folder. `typed` are the keys that the user gives on the command line: they are trusted.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from captioner import kinds
from captioner.bundle import read_checkpoint
from captioner.errors import InputError
from captioner.formats import upgraded
from captioner.json_files import read_json
from captioner.scenes.scenes import FINGERPRINT
from captioner.training.configuration import WHOLE, check_value, choose, groups, keys_of, lookups, plain, settle
from captioner.training.overrides import first_line, parse_overrides
from captioner.training.run_folder import run_of

WRITES = ("folder", "latest", "save_dir")
"""Last names of the keys of callbacks and loggers that say where they write."""
ACTING_GROUPS = ("scheduler",)
"""Groups of which another choice may be made when a run goes on: nothing that was trained or measured depends on them."""
PATHS_OF_DATA = "root|annotations|images|instances|table"
ACTS = re.compile(
    r"outputs|run_folder|threads|optimizer\..+|scheduler\..+|trainer\..+|logger\..+|search\..+|objective\..+|decoder\.dropout"
    r"|callbacks|callbacks\.(?!fine_tune\b).+|transform\.(augment|flip|crop_scale)"
    r"|encoder\.(trunk\.)*(dropout|frozen|finetune_from|hold_statistics)"
    r"|data\.(batch_size|evaluation_batch_size|captions_per_image|max_words|num_workers|hold_in_memory|cache_features|cache_folder"
    rf"|workers|missing|((train|val|test)\.)?({PATHS_OF_DATA}))"
)
"""Keys whose new value acts from the checkpoint on."""
NEVER = (
    (r"(?!scheduler\.)(.*\.)?_\w+_", "another class would not fit the checkpoint's states; begin a new run without resume="),
    (r"callbacks\..+\.(monitor|mode)", "the best score so far was measured with it; begin a new run without resume="),
)
OTHERS = (
    (r"validation\..+", "the best score so far was measured with it; begin a new run without resume="),
    (r"(encoder|decoder|attention|attention_size|transform)(\..+)?", "its weights were trained with that; begin a new run without resume="),
    (r"seed", "the random states come from the checkpoint; begin a new run without resume="),
    (r"data\..+", "it makes another data set or vocabulary; init=CHECKPOINT begins a new run with this model on other data"),
    (r".*", "begin a new run without resume="),
)
"""(pattern of keys, why another value cannot act and what to do): whatever ACTS says, and where it says nothing."""
SECTIONS = (*(name for name in WHOLE if "." not in name and name != "attention"), "logger")


class WithoutAliases(yaml.SafeLoader):
    """Refuses aliases while it reads."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it holds a YAML alias, which no record has: a few of them can expand to more than the memory holds")
        return super().compose_node(parent, index)


def recorded_run(path: Path) -> dict[str, Any]:
    """The configuration of a run's folder (config.yaml) or of a checkpoint. Raises: InputError, missing, damaged, or of something else."""
    if path.suffix == ".ckpt" and not path.is_dir():
        return recorded_checkpoint(path)
    file = path / "config.yaml" if path.is_dir() else path
    if not file.is_file():  # a named pipe would wait for ever
        raise InputError(f"{file}: no such run; give a run's folder, the one with config.yaml")
    try:
        text = file.read_text(encoding="utf-8")
        yaml.compose(text, Loader=WithoutAliases)
        config = OmegaConf.to_container(OmegaConf.create(text))
    except Exception as error:  # whatever a damaged file makes the YAML reader raise
        raise InputError(f"{file}: not a run's configuration ({first_line(error)})") from None
    return checked_record(config, file)


def recorded_checkpoint(path: Path) -> dict[str, Any]:
    """The configuration in a checkpoint. Raises: InputError, missing, damaged or not ours."""
    checkpoint = read_checkpoint(path, mmap=True)
    try:
        config = json.loads(checkpoint["configuration"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a checkpoint of this program ({type(error).__name__}: {error})") from None
    return checked_record(config, path)


def checked_record(config: Any, file: Path) -> dict[str, Any]:
    """The record, with today's names.

    Its classes are compared with what conf offers before anything else is done with it.
    Raises: InputError, names `file`.
    """
    config = upgraded(config)
    missing = [name for name in SECTIONS if not isinstance(config, dict) or not isinstance(config.get(name), dict)]
    if missing:
        raise InputError(f"{file}: not a run's configuration (it has no {missing[0]})")
    try:
        kinds.check(config)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    for key in needed_keys():
        section, _, name = key.rpartition(".")
        if name not in (config[section] if section else config):
            raise InputError(f"{file}: {key} is not there, and every run needs it; put it back, or begin a new run")
    return {str(key): value for key, value in config.items()}


def needed_keys() -> list[str]:
    """The keys that every run reads by name: those of conf/train.yaml and of the trainer, but for what earlier versions did not record."""
    folder = kinds.conf_folder()
    table: Any = OmegaConf.to_container(OmegaConf.load(folder / f"{kinds.ROOT}.yaml"))
    trainer: Any = OmegaConf.to_container(OmegaConf.load(folder / "trainer" / "default.yaml"))
    read = {"": table, "data": table["data"], "validation": table["validation"], "trainer": trainer}
    keys = [f"{section}.{name}" if section else name for section, values in read.items() for name in values]
    return [key for key in keys if key not in ("defaults", "threads") and not key.endswith("_")]


def override_run(recorded: Mapping[str, Any], words: Sequence[str], where: str) -> DictConfig:
    """A recorded configuration with other values; `where` is "rerun=" or "resume=", and only the latter takes another schedule.

    Raises: InputError, as `compose_run`.
    """
    config = OmegaConf.create(dict(recorded))
    OmegaConf.set_struct(config, True)
    choices = groups(kinds.conf_folder())
    overrides = parse_overrides(words)
    for override in sorted(overrides, key=lambda override: override.key_or_group not in choices):
        name = override.key_or_group
        if name in choices and where == "resume=" and name in ACTING_GROUPS:
            OmegaConf.update(config, name, choose(name, override), merge=False)
            continue
        if name in choices and ("." not in name):
            raise InputError(f"{name}: {where} keeps its choices, so values may be overridden ({name}.key=value) but no groups")
        if override.is_add() or override.is_delete():
            raise InputError(f"{override.input_line}: {where} keeps its keys; give key=value")
        check_value(override, config, keys_of(config))
        OmegaConf.update(config, name, override.value(), merge=False)
    settle(config)
    return config


def check_lookups(recorded: Mapping[str, Any], typed: set[str], path: Path) -> None:
    """Raises: InputError, a value that `path` records looks something up: in the environment, or by any other resolver of OmegaConf."""
    for key, value in lookups(recorded):
        if not is_typed(key, typed):
            raise InputError(f"{key}: {path} records {value!r}, which is refused, for it looks something up elsewhere; give {key}=...")


def check_trust(config: DictConfig, typed: set[str], path: Path) -> None:
    """Raises: InputError, a configuration that `path` records sets what conf has no key for, or writes elsewhere."""
    resolved = plain(config)
    _check_keys(resolved, typed, path)
    own, outputs = Path(resolved["run_folder"]), Path(str(resolved["outputs"]))
    elsewhere = {} if below(outputs) or outputs.resolve() == _outputs_of(path) else {"outputs": resolved["outputs"]}
    elsewhere |= {key: value for key, value in _written(resolved) if not any(within(value, folder) for folder in (own, outputs))}
    for key, value in elsewhere.items():
        if not is_typed(key, typed):
            raise InputError(f"{key}: {path} records {value!r}, which lies elsewhere and would be written to; give {key}=...")


def _check_keys(config: Mapping[str, Any], typed: set[str], path: Path) -> None:
    """What is built of other packages' classes gets only keys that conf's own files have, but for plain numbers."""
    for place, section in kinds.walk(config):
        if not isinstance(section, Mapping) or str(section.get("_target_", "captioner.")).startswith("captioner."):
            continue
        offered = kinds.offered().keys[kinds.offered().canonical(place)]
        for name, value in section.items():
            harmless = value is None or (isinstance(value, bool | int | float) and not place.startswith("logger."))
            if name not in offered and not harmless and not is_typed(f"{place}.{name}", typed):
                raise InputError(f"{place}.{name}: {path} records {value!r}, but conf/ has no such key; give {place}.{name}=...")


def _written(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(key, path) of all places that a run writes to, beside its own folder."""
    data = config["data"]
    yield "data.cache_folder", data["cache_folder"]
    if data["_target_"].endswith(".Scenes") and not below(Path(str(data["root"]))) and not _drawn(data):
        yield "data.root", str(data["root"])
    for key, value in kinds.walk({name: config.get(name) for name in ("callbacks", "logger")}):
        name = key.rpartition(".")[2]
        leads = isinstance(value, str) and name != "monitor" and re.search(r"[/\\~]|\.\.", value)
        if value not in (None, "") and (name in WRITES or leads):
            yield key, value


def _drawn(data: Mapping[str, Any]) -> bool:
    """Whether these very scenes lie there already, so that none is drawn."""
    file = Path(str(data["root"])) / FINGERPRINT
    record = read_json(file, "fingerprint of drawn scenes") if file.is_file() else {}
    fingerprint = record.get("fingerprint") if isinstance(record, dict) else None
    names = ("seed", "image_size", "train", "val", "test")
    return isinstance(fingerprint, dict) and all(fingerprint.get(name) == data[name] for name in names)


def _outputs_of(path: Path) -> Path | None:
    """The folder of all runs that a run's folder, its config.yaml or its checkpoint lies in."""
    folder = path if path.is_dir() else run_of(path) if path.suffix == ".ckpt" else path.parent
    return None if folder is None else folder.resolve().parent.parent


def within(path: Any, folder: Path) -> bool:
    """Whether a path is a folder or lies below it. Links on the way are followed; the last name may be one, as outputs/latest is."""
    path = Path(str(path))
    spot = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    return spot.is_relative_to(folder.resolve())


def below(path: Path) -> bool:
    """Whether a path is relative and leads nowhere but below the working folder."""
    return not path.is_absolute() and within(path, Path())


def is_typed(key: str, typed: set[str]) -> bool:
    return any(key == name or key.startswith((f"{name}.", f"{name}[")) for name in typed)


def changes(recorded: Mapping[str, Any], config: Mapping[str, Any] | DictConfig) -> dict[str, tuple[Any, Any]]:
    """Key -> (value before, value now) of all that differs, but for where the new run's files go."""
    before, now = (dict(_values(plain(OmegaConf.create(dict(one))))) for one in (recorded, config))
    where = {"run_folder", "outputs", *(key for key in now if key.rpartition(".")[2] in WRITES), "data.cache_folder"}
    keys = sorted((before.keys() | now.keys()) - where)
    return {key: (before.get(key), now.get(key)) for key in keys if before.get(key) != now.get(key)}


def _values(config: Any) -> Iterator[tuple[str, Any]]:
    return ((key, value) for key, value in kinds.walk(config) if not isinstance(value, Mapping | list))


def check_acting(recorded: Mapping[str, Any], config: DictConfig, typed: set[str], path: Path) -> None:
    """Raises: InputError, names a value beside resume= that cannot act on a run under way, why, and what to do."""
    done = epochs_done(path)
    changed = changes(recorded, config)
    for key in sorted(changed, key=lambda key: not is_typed(key, typed)):
        before, now = changed[key]
        if key.startswith("callbacks.fine_tune."):
            _check_unfreezing(key, before, now, done, recorded)
            continue
        reasons = [] if now is None else [why for pattern, why in NEVER if re.fullmatch(pattern, key)]
        if not ACTS.fullmatch(key):
            reasons += [why for pattern, why in OTHERS if re.fullmatch(pattern, key)]
        if reasons:
            raise InputError(f"{key}={now}: cannot act on the run of {path}, which goes on with {key}={before}: {reasons[0]}")
    epochs = config.trainer.max_epochs
    if isinstance(epochs, int) and epochs < done:
        raise InputError(f"trainer.max_epochs={epochs}: {path} has {done} epochs behind it; give at least as many")


def epochs_done(checkpoint: Path) -> int:
    return int(read_checkpoint(checkpoint, mmap=True).get("epoch", -1)) + 1


def _check_unfreezing(key: str, before: Any, now: Any, done: int, recorded: Mapping[str, Any]) -> None:
    epoch = (recorded["callbacks"].get("fine_tune") or {}).get("epoch")
    if epoch is not None and epoch < done:
        raise InputError(f"{key}={now}: the encoder has been learning since epoch {epoch} (the first is 0), with {key}={before}")
    if key.endswith(".epoch") and isinstance(now, int) and now < done:
        raise InputError(f"{key}={now}: that epoch is over; give {done} (the next one; the first is 0) or a later one")


def history(checkpoint: Path, config: Mapping[str, Any]) -> str:
    """Comment lines for a resumed run's config.yaml: from where it goes on, and what was different until then."""
    folder = run_of(checkpoint)
    file = folder / "config.yaml" if folder is not None else None
    before = file.read_text(encoding="utf-8", errors="replace").splitlines() if file is not None and file.is_file() else []
    lines = list(itertools.takewhile(lambda line: line.startswith("#"), before))
    changed = changes(recorded_checkpoint(checkpoint), config)
    lines.append(f"# After epoch {epochs_done(checkpoint)} the run went on from {checkpoint}" + (", until then with" if changed else ""))
    lines += [f"#   {key}: {json.dumps(old, ensure_ascii=False)}" for key, (old, _) in changed.items()]
    return "".join(f"{' '.join(line.splitlines())}\n" for line in lines)
