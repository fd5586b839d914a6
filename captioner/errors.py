"""The one exception that means: the user can mend this."""


class InputError(ValueError):
    """One line for the user: which file or key, what was expected, what to do. Commands print it and exit with 2."""
