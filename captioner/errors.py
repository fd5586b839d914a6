"""Errors that say what is wrong with what the user gave, and can be mended by the user; and words for their messages."""

from collections.abc import Sequence


class InputError(ValueError):
    """One line for the user: which file or key, what was expected, what to do. Commands print it and exit with 2."""


class UnwritableError(InputError):
    """A file or folder cannot be written: what follows would fail in the same way, so the command ends."""


class BrokenModelError(InputError):
    """A model whose weights or log-probabilities are no finite numbers: no image is at fault, and the next would fail in the same way."""


class ArgumentError(ValueError):
    """A function or constructor refuses the value of one of its arguments.

    name: the argument. message: what goes on after the name, as in "must be positive, not -1". `str` gives both. Whoever knows which
    key or flag the value came from puts that before it: `build.build` for a configuration, `cli.searching` for flags.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message)
        self.name, self.message = name, message

    def __str__(self) -> str:
        return f"{self.name} {self.message}"


def one_line(error: BaseException, length: int = 600) -> str:
    """An error's message on one line, or the name of its class where it has none."""
    return " ".join(str(error).split())[:length] or type(error).__name__


def listed(names: Sequence[str], most: int = 3) -> str:
    """ "a, b, c and 4 more": the first names, and how many others there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
