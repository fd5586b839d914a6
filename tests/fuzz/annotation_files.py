"""Files that describe images in JSON: COCO captions and instances, Karpathy's splits, results; changed in bytes, values and nesting."""

import json
import random
from pathlib import Path
from typing import Any

from driver import Case
from mutations import change_bytes, change_json, json_text, several
from world import World

FAST = ["--metrics", "bleu,rouge,cider", "--bootstrap", "3"]
READ_ONLY = "validation.split=nothing"


def make(rng: random.Random, world: World, folder: Path) -> Case:
    world.copy("photos", folder)
    return rng.choices((results, references, frequencies, named, objects, captions, karpathy), (25, 20, 5, 10, 15, 10, 15))[0](
        rng, world, folder
    )


def changed(rng: random.Random, path: Path, tree: Any, whole: bool = False) -> None:
    """Write a tree with one to three changes; `whole`: only such that it stays JSON."""
    if rng.random() < 0.25 and not whole:
        path.write_bytes(several(rng, change_bytes, json.dumps(tree).encode()))
    elif rng.random() < 0.03:
        path.mkdir()
    else:
        path.write_bytes(json_text(rng, several(rng, change_json, tree)))


def results(rng: random.Random, world: World, folder: Path) -> Case:
    world.copy("captions.json", folder)
    changed(rng, folder / "results.json", world.results)
    more = rng.choice(([], ["--partial"], ["--diversity"], ["--json", "out.json"], ["--compare", "results.json"]))
    return Case(["evaluate", "results.json", "captions.json", *FAST, *more])


def references(rng: random.Random, world: World, folder: Path) -> Case:
    world.copy("results.json", folder)
    changed(rng, folder / "captions.json", world.captions)
    more = rng.choice(([], ["--partial"], ["--training-captions", "captions.json"], ["--save-df", "df.npz"]))
    return Case(["evaluate", "results.json", "captions.json", *FAST, *more])


def frequencies(rng: random.Random, world: World, folder: Path) -> Case:
    """CIDEr's document frequencies: captions in JSON, or saved ones with flipped bytes."""
    world.copy("results.json", folder)
    world.copy("captions.json", folder)
    if rng.random() < 0.5:
        changed(rng, folder / "df.json", world.captions)
        return Case(["evaluate", "results.json", "captions.json", *FAST, "--df", "df.json"])
    world.copy("df.npz", folder)
    data = (folder / "df.npz").read_bytes()
    (folder / "df.npz").write_bytes(several(rng, change_bytes, data))
    return Case(["evaluate", "results.json", "captions.json", *FAST, "--df", "df.npz"])


def named(rng: random.Random, world: World, folder: Path) -> Case:
    """File names to ids, for the results of predict."""
    world.copy("run", folder)
    changed(rng, folder / "captions.json", world.captions)
    save = rng.choice(("none", "gallery"))
    return Case(["predict", "photos", "--model", "run", "--annotations", "captions.json", "--out", "out", "--save", save])


def objects(rng: random.Random, world: World, folder: Path) -> Case:
    """Instances, or the captions beside them, for the maps of object words."""
    world.copy("run", folder)
    which = rng.choice(("instances", "instances", "captions"))
    for name, tree in (("instances", world.instances), ("captions", world.captions)):
        if name == which:
            changed(rng, folder / f"{name}.json", tree)
        else:
            world.copy(f"{name}.json", folder)
    files = ["--annotations", "instances.json", "--captions", "captions.json", "--images", "photos"]
    return Case(["ground", "run", *files, "--of", rng.choice(("references", "generated,references")), "--bootstrap", "0"])


def captions(rng: random.Random, world: World, folder: Path) -> Case:
    changed(rng, folder / "captions.json", world.captions)
    return Case(["train", *recorded(world, "captions", folder), *reading(rng)])


def karpathy(rng: random.Random, world: World, folder: Path) -> Case:
    changed(rng, folder / "karpathy.json", world.karpathy)
    return Case(["train", *recorded(world, "karpathy", folder), *reading(rng)])


def recorded(world: World, kind: str, folder: Path) -> list[str]:
    """The words of a training by a recorded configuration, which takes no time to compose."""
    world.copy(f"recorded/{kind}", folder)
    return [f"rerun=recorded/{kind}", "run_folder=fresh"]


def reading(rng: random.Random) -> list[str]:
    """Mostly only read, now and then trained on; images that are listed and not there may be skipped."""
    missing = ["data.missing=skip"] * (rng.random() < 0.5)
    return [*missing, *([] if rng.random() < 0.08 else [READ_ONLY])]
