"""Seconds until a gallery of a thousand images is open, and milliseconds per frame while it
scrolls, in a headless Chromium.

Photos are random (smooth colours and a little noise, 640 x 480); pictures and maps lie beside the
page. Ratio: to 2 seconds and to 60 frames per second. Headless Chromium draws on the CPU: a screen
with a GPU is faster.

python benchmarks/gallery.py [--images 1000] [--repeats 5]
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from random_photos import BOX, WORDS, random_maps, random_photo

from captioner.caption import Caption
from captioner.maps.gallery import Entry, write_gallery

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "tools"))
from chromium import Browser, chromium

OPEN, FRAME = 2.0, 1000 / 60
SCROLL = """new Promise((done) => {
    const began = performance.now(); let count = 0;
    const step = (now) => { scrollBy({top: 120, behavior: 'instant'});
        ++count < 120 ? requestAnimationFrame(step) : done((now - began) / count); };
    requestAnimationFrame(step);
})"""


def gallery_entries(count: int) -> Iterator[Entry]:
    rng = np.random.default_rng(0)
    for number in range(count):
        numbers = (-0.7 * len(WORDS), [-0.7] * len(WORDS), -0.1, -0.7)
        caption = Caption(" ".join(WORDS), WORDS, *numbers, random_maps(rng), BOX, 640, 480, image=random_photo(rng))
        yield Entry(f"{number:06d}.jpg", caption)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if chromium() is None:
        print("Chromium is not installed: nothing is measured")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = write_gallery(Path(folder) / "page", gallery_entries(options.images))
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
    print(f"scroll  {frame:6.1f} ms per frame   {frame / FRAME:5.2f} x 1/60 s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
