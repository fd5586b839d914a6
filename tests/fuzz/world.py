"""Valid things to begin with, made once: photos, files that describe them, a run that trained on them."""

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

WORDS = ("a", "red", "blue", "dog", "cat", "person", "runs", "sits", "on", "the", "grass")
SMALL = [
    *(
        "encoder=small",
        "encoder.channels=[5,7]",
        "encoder.features=7",
        "encoder.coordinates=false",
        "encoder.blocks=[0,1]",
        "transform.size=24",
    ),
    *("decoder.embedding_size=4", "decoder.hidden_size=6", "attention.score.attention_size=5", "trainer.accelerator=cpu", "threads=1"),
    *("data.minimum_count=1", "data.batch_size=3", "search.beams=2", "trainer.precision=32-true", "data.num_workers=0"),
]
"""A model so small that a training is a matter of a second."""
SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=1", "trainer.limit_val_batches=1", "trainer.log_every_n_steps=1"]
KINDS = {
    "captions": [
        f"data.{split}.{key}={value}"
        for split in ("train", "val")
        for key, value in (("annotations", "captions.json"), ("images", "photos"))
    ],
    "karpathy": ["data.annotations=karpathy.json", "data.images=photos"],
    "folder": ["data.root=photos", "data.table=captions.csv", "data.val_share=0.3", "data.test_share=0.0"],
}
"""The words that say where the data of each kind are, relative to the folder of a case."""
PHOTOS = ("one.png", "two.jpg", "three.png", "four.jpg", "five.gif", "below/six.png")


class World(NamedTuple):
    """`folder` holds photos/, captions.json, instances.json, karpathy.json, results.json, captions.csv, run/ and recorded/KIND/."""

    folder: Path
    captions: dict[str, Any]
    instances: dict[str, Any]
    karpathy: dict[str, Any]
    results: list[dict[str, Any]]
    table: str

    def copy(self, name: str, folder: Path) -> Path:
        """A copy of one of the things in a case's folder."""
        source, target = self.folder / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        return target


def make_world(folder: Path) -> World:
    """Everything in `folder`; the run is trained by the real command."""
    rng = random.Random("world")
    sizes = draw_photos(rng, folder / "photos")
    captions = [(image, " ".join(rng.choices(WORDS, k=rng.randrange(3, 8)))) for image in range(1, len(PHOTOS) + 1) for _ in range(2)]
    world = World(folder, coco(sizes, captions), instances(rng, sizes), karpathy(captions), results(rng), table(captions))
    for name, value in (
        ("captions", world.captions),
        ("instances", world.instances),
        ("karpathy", world.karpathy),
        ("results", world.results),
    ):
        (folder / f"{name}.json").write_text(json.dumps(value))
    (folder / "photos" / "captions.csv").write_text(world.table)
    with inside(folder):
        run("train", "data=captions", *KINDS["captions"], *SMALL, *SHORT, "run_folder=run", "outputs=outputs")
        run("evaluate", "results.json", "captions.json", "--bootstrap", "0", "--save-df", "df.npz")
        for kind, words in KINDS.items():
            record(folder / "recorded" / kind, "train", "--cfg", "job", f"data={kind}", *words, *SMALL, *SHORT)
    shutil.rmtree(folder / "outputs", ignore_errors=True)
    return world


def draw_photos(rng: random.Random, folder: Path) -> list[tuple[int, int]]:
    sizes = []
    for name in PHOTOS:
        width, height = rng.randrange(28, 40), rng.randrange(26, 44)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes("RGB", (width, height), rng.randbytes(width * height * 3)).save(folder / name)
        sizes.append((width, height))
    return sizes


def coco(sizes: list[tuple[int, int]], captions: list[tuple[int, str]]) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": name, "width": width, "height": height, "license": 1}
        for number, (name, (width, height)) in enumerate(zip(PHOTOS, sizes, strict=True), 1)
    ]
    said = [{"id": number, "image_id": image, "caption": text} for number, (image, text) in enumerate(captions, 100)]
    return {"info": {"year": 2017}, "licenses": [{"id": 1, "name": "CC"}], "images": images, "annotations": said}


def instances(rng: random.Random, sizes: list[tuple[int, int]]) -> dict[str, Any]:
    """An object an image: a polygon, run lengths of a crowd, or a box alone."""
    images = [
        {"id": number, "file_name": name, "width": w, "height": h}
        for number, (name, (w, h)) in enumerate(zip(PHOTOS, sizes, strict=True), 1)
    ]
    listed = []
    for number, (width, height) in enumerate(sizes, 1):
        shape: Any = [[2, 2, 20, 2, 20, 20, 2, 20]]
        if number % 3 == 0:
            shape = {"size": [height, width], "counts": [5, 40, height * width - 45]}
        thing = {"id": number, "image_id": number, "category_id": rng.choice((1, 17, 18)), "bbox": [2, 2, 18, 18], "area": 324.0}
        listed.append({**thing, "iscrowd": int(number % 3 == 0)} | ({"segmentation": shape} if number % 3 < 2 else {}))
    names = ((1, "person"), (17, "cat"), (18, "dog"))
    return {"images": images, "annotations": listed, "categories": [{"id": key, "name": name} for key, name in names]}


def karpathy(captions: list[tuple[int, str]]) -> dict[str, Any]:
    images = []
    for number, name in enumerate(PHOTOS, 1):
        sentences = [
            {"raw": text, "tokens": text.split(), "imgid": number, "sentid": index}
            for index, (image, text) in enumerate(captions)
            if image == number
        ]
        place, _, base = name.rpartition("/")
        split = ("train", "restval", "train", "val", "val", "test")[number - 1]
        images.append(
            {"filename": base, "filepath": place, "imgid": number, "cocoid": number + 500, "split": split, "sentences": sentences}
        )
    return {"images": images, "dataset": "small"}


def results(rng: random.Random) -> list[dict[str, Any]]:
    return [{"image_id": image, "caption": " ".join(rng.choices(WORDS, k=5))} for image in range(1, len(PHOTOS) + 1)]


def table(captions: list[tuple[int, str]]) -> str:
    rows = [f'{PHOTOS[image - 1]},"{text}, it seems"' for image, text in captions]
    return "\n".join(["file_name,caption", *rows, ""])


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(*words: str) -> str:
    """What a command prints; it has to succeed. Its lines on standard error go nowhere."""
    from captioner.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    assert code == 0, f"{' '.join(words)} ended with {code}: {err.getvalue()}"
    return out.getvalue()


def record(folder: Path, *words: str) -> None:
    """A run's folder with the configuration that the words compose: `rerun=` reads it without composing anything, which is quick."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(run(*words))
