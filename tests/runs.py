"""Small runs of the real command, and the data that they train on."""

import csv
import json
import random
from pathlib import Path

import torch
from PIL import Image

from captioner.cli.main import main

WORDS = ("a", "red", "blue", "dog", "cat", "runs", "sits", "on", "the", "grass")
NARROW = [
    "decoder.embedding_size=8",
    "decoder.hidden_size=12",
    "attention.score.attention_size=10",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
]
SMALL = [
    *NARROW,
    "encoder=small",
    "encoder.channels=[5,7]",
    "encoder.features=7",
    "encoder.coordinates=false",
    "encoder.blocks=[0,1]",
    "transform.size=24",
]
"""The small encoder and its images, smaller."""


def draw(folder: Path, name: str, count: int, first: int) -> dict[str, list[dict[str, object]]]:
    """Noise images of unequal sizes, two or three captions each."""
    rng = random.Random(name)
    (folder / name).mkdir(parents=True)
    record: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    for image in range(first, first + count):
        size = (rng.randrange(28, 40), rng.randrange(26, 44))
        Image.frombytes("RGB", size, rng.randbytes(size[0] * size[1] * 3)).save(folder / name / f"{image}.png")
        record["images"].append({"id": image, "file_name": f"{image}.png", "width": size[0], "height": size[1]})
        for _ in range(rng.randrange(2, 4)):
            caption = " ".join(rng.choices(WORDS, k=rng.randrange(3, 7)))
            record["annotations"].append({"id": len(record["annotations"]) + 1000 * first, "image_id": image, "caption": caption})
    return record


def draw_coco(root: Path) -> Path:
    """A data set as COCO 2017 lies on a disk."""
    for split, count, first in (("train", 7, 1), ("val", 5, 51)):
        record = draw(root, f"{split}2017", count, first)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"captions_{split}2017.json").write_text(json.dumps(record))
    return root


def train(*words: str) -> int:
    return main(["train", *words])


def small_run(coco: Path, folder: str, *more: str) -> Path:
    base = ["data=coco", f"data.root={coco}", *SMALL, "data.minimum_count=1", "data.batch_size=3", "trainer.max_epochs=2"]
    assert train(*base, f"run_folder={folder}", *more) == 0
    return Path(folder)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def tensors(checkpoint: Path) -> dict[str, torch.Tensor]:
    loaded = torch.load(checkpoint, weights_only=True)
    state = {f"weight {name}": value for name, value in loaded["state_dict"].items()}
    for index, moments in loaded["optimizer_states"][0]["state"].items():
        state |= {f"{index} {name}": value for name, value in moments.items()}
    return state


def differing(one: Path, other: Path) -> list[str]:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    return [name for name in left if not torch.equal(left[name], right[name])]
