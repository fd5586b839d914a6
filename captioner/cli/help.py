"""Help texts as wide as the terminal: lines break at spaces, and in lists after commas, but never inside a word."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

NARROWEST, WIDEST = 40, 110
"""Columns of a help text, however narrow or wide the terminal is."""
Examples = Sequence[tuple[str, str]]
"""Commands, and what each does (empty where it explains itself)."""


def columns() -> int:
    """Two fewer than the terminal has, as argparse counts."""
    return min(max(shutil.get_terminal_size().columns - 2, NARROWEST), WIDEST)


class Wrapper(textwrap.TextWrapper):
    """Breaks at spaces and after commas; a word that is too long stays whole."""

    def __init__(self, width: int, first: str = "", further: str = "") -> None:
        super().__init__(width, initial_indent=first, subsequent_indent=further, break_long_words=False, break_on_hyphens=False)

    def _split(self, text: str) -> list[str]:
        return [piece for word in super()._split(text) for piece in re.split(r"(?<=,)(?=\S)", word) if piece]


def texts(*parts: str | Mapping[str, str] | Examples) -> str:
    """Paragraphs, tables (name -> text) and lists of examples, with a blank line between them."""
    return "\n\n".join(_part(part) for part in parts)


def _part(part: str | Mapping[str, str] | Examples) -> str:
    if isinstance(part, str):
        return "\n".join(_line(line) for line in part.split("\n"))
    return table(part) if isinstance(part, Mapping) else examples(part)


def _line(line: str) -> str:
    """A line of a paragraph, with its indentation before all that it becomes."""
    indent = line[: len(line) - len(line.lstrip())]
    return Wrapper(columns(), indent, indent).fill(line.strip())


def table(rows: Mapping[str, str]) -> str:
    """A line for each name, and what is said of it beside."""
    indent = max(map(len, rows)) + 4
    return "\n".join(Wrapper(columns(), f"  {name:<{indent - 2}}", " " * indent).fill(text) for name, text in rows.items())


def examples(pairs: Examples) -> str:
    """Commands as they can be typed, each below a comment that says what it does."""
    lines = ["examples:"]
    for command, about in pairs:
        lines += [Wrapper(columns(), "  # ", "  # ").fill(about)] if about else []
        lines.append(continued(command))
    return "\n".join(lines)


def continued(command: str) -> str:
    """A command in lines that a shell reads as one: a backslash ends each but the last, and a flag stays beside its value."""
    first, *others = re.findall(r"(?:--[\w-]+ (?!-))?(?:'[^']*'|\"[^\"]*\"|\S)+", command)
    lines = [f"  {first}"]
    for part in others:
        if len(lines[-1]) + len(part) + 3 > columns():
            lines[-1] += " \\"
            lines.append(f"      {part}")
        else:
            lines[-1] += f" {part}"
    return "\n".join(lines)


class Parser(argparse.ArgumentParser):
    """Complains in one line: with so many flags the usage would bury it."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ever; a word that would not be seen in a message, such as a space, is shown in quotes."""
        found, strange = self.parse_known_args(args, namespace)
        if strange:
            shown = (word if word.isprintable() and word.strip() else ascii(word) for word in strange)
            self.error(f"unrecognized arguments: {' '.join(shown)}")
        return found

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"captioner: error: {message}; `{self.prog} --help` shows every option\n")


class Formatter(argparse.HelpFormatter):
    """argparse's help with our line breaks; what comes from `texts` and `usage` has them already."""

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog, **{"max_help_position": 26, "width": columns(), **more})

    def _split_lines(self, text: str, width: int) -> list[str]:
        return Wrapper(width).wrap(text)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent(text if "\n" in text else Wrapper(width - len(indent)).fill(text), indent)


def usage(*ways: str) -> str:
    """One or several ways to call a command, to stand after "usage: "."""
    return "\n       ".join(Wrapper(columns() - 7, "", " " * 11).fill(way) for way in ways)
