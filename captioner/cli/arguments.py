"""What the command lines of several commands share: the parser, types of values, and flags."""

import argparse
from pathlib import Path
from typing import Any

from captioner.cli.help import Formatter, Parser, texts, usage


def command_parser(command: str, ways: tuple[str, ...], description: str, *epilog: Any) -> argparse.ArgumentParser:
    """The parser of `captioner COMMAND`; `ways` are its lines of usage, and `epilog` follows the flags in its help."""
    return Parser(
        prog=f"captioner {command}",
        usage=usage(*ways),
        description=texts(description),
        epilog=texts(*epilog),
        formatter_class=Formatter,
        allow_abbrev=False,
    )


def add_batch_size(parser: Any, default: int) -> None:
    parser.add_argument("--batch-size", type=positive_number, default=default, metavar="N", help=f"images at a time ({default})")


def add_device(parser: Any) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (auto)")


def add_json(parser: Any, what: str) -> None:
    parser.add_argument("--json", type=Path, metavar="FILE", help=f"write {what}, as fractions")


def whole_number(text: str, least: int = 0) -> int:
    """What argparse makes of a whole number. Raises: ArgumentTypeError, it is none, too small, or has more digits than torch takes."""
    if not (text.isdecimal() and len(text) <= 18 and int(text) >= least):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number of at least {least}, with at most 18 digits")
    return int(text)


def positive_number(text: str) -> int:
    return whole_number(text, 1)


def share(text: str) -> float:
    """A share between 0 and 1, both left out. Raises: ArgumentTypeError, anything else."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return value


def split_list(text: str) -> list[str]:
    """The parts between commas, without spaces and empty parts."""
    return [part.strip() for part in text.split(",") if part.strip()]
