"""Seconds until a gallery of a thousand images is open, and milliseconds a frame while it scrolls, in a headless Chromium.

Photos are drawn (smooth colours and a little noise, 640 x 480), so that thumbnails weigh what photos' weigh; pictures and maps lie beside
the page. Ratio: against 2 seconds and against 60 frames a second. Headless Chromium draws on the CPU: a screen with a GPU is faster.

python benchmarks/gallery.py [--images 1000] [--repeats 5]
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.caption import Caption
from captioner.maps.gallery import Entry, write_gallery

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from chromium import Browser, chromium

WORDS = ["a", "small", "brown", "dog", "runs", "along", "the", "beach", "with", "a", "red", "ball"]
OPEN, FRAME = 2.0, 1000 / 60
SCROLL = """new Promise((done) => {
    const began = performance.now(); let count = 0;
    const step = (now) => { scrollBy({top: 120, behavior: 'instant'});
        ++count < 120 ? requestAnimationFrame(step) : done((now - began) / count); };
    requestAnimationFrame(step);
})"""


def photo(rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), np.uint8)).resize((640, 480), Image.Resampling.BICUBIC)
    return Image.fromarray(np.clip(np.asarray(coarse) + rng.normal(0, 6, (480, 640, 1)), 0, 255).astype(np.uint8))


def entries(count: int) -> Iterator[Entry]:
    rng = np.random.default_rng(0)
    for number in range(count):
        alphas = rng.dirichlet(np.full(196, 0.3), len(WORDS)).reshape(-1, 14, 14).astype(np.float32)
        numbers = (-0.7 * len(WORDS), [-0.7] * len(WORDS), -0.1, -0.7)
        caption = Caption(" ".join(WORDS), WORDS, *numbers, alphas, (80.0, 0.0, 560.0, 480.0), 640, 480, image=photo(rng))
        yield Entry(f"{number:06d}.jpg", caption)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if chromium() is None:
        print("no Chromium here: nothing to measure")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = write_gallery(Path(folder) / "page", entries(options.images))
        with Browser(Path(folder) / "profile") as browser:
            page = browser.page(1280, 800)
            opened, frames = [], []
            for _ in range(options.repeats):
                page.goto("about:blank")
                opened.append(page.goto(path.as_uri()))
                frames.append(page.js(SCROLL))
        size = path.stat().st_size / 1e6
    opens, frame = statistics.median(opened), statistics.median(frames)
    print(f"{options.images:,} images, a page of {size:.1f} MB, median of {options.repeats}")
    print(f"open    {opens:6.2f} s   {opens / OPEN:5.2f} x 2 s")
    print(f"scroll  {frame:6.1f} ms a frame   {frame / FRAME:5.2f} x 1/60 s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
