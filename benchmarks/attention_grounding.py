"""Do maps lie on what the words name, and do the words depend on what the maps show? Kinds of
attention on the drawn scenes.

python benchmarks/attention_grounding.py [--kinds soft,hard,local,sparse,multi_head] [--seed 0]
                                         [--limit 200] [--out outputs/kinds]

Trains the runs that are missing, in the folders of benchmarks/attention_kinds.py. Then `captioner
explain` compares the maps of generated captions with the boxes of the first `--limit` validation
scenes: highest cell in the box; share of the map in the box (best word of a phrase); IoU of the box
around the cells above a share of the map's maximum, which is chosen for each class on training
scenes; areas under the word's probability while the pixels attended most are removed (deletion, low
is good) or added (insertion). Areas are not x 100. Baselines stand below.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attention_kinds import KINDS, finished_run, parse_kinds

from captioner.cli.ground import main as ground
from captioner.json_files import read_json

GROUNDING = {"pointing_box": "peak in box", "correctness": "share in box", "iou": "IoU", "localised": "IoU >= 0.5"}
FAITHFULNESS = {"deletion": "deletion", "insertion": "insertion"}
TRAINING_SCENES = 500


def main() -> int:
    program = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = program.add_argument
    add("--kinds", default="soft,hard,local,sparse,multi_head", help=f"some of {', '.join(KINDS)} (default: %(default)s)")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--limit", type=int, default=200, help="validation scenes (default: %(default)s)")
    add("--out", type=Path, default=Path("outputs/kinds"), help="the folder of all runs (default: %(default)s)")
    options = program.parse_args()
    records = {}
    for kind in parse_kinds(options.kinds):
        folder = finished_run(kind, options.seed, options.out)
        record = folder / f"grounding_{options.limit}.json"
        if not record.is_file():
            code = ground(arguments(folder, record, options.limit))
            if code:
                return code
        records[kind] = read_json(record, "a model's grounding")
    print(table(records, options.limit))
    return 0


def arguments(folder: Path, record: Path, limit: int) -> list[str]:
    """The command line of `captioner ground`."""
    from captioner.cli.demo import scenes_source
    from captioner.cli.train import configure

    root = Path(scenes_source(configure(["experiment=scenes"])[0]).root)

    def files_of(split: str, prefix: str) -> list[str]:
        kinds = {"annotations": "instances", "captions": "captions", "scenes": "scenes"}
        files = [part for name, kind in kinds.items() for part in (f"--{prefix}{name}", str(root / "annotations" / f"{kind}_{split}.json"))]
        return [*files, f"--{prefix}images", str(root / split)]

    thresholds = [*files_of("train", "train-"), "--train-limit", str(TRAINING_SCENES)]
    scored = [*files_of("val", ""), "--limit", str(limit), "--of", "generated"]
    return [str(folder), *scored, *thresholds, "--faithfulness", "--json", str(record)]


def table(records: Mapping[str, Mapping[str, Any]], limit: int) -> str:
    """One row per kind with 95 % intervals, then the baselines of the first kind."""
    heads = [*GROUNDING.values(), *FAITHFULNESS.values()]
    lines = [f"\nfirst {limit} validation scenes, generated captions (x 100, except the areas), 95 % bootstrap intervals over images"]
    lines.append(f"{'':<22}" + "".join(f"{head:>22}" for head in heads))

    def row(name: str, baseline: str, record: Mapping[str, Any], area: str | None) -> str:
        grounding = [cell(record["generated"]["attention"][key][baseline], 100, 1) if baseline else "-" for key in GROUNDING]
        faithfulness = [cell(record["faithfulness"][area][key], 1, 3) if area else "-" for key in FAITHFULNESS]
        return f"{name:<22}" + "".join(f"{text:>22}" for text in [*grounding, *faithfulness])

    for kind, record in records.items():
        lines.append(row(kind, "map", record, "attention"))
    first, record = next(iter(records.items()))
    for baseline in ("uniform", "centre", "shuffled"):
        lines.append(row(f"{baseline} ({first})", baseline, record, None))
    lines.append(row(f"random ({first})", "", record, "random"))
    counts = ", ".join(f"{kind} {record['generated']['words']}" for kind, record in records.items())
    return "\n".join([*lines, f"object words: {counts}"])


def cell(number: Mapping[str, float], scale: float, digits: int) -> str:
    return f"{scale * number['value']:.{digits}f} [{scale * number['low']:.{digits}f}, {scale * number['high']:.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
