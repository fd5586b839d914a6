"""Writes docs/commands.md, every command and every flag, from the parsers of the commands.

python docs/commands.py            writes the page
python docs/commands.py --check    exits with 1 if the page differs from the parsers
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from captioner.cli import cache, compact, demo, evaluate, ground, predict, train
from captioner.cli.main import COMMANDS

PAGE = Path(__file__).resolve().parent / "commands.md"
PARSERS = {
    "predict": predict.parser,
    "evaluate": evaluate.make_parser,
    "ground": ground.make_parser,
    "compact": compact.make_parser,
    "demo": demo.parser,
}
TEXTS = {"train": train.usage, "cache": cache.usage}
"""Commands that take Hydra's overrides and no flags."""
WIDTH = 112
"""Columns of the terminal for which help texts are formatted."""

BEGINNING = """# Commands

`captioner COMMAND --help` says the same in a terminal. This page is written by `python docs/commands.py` from the commands themselves.
Exit codes everywhere: 0 done; 1 some inputs failed and are named on standard error, the rest is done; 2 usage or configuration; \
130 interrupted.
`python train.py` and `python predict.py` in a checkout are `captioner train` and `captioner predict`.

| command | what it does |
| --- | --- |
"""


def page() -> str:
    """The whole page."""
    rows = "".join(f"| [`captioner {name}`](#captioner-{name}) | {what} |\n" for name, what in COMMANDS.items())
    with patch.dict(os.environ, COLUMNS=str(WIDTH)):
        return BEGINNING + rows + "".join(f"\n## captioner {name}\n\n{section(name)}" for name in COMMANDS)


def section(name: str) -> str:
    """The text of one command."""
    if name in TEXTS:
        return f"```text\n{TEXTS[name]().strip()}\n```\n"
    parser = PARSERS[name]()
    text = f"{cell(parser.description or '')}\n\n| flag | meaning |\n| --- | --- |\n" + "".join(flags(parser))
    return text + (f"\n```text\n{parser.epilog.strip()}\n```\n" if parser.epilog else "")


def flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    """One row of a table per argument, in the order of the help text."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
            continue
        choices = "|".join(map(str, action.choices)) if action.choices else None
        value = action.metavar or choices or action.dest.upper()
        names = ", ".join(action.option_strings)
        usage = str(value) if not names else names if action.nargs == 0 else f"{names} {value}"
        help_text = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"| `{usage.replace('|', ' or ')}` | {cell(help_text)} |\n"


def cell(text: str) -> str:
    """A text in one line without the characters that have a meaning in a table."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|").replace("<", "&lt;").strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    written = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    current = page()
    if parser.parse_args().check:
        return int(written != current)
    PAGE.write_text(current, encoding="utf-8")
    print(f"{PAGE.name}: {'as it was' if written == current else 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
