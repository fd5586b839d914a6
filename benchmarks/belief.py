"""Do maps lie on what the words name, and do the words hang on what the maps show? Kinds of attention on the drawn scenes, with baselines.

python benchmarks/belief.py [--kinds soft,hard,local,sparse,multi_head] [--seed 0] [--limit 200] [--out outputs/kinds]

Trains what is missing, as benchmarks/attention_kinds.py does and in the same folders. Then `captioner explain` holds the maps of freely
generated captions against the boxes of the first `--limit` validation scenes: highest cell in the box; share of the map in the box (best
word of a phrase); IoU of the box round what is left when maps are cut at a share of their peak chosen for each class on training scenes;
areas under the word's probability while the pixels attended most go (deletion, low is good) or come (insertion). Areas are not x 100.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attention_kinds import KINDS, chosen, kept

from captioner.cli.explain import main as explain
from captioner.json_files import read_json

GROUNDED = {"pointing_box": "peak in box", "correctness": "share in box", "iou": "IoU", "localised": "IoU >= 0.5"}
TRUSTED = {"deletion": "deletion", "insertion": "insertion"}
TRAINING_SCENES = 500


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = asked.add_argument
    add("--kinds", default="soft,hard,local,sparse,multi_head", help=f"of {', '.join(KINDS)} (default: %(default)s)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--limit", type=int, default=200, help="validation scenes (default: %(default)s)")
    add("--out", type=Path, default=Path("outputs/kinds"), help="the folder of all runs (default: %(default)s)")
    options = asked.parse_args()
    found = {}
    for kind in chosen(options.kinds):
        folder = kept(kind, options.seed, options.out)
        record = folder / f"belief_{options.limit}.json"
        if not record.is_file():
            code = explain(words(folder, record, options.limit))
            if code:
                return code
        found[kind] = read_json(record, "a model's grounding")
    print(table(found, options.limit))
    return 0


def words(folder: Path, record: Path, limit: int) -> list[str]:
    """The command line of `captioner explain`."""
    from captioner.cli.demo import drawn
    from captioner.cli.train import configure

    root = Path(drawn(configure(["experiment=scenes"])[0]).root)

    def of(split: str, prefix: str) -> list[str]:
        kinds = {"annotations": "instances", "captions": "captions", "scenes": "scenes"}
        files = [part for name, kind in kinds.items() for part in (f"--{prefix}{name}", str(root / "annotations" / f"{kind}_{split}.json"))]
        return [*files, f"--{prefix}images", str(root / split)]

    chosen_on = [*of("train", "train-"), "--train-limit", str(TRAINING_SCENES)]
    return [str(folder), *of("val", ""), *chosen_on, "--limit", str(limit), "--of", "generated", "--faithfulness", "--json", str(record)]


def table(found: Mapping[str, Mapping[str, Any]], limit: int) -> str:
    """A row a kind with 95 % intervals, then the baselines of the first kind."""
    heads = [*GROUNDED.values(), *TRUSTED.values()]
    lines = [f"\nfirst {limit} validation scenes, generated captions (x 100 but for the areas), 95 % bootstrap intervals over images"]
    lines.append(f"{'':<22}" + "".join(f"{head:>22}" for head in heads))

    def row(name: str, whose: str, record: Mapping[str, Any], area: str | None) -> str:
        grounded = [cell(record["generated"]["attention"][key][whose], 100, 1) if whose else "-" for key in GROUNDED]
        trusted = [cell(record["faithfulness"][area][key], 1, 3) if area else "-" for key in TRUSTED]
        return f"{name:<22}" + "".join(f"{text:>22}" for text in [*grounded, *trusted])

    for kind, record in found.items():
        lines.append(row(kind, "map", record, "attention"))
    first, record = next(iter(found.items()))
    for whose in ("uniform", "centre", "shuffled"):
        lines.append(row(f"{whose} ({first})", whose, record, None))
    lines.append(row(f"random ({first})", "", record, "random"))
    counts = ", ".join(f"{kind} {record['generated']['words']}" for kind, record in found.items())
    return "\n".join([*lines, f"object words: {counts}"])


def cell(number: Mapping[str, float], scale: float, digits: int) -> str:
    return f"{scale * number['value']:.{digits}f} [{scale * number['low']:.{digits}f}, {scale * number['high']:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
