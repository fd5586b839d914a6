"""Command lines of every command: valid ones with other words, keys, values, groups, flags, quotes and operators."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from driver import Case
from mutations import NUMBERS, STRINGS, change_words, several, typed
from world import KINDS, SHORT, SMALL, World

CONF = Path(__file__).resolve().parents[2] / "conf"
DATA = ["data=captions", *KINDS["captions"]]
FIRST = ("rerun=run", "rerun=run/config.yaml", "resume=run/checkpoints/last.ckpt", "resume=run/checkpoints/best.ckpt")
ENOUGH = ["trainer.max_epochs=1", "trainer.devices=1", "trainer.strategy=auto", "data.num_workers=0", "threads=1"]
"""Behind all other words where a run begins: nobody asked for an endless one. The last word of a key wins."""
READ_ONLY = "validation.split=nothing"
"""Ends a training once its data have been read."""
SEARCH = (
    *("--search=beam", "--search=greedy", "--search=diverse", "--search=sample", "--beam=2", "--beam=0", "--captions=2", "--captions=3"),
    *("--normalisation=wu", "--normalisation=none", "--groups=2", "--diversity=0.5", "--temperature=0.7", "--temperature=0", "--top-k=3"),
    *("--top-p=0.9", "--top-p=2", "--min-length=2", "--max-length=4", "--max-length=0", "--no-repeat=2", "--no-bad-ending"),
    *("--require=dog", "--require=zebra", "--forbid=dog", "--seed=1", "--seed=-1", "--alpha=0.7", "--batch-size=2", "--device=cpu"),
)
PREDICT = (
    *SEARCH,
    *("--out=out", "--out=out/below", "--out=photos/one.png", "--save=overlay", "--save=words,matrix", "--save=arrays,gallery"),
    *("--save=animation", "--save=none", "--save=all", "--caption=a dog runs", "--caption=zebra", "--caption=", "--recursive"),
    *("--annotations=captions.json", "--annotations=photos", "--explain=gradcam", "--explain=attention,occlusion", "--explain=magic"),
    *(
        "--attention-mode=argmax",
        "--attention-mode=sample",
        "--model=run",
        "--model=run/model",
        "--model=run/checkpoints/best.ckpt",
        "--model=nothing",
    ),
    *("--device=cuda:7", "--device=abacus", "--help", "--version"),
)
EVALUATE = (
    *("--metrics=bleu", "--metrics=bleu,rouge,cider", "--metrics=meteor", "--metrics=spice", "--metrics=", "--metrics=taste", "--partial"),
    *("--compare=results.json", "--compare=nothing", "--diversity", "--training-captions=captions.json", "--bootstrap=0", "--bootstrap=3"),
    *(
        "--df=captions.json",
        "--df=df.npz",
        "--save-df=df.npz",
        "--json=out.json",
        "--json=captions.json",
        "--json=photos",
        "--results=r.json",
    ),
)
EXPLAIN = (
    *("--of=generated", "--of=references", "--of=nothing", "--explain=gradcam", "--explain=attention,occlusion", "--beam=2", "--limit=1"),
    *(
        "--json=out.json",
        "--json=photos",
        "--batch-size=2",
        "--bootstrap=0",
        "--seed=3",
        "--threshold=0.5",
        "--threshold=1",
        "--device=cpu",
    ),
    *("--train-annotations=instances.json", "--train-captions=captions.json", "--train-images=photos", "--train-limit=2", "--scenes=run"),
)
LEAST = [
    *("--annotations=instances.json", "--captions=captions.json", "--images=photos", "--bootstrap=0", "--limit=2"),
]


def make(rng: random.Random, world: World, folder: Path) -> Case:
    command = rng.choices((train, predict, evaluate, explain, cached), (50, 25, 13, 7, 5))[0]
    for name in ("photos", "captions.json", "instances.json", "results.json"):
        world.copy(name, folder)
    words = command(rng, world, folder)
    return Case(
        words, stdin=rng.choice((b"", b"photos/one.png\n", b"photos/one.png\r\nnothing.png\n\n", b"\xff\xfe\n", b"\x00\n", b"photos\n"))
    )


def train(rng: random.Random, world: World, folder: Path) -> list[str]:
    ending = rng.choices(("composed", "read", "trained", "rerun"), (50, 25, 8, 17))[0]
    if ending == "rerun":
        return ["train", *again(rng, world, folder)]
    words = some_words(rng, world) if rng.random() < 0.5 else several(rng, change_words, some_words(rng, world))
    if ending == "composed":
        return ["train", "--cfg", "job", *words]
    words = [*DATA, *SMALL, *SHORT, *words]
    words = change_words(rng, words) if rng.random() < 0.3 else words
    return ["train", *bounded(words), *ENOUGH, *([READ_ONLY] if ending == "read" else [])]


def bounded(words: list[str]) -> list[str]:
    """The words; only to be composed where they ask for 20,000 drawn scenes."""
    data = [word for word in words if word.startswith(("data=", "rerun=run", "resume=run"))]
    return words if data and data[-1] in (DATA[0], *FIRST) else [*words, "--cfg", "job"]


def some_words(rng: random.Random, world: World) -> list[str]:
    """A few overrides of values and choices of groups, most of them valid."""
    known, groups = keys(world.folder), choices()
    found = []
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < 0.35:
            group = rng.choice(sorted(groups))
            found.append(f"{group}={rng.choice(groups[group])}")
            continue
        key = rng.choice(sorted(known))
        value = known[key] if rng.random() < 0.4 else rng.choice((*NUMBERS[:18], "null", "true", "[1,2]", "{a: 1}", "${seed}", quoted(rng)))
        found.append(typed(f"{rng.choice(('', '', '', '', '', '', '+', '++', '~'))}{key}={value}"))
    return found


def quoted(rng: random.Random) -> str:
    """A strange string, mostly in the quotes that Hydra takes."""
    strange = rng.choice(STRINGS)
    return strange if rng.random() < 0.3 else "'" + strange.replace("'", "\\'") + "'"


@cache
def keys(folder: Path) -> dict[str, Any]:
    """Every dotted key of a composed configuration, with its value as it is typed; a section has none."""
    found: dict[str, Any] = {}

    def walk(section: Any, place: str) -> None:
        for key, value in section.items():
            name = f"{place}{key}"
            found[name] = "{}" if isinstance(value, dict) else json.dumps(value) if not isinstance(value, str) else f"'{value}'"
            if isinstance(value, dict):
                walk(value, f"{name}.")

    for kind in KINDS:
        walk(yaml.safe_load((folder / "recorded" / kind / "config.yaml").read_text()), "")
    return found


@cache
def choices() -> dict[str, list[str]]:
    """Group -> choices, by the files of conf."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONF.rglob("[!_]*.yaml")):
        if path.parent != CONF:
            found.setdefault(path.parent.relative_to(CONF).as_posix(), []).append(path.stem)
    return found


def again(rng: random.Random, world: World, folder: Path) -> list[str]:
    """A run repeated, gone on with, or begun with its model, with other values."""
    world.copy("run", folder)
    first = rng.choice((*FIRST, "init=run"))
    more = some_words(rng, world)
    if rng.random() < 0.2:
        return bounded([*several(rng, change_words, [first, *more]), *ENOUGH, READ_ONLY])
    if first == "init=run":
        return [first, *DATA, *SMALL, *SHORT, *change_words(rng, more), *ENOUGH, READ_ONLY]
    return bounded(
        [*(more if rng.random() < 0.6 else change_words(rng, more)), first, *ENOUGH, *([READ_ONLY] if rng.random() < 0.7 else [])]
    )


def flags(rng: random.Random, known: tuple[str, ...], most: int = 4) -> list[str]:
    """Some flags, with = or as two words."""
    found = []
    for word in rng.sample(known, rng.randrange(most)):
        found += [word] if rng.random() < 0.5 else word.split("=", 1)
    return found


def predict(rng: random.Random, world: World, folder: Path) -> list[str]:
    world.copy("run", folder)
    images = rng.choice(
        (["photos/one.png"], ["photos"], ["photos/*.png"], ["-"], ["photos/one.png", "photos/two.jpg"], [".", "--recursive"])
    )
    words = [*images, "--model", "run", *flags(rng, PREDICT)]
    return ["predict", *(words if rng.random() < 0.3 else several(rng, change_words, words))]


def evaluate(rng: random.Random, world: World, folder: Path) -> list[str]:
    if rng.random() < 0.25:
        world.copy("run", folder)
        words = ["--model", "run", "captions.json", "--images", "photos", *flags(rng, (*EVALUATE, *SEARCH))]
    else:
        words = ["results.json", "captions.json", *flags(rng, EVALUATE)]
    return [
        "evaluate",
        *(words if rng.random() < 0.3 else several(rng, change_words, words)),
        *(["--bootstrap", "10"] * (rng.random() < 0.8)),
    ]


def explain(rng: random.Random, world: World, folder: Path) -> list[str]:
    world.copy("run", folder)
    words = ["run", *(word for pair in LEAST for word in pair.split("=")), *flags(rng, EXPLAIN)]
    return ["ground", *(words if rng.random() < 0.3 else several(rng, change_words, words))]


def cached(rng: random.Random, world: World, _: Path) -> list[str]:
    words = [*DATA, *SMALL, "+encoder.frozen=true", *some_words(rng, world)]
    words = words if rng.random() < 0.5 else change_words(rng, words)
    return [
        "cache",
        *(word for word in bounded(words) if word not in ("--cfg", "job")),
        *ENOUGH,
        *([] if bounded(words) == words else ["nothing"]),
    ]
