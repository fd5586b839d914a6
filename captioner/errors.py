"""The one exception that means: the user can mend this."""


class InputError(ValueError):
    """One line for the user: which file or key, what was expected, what to do. Commands print it and exit with 2."""


class UnwritableError(InputError):
    """A file or folder cannot be written: what follows would fail in the same way, so the command ends."""
