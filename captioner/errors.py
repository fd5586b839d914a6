"""The one exception that means: the user can mend this."""


class InputError(ValueError):
    """One line for the user: which file or key, what was expected, what to do. Commands print it and exit with 2."""


class UnwritableError(InputError):
    """A file or folder cannot be written: what follows would fail in the same way, so the command ends."""


class BrokenModelError(InputError):
    """A model whose weights or log-probabilities are no finite numbers: no image is at fault, and the next would fail in the same way."""
