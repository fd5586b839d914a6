"""`captioner compact`: a trained model in fewer bits, a quarter or half as large."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from captioner.cli.arguments import command_parser
from captioner.packing import KINDS

ABOUT = (
    "Writes a trained model again, with its matrices and filters in 8 bits (a scale per output channel) or as half floats. "
    "Every command reads such a model as any other. Score it before you hand it on: captioner evaluate --model OUT ..."
)
EXAMPLES = [
    ("captioner compact outputs/latest small", "a quarter of the size"),
    ("captioner compact outputs/latest half --kind float16", "half of the size, nearly without a loss"),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Raises: InputError, no such model, or the folder holds other files."""
    options = make_parser().parse_args(arguments)
    from captioner.bundle import CARD, TENSORS
    from captioner.model import Captioner
    from captioner.saved_models import read_saved_model

    saved = read_saved_model(options.model)
    card = saved.path / CARD if saved.path.is_dir() else None
    Captioner.load(options.model, "cpu").save(
        options.out, card.read_text(encoding="utf-8") if card is not None and card.is_file() else "", options.kind
    )
    before = sum(tensor.numel() * tensor.element_size() for tensor in saved.tensors.values())
    after = (options.out / TENSORS).stat().st_size
    print(f"captioner: {options.out}: {after / 1e6:.1f} MB as {options.kind}, {before / 1e6:.1f} MB as float32", file=sys.stderr)
    return 0


def make_parser() -> argparse.ArgumentParser:
    parser = command_parser("compact", ("captioner compact MODEL OUT [--kind int8]",), ABOUT, EXAMPLES)
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model/ folder, a run's folder, a .ckpt, or the name of a model")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder of the new model")
    kinds = [kind for kind in KINDS if kind != "float32"]
    parser.add_argument("--kind", choices=kinds, default="int8", help="numbers of matrices and filters (int8)")
    return parser
