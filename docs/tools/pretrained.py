"""Makes the model that comes with the package of a run, measures it before and after packing, and writes its card.

python docs/tools/pretrained.py RUN --captions captions_val.json --images val [--unlike coco/val2017 ...] [--card CARD.md]
                                    [--out captioner/pretrained/flickr8k]

Printed and written into the card: scores of the run's model and of the packed one, the log-probability below which a photo is said to
be unlike those that the model learned from, which share of other photos (--unlike) is said to be so, and the area under the ROC curve.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captioner.captioning import FAMILIAR, UNFAMILIAR_SHARE
from captioner.data.captions import CaptionSet, read_coco_captions
from captioner.data.images import open_image
from captioner.metrics.scores import score
from captioner.model import Captioner
from captioner.progress import progress

ROOT = Path(__file__).resolve().parent.parent.parent
SCORES = ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr")
AT_ONCE = 50


def caption_paths(model: Captioner, paths: Sequence[Path], what: str) -> list[Any]:
    captions: list[Any] = []
    for start in progress(range(0, len(paths), AT_ONCE), what, unit="batch"):
        captions += model.caption([open_image(path) for path in paths[start : start + AT_ONCE]])
    return captions


def measure(model: Captioner, photos: CaptionSet, what: str) -> tuple[dict[str, float], list[Any]]:
    captions = caption_paths(model, [photos.path(index) for index in range(len(photos))], what)
    candidates = {image: caption.text for image, caption in zip(photos.image_ids, captions, strict=True)}
    scores = score(candidates, photos.references)
    return {name: float(scores[name]) for name in SCORES}, captions


def area_under_curve(familiar: Sequence[float], others: Sequence[float]) -> float:
    """The probability that a photo like the training's has the higher log-probability, of one of each kind."""
    return float((np.array(familiar)[:, None] > np.array(others)[None]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--captions", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--unlike", nargs="*", default=[], help="folders of other photos")
    parser.add_argument("--card", type=Path, help="a text in which {table} and {familiar} are filled in")
    parser.add_argument("--out", type=Path, default=ROOT / "captioner" / "pretrained" / "flickr8k")
    options = parser.parse_args()
    photos = read_coco_captions(options.captions, options.images)
    model = Captioner.load(options.run, "cpu")
    before, captions = measure(model, photos, "captions of the run's model")
    log_probs = [caption.mean_log_prob for caption in captions]
    model.config[FAMILIAR] = float(np.quantile(log_probs, UNFAMILIAR_SHARE))
    model.save(options.out, "", "int8")
    packed = Captioner.load(options.out, "cpu")
    after, captions = measure(packed, photos, "captions of the packed model")
    table = "| x 100 | " + " | ".join(SCORES) + " |\n| --- |" + " --- |" * len(SCORES)
    for name, row in (("float32", before), ("int8", after)):
        table += f"\n| {name} | " + " | ".join(f"{100 * row[score]:.1f}" for score in SCORES) + " |"
    least = model.config[FAMILIAR]
    familiar = f"mean log-probability of a word below {least:.2f}: {100 * UNFAMILIAR_SHARE:.0f} % of the validation photos"
    paths = [path for folder in options.unlike for path in sorted(Path(folder).iterdir())]
    if paths:
        others = [caption.mean_log_prob for caption in caption_paths(packed, paths, "captions of other photos")]
        own = [caption.mean_log_prob for caption in captions]
        share = np.mean(np.array(others) < least)
        familiar += f", {100 * share:.0f} % of {len(others)} other photos; area under the ROC curve {area_under_curve(own, others):.2f}"
    print(f"{table}\n{familiar}\n{json.dumps({'float32': before, 'int8': after, FAMILIAR: least})}")
    if options.card:
        text = options.card.read_text(encoding="utf-8").replace("{table}", table).replace("{familiar}", familiar)
        model.save(options.out, text, "int8")


if __name__ == "__main__":
    main()
