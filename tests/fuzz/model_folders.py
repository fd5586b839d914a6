"""Model folders, checkpoints and recorded runs with flipped bytes, other values and types, poisoned targets, files too few or too many."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from driver import Case
from mutations import NUMBERS, RAW, change_bytes, change_json, json_text, several, slots
from safetensors.torch import load_file, save
from world import World

POISON = (
    *(
        "os.system",
        "subprocess.run",
        "builtins.eval",
        "captioner.atomic_files.write_atomically",
        "captioner.bundle.torch.load",
        "shutil.rmtree",
    ),
    *(
        "captioner.model.Captioner.load",
        "lightning.pytorch.Trainer",
        "torch.load",
        "captioner.encoders.small",
        "captioner",
        "",
        ".",
        3,
        None,
    ),
    *("captioner.cli.main.main", "captioner.locks.Lock", "captioner.encoders.small.Small.__init__", "captioner.encoders..small.Small"),
)
ARGUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"path": "broken", "data": "x"},
    {"command": "touch broken"},
    {"_args_": ["touch broken"]},
    {"f": "x"},
)
READ_ONLY = "validation.split=nothing"


def make(rng: random.Random, world: World, folder: Path) -> Case:
    world.copy("photos", folder)
    world.copy("captions.json", folder)
    world.copy("run", folder)
    change, use = rng.choices(WAYS, (way[2] for way in WAYS))[0][:2]
    change(rng, folder / "run")
    return Case(use(rng))


def predicted(rng: random.Random) -> list[str]:
    more = rng.choices(([], ["--model", "run"], ["--out", "out"], ["--caption", "a dog"]), (8, 1, 1, 1))[0]
    return ["predict", "photos/one.png", "photos/two.jpg", "--model", rng.choice(("run", "run/model")), *more]


def by_checkpoint(rng: random.Random) -> list[str]:
    predicting = ["predict", "photos/one.png", "--model", "run/checkpoints/last.ckpt"]
    going_on = ["train", "resume=run/checkpoints/last.ckpt", "run_folder=fresh", "trainer.max_epochs=2"]
    return rng.choices((predicting, [*going_on, READ_ONLY], going_on), (5, 3, 2))[0]


def repeated(rng: random.Random) -> list[str]:
    return ["train", "rerun=run", "run_folder=fresh", "trainer.max_epochs=1", *([] if rng.random() < 0.1 else [READ_ONLY])]


# files


def some_bytes(rng: random.Random, run: Path) -> None:
    """Bytes of a file of the model."""
    path = run / "model" / rng.choice(("model.safetensors", "model.safetensors", "config.json", "vocabulary.json"))
    path.write_bytes(several(rng, change_bytes, path.read_bytes()))


def some_files(rng: random.Random, run: Path) -> None:
    """Files missing, empty, doubled, or folders in their place."""
    paths = sorted(path for path in (run / "model").iterdir())
    path = rng.choice(paths)
    kind = rng.choice(("missing", "empty", "folder", "strange", "swapped", "loop", "nothing", "old"))
    if kind in ("missing", "folder", "loop"):
        path.unlink()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "strange":
        (run / "model" / "notes.txt").write_text("x")
    elif kind == "swapped":
        shutil.copy(rng.choice(paths), path.with_name("other"))
        path.with_name("other").replace(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "nothing":
        shutil.rmtree(run / "model")
    elif kind == "old":
        (run / "model").rename(run / ".model.old")


# values of the model's JSON, with sums that fit so that they are read


def some_values(rng: random.Random, run: Path) -> None:
    path = run / "model" / "config.json"
    config = json.loads(path.read_text())
    part = rng.choice(("encoder", "decoder", "transform", "search", None))
    if part is None:
        config = several(rng, change_json, config)
    else:
        config[part] = several(rng, change_json, config[part])
    path.write_bytes(json_text(rng, config))


def some_numbers(rng: random.Random, run: Path) -> None:
    """A number of the configuration that is none, too small or too great."""
    path = run / "model" / "config.json"
    config = json.loads(path.read_text())
    places = [place for place in slots(config) if isinstance(place[1][place[2]], int | float)]
    for _, holder, key in rng.sample(places, rng.randrange(1, 3)):
        holder[key] = rng.choice(NUMBERS)
    path.write_bytes(json_text(rng, config))


def some_words(rng: random.Random, run: Path) -> None:
    path = run / "model" / "vocabulary.json"
    path.write_bytes(json_text(rng, several(rng, change_json, json.loads(path.read_text()))))
    with_sums(run)


def some_tensors(rng: random.Random, run: Path) -> None:
    path = run / "model" / "model.safetensors"
    path.write_bytes(save(changed_tensors(rng, load_file(path))))
    with_sums(run)


def with_sums(run: Path) -> None:
    """The sums of the files as they are now, or none, as somebody would write them who makes a model by hand."""
    path = run / "model" / "config.json"
    config = json.loads(path.read_text())
    names = ("model.safetensors", "vocabulary.json")
    config["files"] = {name: {"sha256": hashlib.sha256((run / "model" / name).read_bytes()).hexdigest()} for name in names}
    path.write_text(json.dumps(config))


def changed_tensors(rng: random.Random, tensors: dict[str, Any]) -> dict[str, Any]:
    """A tensor of another shape, kind or name, missing, doubled, or full of what is no number."""
    name = rng.choice(sorted(tensors))
    one = tensors.pop(name)
    kinds: tuple[Callable[[], dict[str, Any]], ...] = (
        lambda: {},
        lambda: {name: one.flatten()},
        lambda: {name: one.reshape(-1)[:1].clone()},
        lambda: {name: torch.zeros(0)},
        lambda: {name: torch.full_like(one, float("nan") if one.is_floating_point() else -1)},
        lambda: {name: torch.full_like(one, float("inf") if one.is_floating_point() else 2**40)},
        lambda: {name: one.to(rng.choice((torch.float16, torch.float64, torch.int64, torch.bool, torch.bfloat16)))},
        lambda: {name: one, name + ".more": one.clone()},
        lambda: {"": one},
        lambda: {name: one, rng.choice(sorted(tensors)): one.clone()},
    )
    return {**tensors, **rng.choice(kinds)()}


# what is built


def poisoned_model(rng: random.Random, run: Path) -> None:
    path = run / "model" / "config.json"
    path.write_text(json.dumps(poisoned(rng, json.loads(path.read_text()))))


def poisoned_run(rng: random.Random, run: Path) -> None:
    path = run / "config.yaml"
    path.write_text(yaml.safe_dump(poisoned(rng, yaml.safe_load(path.read_text()))))


def poisoned(rng: random.Random, config: Any) -> Any:
    """Another target somewhere in a configuration, in the place of one or of a plain value."""
    places = [place for place in slots(config) if place[2] == "_target_"]
    if rng.random() < 0.7:
        _, holder, key = rng.choice(places)
        holder[key] = rng.choice(POISON)
        holder.update(rng.choice(ARGUMENTS))
    else:
        _, holder, key = rng.choice([place for place in slots(config) if place[2] not in ("_target_", "_partial_")])
        holder[key] = {"_target_": rng.choice(POISON), **rng.choice(ARGUMENTS)}
    return config


# recorded runs and checkpoints


def some_yaml(rng: random.Random, run: Path) -> None:
    path = run / "config.yaml"
    if rng.random() < 0.4:
        path.write_bytes(several(rng, change_bytes, path.read_bytes()))
        return
    text = json_text(rng, several(rng, change_json, yaml.safe_load(path.read_text())))  # JSON is YAML
    path.write_bytes(text)


def some_checkpoint_bytes(rng: random.Random, run: Path) -> None:
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes(several(rng, change_bytes, path.read_bytes()))


def some_checkpoint_values(rng: random.Random, run: Path) -> None:
    """Other plain values in a checkpoint, also inside its JSON strings, or other tensors."""
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    kind = rng.choice(("tree", "tree", "json", "poison", "tensors"))
    if kind == "tree":
        checkpoint = several(rng, change_json, checkpoint)
    elif kind == "tensors":
        checkpoint["state_dict"] = changed_tensors(rng, dict(checkpoint["state_dict"]))
    else:
        holder, key = rng.choice(
            ((checkpoint, "configuration"), (checkpoint["captioner"], "config"), (checkpoint["captioner"], "vocabulary"))
        )
        key = "config" if kind == "poison" and key == "vocabulary" else key
        change = poisoned if kind == "poison" else change_json
        holder[key] = json_text(rng, change(rng, json.loads(holder[key]))).decode("utf-8", "replace")
    torch.save(unraw(checkpoint), path)


def unraw(tree: Any) -> Any:
    """Numbers and nests that only a text can hold, as strings."""
    if isinstance(tree, dict):
        return {unraw(key): unraw(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [unraw(value) for value in tree]
    before, _, after = RAW.partition("%s")
    return tree.removeprefix(before).removesuffix(after)[:200] if isinstance(tree, str) else tree


WAYS: tuple[tuple[Callable[[random.Random, Path], None], Callable[[random.Random], list[str]], int], ...] = (
    (some_bytes, predicted, 15),
    (some_files, predicted, 10),
    (some_values, predicted, 20),
    (some_numbers, predicted, 15),
    (some_words, predicted, 8),
    (some_tensors, predicted, 10),
    (poisoned_model, predicted, 10),
    (poisoned_run, repeated, 8),
    (some_yaml, repeated, 8),
    (some_checkpoint_bytes, by_checkpoint, 8),
    (some_checkpoint_values, by_checkpoint, 15),
)
