"""Contact sheets per second, and the time that arrays and JSON lines add to prediction.

Sheets: 12 words, panels 240 pixels wide, maps of 14 x 14 over random photos of 640 x 480, drawn by
one process per core (two at most) with one thread each; first only drawn, then also written as PNG.
Ratio: to 20 per second.
Prediction: JPEGs of 640 x 480, from the file to a caption of 12 words by beam search, random
weights, one thread; and the time that `captions.jsonl` and `NAME.npz` take in addition. With
MobileNetV2 at 224 x 224 pixels, the smallest shipped recipe for photos, and with the scenes' small
trunk at 96 x 96, the worst case, since the time of writing hardly depends on the model. Ratio: the
added time to 5 %.

python benchmarks/sheets.py [--sheets 100] [--images 128] [--repeats 5]
"""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # one process per core, one thread per process
    os.environ[name] = "1"

import argparse  # noqa: E402
import io  # noqa: E402
import statistics  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from random_photos import BOX, WORDS, random_maps, random_photo  # noqa: E402

from captioner.caption import WordMaps  # noqa: E402
from captioner.cli.results import Results  # noqa: E402
from captioner.maps.sheet import contact_sheet  # noqa: E402

RATE, SHARE = 20.0, 0.05


def draw_sheets(count: int, seed: int, write: bool) -> float:
    """Seconds that `count` sheets take in this process."""
    rng = np.random.default_rng(seed)
    photos = [random_photo(rng) for _ in range(8)]
    alphas = random_maps(rng)
    began = 0.0
    for number in range(-1, count):
        began = time.perf_counter() if number == 0 else began  # the first one loads fonts
        sheet = contact_sheet(WordMaps(photos[number % 8], WORDS, alphas, BOX, [0.5] * len(WORDS)))
        if write:
            sheet.save(io.BytesIO(), "PNG", compress_level=1)
    return time.perf_counter() - began


def sheet_rate(count: int, processes: int, write: bool) -> float:
    """Sheets per second, the sum over all processes."""
    with ProcessPoolExecutor(processes) as pool:
        return sum(count / seconds for seconds in pool.map(draw_sheets, [count] * processes, range(processes), [write] * processes))


MODELS = {"efficientnet_lite2": ["experiment=flickr8k", "encoder.trunk.weights=null"], "small": []}


def make_model(words: list[str]) -> Any:
    """The parts of a recipe, with random weights."""
    import torch

    from captioner.model import Captioner
    from captioner.training.configuration import compose_run, plain
    from captioner.vocabulary import Vocabulary

    torch.manual_seed(0)
    config = plain(compose_run(words))
    vocabulary = Vocabulary([f"word{number}" for number in range(2500)])
    return Captioner.from_config({part: config[part] for part in ("encoder", "decoder", "transform")}, vocabulary).eval()


def predict(captioner: Any, search: Any, paths: list[Path], out: Path) -> tuple[float, float]:
    """Seconds from files to captions, and seconds of writing them."""
    from captioner.data.images import open_image

    spent = {"captioning": 0.0, "writing": 0.0}
    began = time.perf_counter()

    def add_lap(what: str) -> None:
        nonlocal began
        now = time.perf_counter()
        spent[what] += now - began
        began = now

    with Results(out, frozenset({"arrays"}), None, "Captions") as results:
        add_lap("writing")
        for start in range(0, len(paths), 16):
            images = [open_image(path) for path in paths[start : start + 16]]
            captions = captioner.caption(images, search=search)
            add_lap("captioning")
            for path, caption in zip(paths[start:], captions, strict=False):
                results.add(str(path), path.stem, caption)
            add_lap("writing")
    add_lap("writing")
    return spent["captioning"], spent["writing"]


def time_added(words: list[str], count: int, repeats: int) -> tuple[float, float]:
    """Milliseconds per image, of prediction alone and of writing: medians over repeats."""
    from captioner.search.beam import BeamSearch
    from captioner.search.constraints import Constraints

    captioner, search = make_model(words), BeamSearch(3, 12, constraints=Constraints(min_length=12))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number:06d}.jpg" for number in range(count)]
        for path in paths:
            random_photo(rng).save(path, quality=90)
        predict(captioner, search, paths[:16], Path(folder) / "first")
        rounds = [predict(captioner, search, paths, Path(folder) / f"out{number}") for number in range(repeats)]
    bare, more = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
    return 1000 * bare / count, 1000 * more / count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheets", type=int, default=100)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    processes = min(2, os.cpu_count() or 1)
    for what, write in (("drawn", False), ("drawn and written as PNG", True)):
        rate = sheet_rate(options.sheets, processes, write)
        print(f"sheets {what}, {processes} processes: {rate:6.1f} per second   {rate / RATE:5.2f} x {RATE:.0f} per second")
    for name, words in MODELS.items():
        bare, more = time_added(words, options.images, options.repeats)
        ratio = f"{more / bare:.1%}   {more / bare / SHARE:5.2f} x 5 %"
        print(f"prediction by {name} {bare:.2f} ms per image; arrays and JSON lines add {more:.2f} ms, {ratio}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
