"""A few photos of noise with captions, as `data=folder` reads them."""

import csv
import random
from pathlib import Path

from PIL import Image

WORDS = ("a", "red", "blue", "dog", "cat", "runs", "sits", "on", "the", "grass")


def write_photos(root: Path, train: int = 7, val: int = 3) -> Path:
    """Images of unequal sizes in a folder with captions.csv, two captions each; returns the folder."""
    rng = random.Random(0)
    root.mkdir(parents=True)
    rows = []
    for image, split in enumerate(["train"] * train + ["val"] * val):
        size = (rng.randrange(60, 90), rng.randrange(60, 90))
        Image.frombytes("RGB", size, rng.randbytes(size[0] * size[1] * 3)).save(root / f"{image}.png")
        rows += [[f"{image}.png", " ".join(rng.choices(WORDS, k=rng.randrange(3, 7))), split] for _ in range(2)]
    with (root / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "caption", "split"], *rows])
    return root


NARROW = (
    "data.minimum_count=1",
    "data.batch_size=3",
    "decoder.embedding_size=8",
    "decoder.hidden_size=12",
    "attention.score.attention_size=10",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=2",
)
"""Words of a command line that make a decoder small and its numbers exact."""
