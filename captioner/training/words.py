"""Command-line words (key=value, group=choice) as Hydra's grammar reads them, and as people write paths."""

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


def parse(words: Sequence[str]) -> list[Override]:
    """Command-line words as Hydra reads them; what it cannot read is text, and a path is text as it stands. Raises: InputError."""
    parser = OverridesParser.create()
    return [_read(parser, word) for word in words]


def _read(parser: OverridesParser, word: str) -> Override:
    """key=value; of a path everything after the equals sign belongs to it, and a leading ~ is the user's home."""
    key, equals, text = word.partition("=")
    is_path = PATHS.fullmatch(key.lstrip("+")) is not None and text[:1] not in QUOTES
    found, problem = _tried(parser, word)
    if is_path and (found is None or found.is_sweep_override() or not isinstance(found.value(), str | None)):
        found, problem = _tried(parser, f"{key}={quoted(text)}")
    elif found is None and equals:
        found, _ = _tried(parser, f"{key}={_with_quotes(parser, text)}")
    if found is None:
        if not equals:
            raise InputError(f"{word}: cannot be read (expected key=value or group=choice; --help shows them)")
        raise InputError(f"{word}: cannot be read: {problem}; a text is typed {typed(key, text)}")
    if found.is_sweep_override():
        hint = f"a list is written [a,b], a text with a comma {typed(key, text)}"
        raise InputError(f"{word}: several values are a sweep; start one run a value ({hint})")
    value = found.value() if is_path and not found.is_delete() else None
    if isinstance(value, str) and value.startswith("~"):
        return _tried(parser, f"{key}={quoted(os.path.expanduser(value))}")[0] or found
    return found


def _tried(parser: OverridesParser, word: str) -> tuple[Override | None, str]:
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
        return f"[{','.join(part if _tried(parser, f'x={part}')[0] else quoted(part) for part in parts)}]"
    return quoted(text)


def quoted(text: str) -> str:
    """A text as Hydra takes it literally."""
    return QuotedString(text, Quote.single).with_quotes()


def typed(key: str, text: str) -> str:
    """The word that gives a key a text, as it is typed in a shell."""
    return shlex.quote(f"{key}={QuotedString(text, Quote.double).with_quotes()}")


def first_line(error: BaseException) -> str:
    """The first line that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
