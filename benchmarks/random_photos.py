"""Photos for benchmarks, 640 x 480: smooth colours and a little noise, so that files weigh what
photos' weigh; and a caption."""

import numpy as np
from PIL import Image

WORDS = ["a", "small", "brown", "dog", "runs", "along", "the", "beach", "with", "a", "red", "ball"]
BOX = (80.0, 0.0, 560.0, 480.0)
"""The pixels that the grid of maps covers: the largest centred square."""


def random_photo(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 6, (480, 640, 1)), 0, 255).astype(np.uint8))


def random_maps(rng: np.random.Generator) -> np.ndarray:
    """One map of 14 x 14 per word."""
    return rng.dirichlet(np.full(196, 0.3), len(WORDS)).reshape(-1, 14, 14).astype(np.float32)
