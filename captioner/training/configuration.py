"""Hydra's composition of a run's configuration behind one function, and its errors in one line.

`hydra.main` is not used: it shows an error over several lines and exits with 1, where our commands print one line and exit with 2; it
writes a folder of its own; and it cannot put a trained model's sections (init=) in the place of the composed ones.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from captioner import kinds
from captioner.errors import InputError
from captioner.kinds import ROOT, conf_folder, walk
from captioner.model import Captioner
from captioner.training.overrides import first_line, parse_overrides

REFERENCE = re.compile(r"\$\{[\w.]+\}")
"""An interpolation of another key of the configuration; any other interpolation looks something up elsewhere."""
WHOLE: tuple[str, ...] = ("data", "encoder", "attention", "decoder", "transform", "objective", "search", "validation", "validation.search")
WHOLE += ("optimizer", "scheduler", "trainer", "callbacks")
"""Sections that no run does without."""
OPTIONAL = ("experiment", "debug")
"""Groups of which none is chosen by default."""


def groups(folder: Path) -> dict[str, list[str]]:
    """Group -> its choices, by the folders and files below conf (`attention/score` is a group too; `_` begins a base of choices)."""
    choices: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("[!_]*.yaml")):
        if path.parent != folder:
            choices.setdefault(path.parent.relative_to(folder).as_posix(), []).append(path.stem)
    return choices


def compose_run(words: Sequence[str], folder: Path | None = None) -> DictConfig:
    """The configuration that overrides on a command line make. Raises: InputError, one line that names the word, key or file at fault."""
    folder = folder or conf_folder()
    choices = groups(folder)
    overrides = [override for override in parse_overrides(words) if not (override.key_or_group in OPTIONAL and override.value() is None)]
    for override in overrides:
        _check_choice(override, choices)
    chosen = {override.key_or_group: override for override in overrides if override.key_or_group in choices}
    values = [override for override in overrides if override.key_or_group not in choices]
    base, final = _compose(folder, [override for override in overrides if override not in values])
    _check_effect(folder, {group: override.value() for group, override in chosen.items()}, final)
    model = next((override.value() for override in values if override.key_or_group == "init"), None)
    trained = {} if model is None else _trained_parts(Path(str(model)), chosen)
    base = _with_parts(base, trained)
    for override in values:
        check_value(override, base, [*choices, *keys_of(base)], whole=True)
    own = [override for override in overrides if override in values and override.key_or_group.split(".")[0] in trained]
    config = _with_parts(_compose(folder, [override for override in overrides if override not in own])[0], trained)
    for override in values:
        key = override.key_or_group
        place = f"decoder.{key}" if key.startswith("attention.") and "decoder" in trained else key
        if place.split(".")[0] in trained:
            if not _exists(config, place):
                raise InputError(f"{key}: init={model} has no such key{near(place, keys_of(config))}")
            OmegaConf.update(config, place, override.value(), merge=False)
    settle(config)
    return config


def settle(config: DictConfig) -> None:
    """Put values in the place of what is looked up outside the configuration (`${oc.env:HOME}`), so that they are recorded.

    Raises: InputError, an interpolation leads nowhere.
    """
    resolved = dict(walk(_resolved(config)))
    for key, _ in lookups(OmegaConf.to_container(config)):
        if key in resolved:
            OmegaConf.update(config, key, resolved[key], merge=False)


def lookups(config: Any) -> Iterator[tuple[str, str]]:
    """(dotted key, value) of the strings that look something up outside the configuration."""
    return ((key, value) for key, value in walk(config) if isinstance(value, str) and "${" in REFERENCE.sub("", value))


def _resolved(config: DictConfig) -> dict[str, Any]:
    try:
        resolved: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", "") or "configuration"
        missing = re.fullmatch(r"Interpolation key '(.*)' not found", first_line(error))
        if missing is None:
            raise InputError(f"{key}: {first_line(error)}") from None
        variable = missing[1] if re.fullmatch(r"\w+", missing[1]) else "NAME"
        hint = f"the configuration has no such key; an environment variable is ${{oc.env:{variable}}}"
        raise InputError(f"{key}: ${{{missing[1]}}} leads nowhere: {hint}") from None
    return {str(key): value for key, value in resolved.items()}


def _trained_parts(model: Path, chosen: Iterable[str]) -> dict[str, Any]:
    """The parts of a trained model's configuration, but for those that the command line chooses again, by group."""
    groups = {group.split("/")[0] for group in chosen}
    parts = {"encoder": {"encoder"}, "decoder": {"decoder", "attention"}, "transform": {"encoder"}}
    config = Captioner.load(model, "cpu").config
    trained = {part: config[part] for part, replaced_by in parts.items() if not replaced_by & groups}
    for key, value in walk(trained):
        if isinstance(value, str) and "${" in value:
            raise InputError(f"init={model}: its {key} is {value!r}, but a model's configuration holds plain values only")
    return trained


def _with_parts(config: DictConfig, parts: Mapping[str, Any]) -> DictConfig:
    """The configuration with other sections in the place of its own."""
    if not parts:
        return config
    composed: Any = OmegaConf.to_container(config)
    changed = OmegaConf.create({**composed, **parts})
    OmegaConf.set_struct(changed, True)
    return changed


def choose(group: str, override: Override) -> Any:
    """The section that another choice of a group makes, its interpolations as they are written. Raises: InputError, no such choice."""
    folder = conf_folder()
    _check_choice(override, groups(folder))
    composed: Any = OmegaConf.to_container(_compose(folder, [override])[0])
    return composed[group]


def _check_choice(override: Override, choices: Mapping[str, Sequence[str]]) -> None:
    group, value = override.key_or_group, override.value()
    if override.is_delete() and group not in OPTIONAL:
        raise InputError(f"{override.input_line}: a configuration keeps its keys; {group}=null empties one that may be empty")
    if group not in choices or override.is_delete():
        return
    if value is None:
        raise InputError(f"{group}=null: one has to be chosen; {group} is one of {', '.join(choices[group])}")
    for choice in value if isinstance(value, list) else [value]:
        if str(choice) not in choices[group]:
            hint = near(str(choice), choices[group]) or f"; {group} is one of {', '.join(choices[group])}"
            raise InputError(f"{group}={choice}: there is no such choice{hint}")


def _check_effect(folder: Path, chosen: Mapping[str, Any], final: Mapping[str, Any]) -> None:
    """Raise InputError where a choice is undone by another: what sets attention=local apart is the locality that an experiment replaces."""
    usual = _defaults(folder / f"{ROOT}.yaml")
    for group, choice in chosen.items():
        others = _defaults(folder / group / f"{usual.get(group)}.yaml")
        for name, part in _defaults(folder / group / f"{choice}.yaml").items():
            place = f"{group}/{name}"
            is_group = (folder / group / name).is_dir()
            if is_group and part != others.get(name) and final.get(place) != part and place not in chosen:
                why = f"experiment={final.get('experiment')} sets {place}={final.get(place)}"
                raise InputError(f"{group}={choice}: {why} in place of its {part}; say {place}={part}")


def _defaults(path: Path) -> dict[str, str]:
    """Group -> its choice, in the defaults list of a file; nothing where there is no such file."""
    listed: Any = OmegaConf.load(path).get("defaults", []) if path.is_file() else []  # type: ignore[arg-type]
    return {str(name): str(part) for entry in listed if not isinstance(entry, str) for name, part in entry.items()}


def check_value(override: Override, base: DictConfig, names: Iterable[str], whole: bool = False) -> None:
    """Raises: InputError, there is no such key (`names` are suggested), or the value has another type than its default.

    whole: a default that is a whole number asks for one (a recorded run may hold `1` where a fraction is as good).
    """
    key = override.key_or_group
    if override.is_add() or override.is_force_add():
        return
    if not _exists(base, key):
        raise InputError(f"{key}: there is no such key{near(key, names)}; --cfg job shows all (+{key}=... adds one)")
    expected = _other_type(key, _select(base, key), override.value(), whole)
    if expected:
        raise InputError(f"{key}={override.value()}: {key} is {expected}")


def _other_type(key: str, default: Any, value: Any, whole: bool) -> str:
    """What the value should be, where it is something else; an empty text where it may take the place of the default."""
    is_section = isinstance(default, DictConfig)
    is_object = isinstance(value, dict) and "_target_" in value
    if is_section and not is_object and (key in WHOLE or ("_target_" in default and isinstance(value, dict))):
        return f"a section: give {key}.KEY=VALUE, where KEY is one of {', '.join(map(str, default))}"
    if value is None or default is None or (isinstance(value, str) and "${" in value) or key.startswith("trainer."):
        return ""
    if isinstance(default, ListConfig) and not isinstance(value, list):
        return f"a list, written [a,b] (now {default})"
    if is_section and not isinstance(value, dict):
        return f"a section with the keys {', '.join(map(str, default))}"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int | float) and isinstance(value, bool | str | dict):
        return f"a number (now {default})"
    return f"a whole number (now {default})" if whole and isinstance(default, int) and isinstance(value, float) else ""


def _exists(config: DictConfig, key: str) -> bool:
    parent, _, last = key.rpartition(".")
    section = _select(config, parent) if parent else config
    if isinstance(section, DictConfig):
        return last in section or last in section.keys()  # noqa: SIM118  `in` is false where the value is ???
    return section is not None and not isinstance(section, str | int | float | bool) and last.isdigit()


def _select(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:
        return None


def keys_of(config: DictConfig) -> list[str]:
    """Every dotted key, without those inside lists."""
    return [key for key, _ in walk(OmegaConf.to_container(config)) if key and "[" not in key]


def near(name: str, names: Iterable[str]) -> str:
    """ "; did you mean optimizer.lr?" where something is near (capitals make no difference); the last part of a dotted name counts too."""
    names = list(dict.fromkeys(names))
    same = [key for key in names if key.lower() == name.lower()]
    close = same or difflib.get_close_matches(name, names, n=2, cutoff=0.7)
    last = name.rpartition(".")[2]
    close += [key for key in names if key.rpartition(".")[2] == last and key not in close][:3]
    return f"; did you mean {' or '.join(close[:3])}?" if close else ""


def _compose(folder: Path, overrides: Sequence[Override]) -> tuple[DictConfig, Mapping[str, Any]]:
    """The configuration, and group -> its final choice."""
    words = [str(override.input_line) for override in overrides]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            composed = compose(ROOT, words, return_hydra_config=True)
            with open_dict(composed):
                return composed, composed.pop("hydra").runtime.choices
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"{first_line(error)} (in the configuration of {' '.join(words) or ROOT})") from None


def plain(config: DictConfig) -> dict[str, Any]:
    """Interpolations resolved, nothing missing, no targets but those that conf offers. Raises: InputError, names the key."""
    resolved = _resolved(config)
    missing = OmegaConf.missing_keys(config)
    if missing:
        raise InputError(f"{min(missing)} must be given: {min(missing)}=...")
    kinds.check(resolved)
    return resolved
