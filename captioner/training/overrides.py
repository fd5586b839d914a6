"""Overrides of a command line (key=value, group=choice), as Hydra's grammar reads them and as people write paths."""

import os
import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from captioner.errors import InputError

QUOTES = ("'", '"')
PATHS = re.compile(
    r"outputs|run_folder|init|data\.(.+\.)?(root|annotations|images|instances|table|cache_folder)|encoder\.(.+\.)?weights"
    r"|.+\.(folder|latest|save_dir)"
)
"""Keys whose value is a path."""


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """Command-line words as Hydra reads them; what it cannot read is text, and a path is text as it stands. Raises: InputError."""
    parser = OverridesParser.create()
    return [_parse_override(parser, word) for word in words]


def _parse_override(parser: OverridesParser, word: str) -> Override:
    """All that follows the equals sign belongs to a path, and a leading ~ of it is the user's home."""
    key, equals, text = word.partition("=")
    is_path = PATHS.fullmatch(key.lstrip("+")) is not None and text[:1] not in QUOTES
    override, problem = _parse(parser, word)
    if is_path and (override is None or override.is_sweep_override() or not isinstance(override.value(), str | None)):
        override, problem = _parse(parser, f"{key}={quoted(text)}")
    elif override is None and equals:
        override, _ = _parse(parser, f"{key}={_with_quotes(parser, text)}")
    if override is None:
        if not equals:
            raise InputError(f"{word}: cannot be read (expected key=value or group=choice; --help shows them)")
        raise InputError(f"{word}: cannot be read: {problem}; a text is typed {as_typed(key, text)}")
    if override.is_sweep_override():
        hint = f"a list is written [a,b], a text with a comma {as_typed(key, text)}"
        raise InputError(f"{word}: several values are a sweep; start one run for each value ({hint})")
    value = override.value() if is_path and not override.is_delete() else None
    if isinstance(value, str) and value.startswith("~"):
        return _parse(parser, f"{key}={quoted(os.path.expanduser(value))}")[0] or override
    return override


def _parse(parser: OverridesParser, word: str) -> tuple[Override | None, str]:
    """The override, or None and why Hydra cannot read it."""
    try:
        return parser.parse_override(word), ""
    except HydraException as error:
        return None, first_line(error)


def _with_quotes(parser: OverridesParser, text: str) -> str:
    """A value with quotes around the words that Hydra cannot read, in a list around each of them."""
    if text[:1] in (*QUOTES, "{") or (text[:1] == "[") != (text[-1:] == "]"):
        return text
    if text[:1] == "[":
        parts = (part.strip() for part in text[1:-1].split(","))
        return f"[{','.join(part if _parse(parser, f'x={part}')[0] else quoted(part) for part in parts)}]"
    return quoted(text)


def quoted(text: str) -> str:
    """A text as Hydra takes it literally."""
    return QuotedString(text, Quote.single).with_quotes()


def as_typed(key: str, text: str) -> str:
    """The word that gives a key a text, as it is typed in a shell."""
    return shlex.quote(f"{key}={QuotedString(text, Quote.double).with_quotes()}")


def first_line(error: BaseException) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
