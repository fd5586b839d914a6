"""The one way into every search."""

import copy
import inspect
import math
from abc import ABC, abstractmethod
from typing import Any

from captioner.errors import ArgumentError
from captioner.search.constraints import Constraints
from captioner.search.hypotheses import NORMALISATIONS, SearchResult, StepFunction
from captioner.vocabulary import Vocabulary


class Search(ABC):
    """Captions of up to `max_length` words that keep to `constraints`; those of different lengths are ranked by `normalisation`
    ("mean", "wu", "none") with exponent `alpha`, see `hypotheses.normalised`.

    Raises: ArgumentError, max_length below 1 or below constraints.min_length, an unknown normalisation, an alpha
    that is not finite.
    """

    def __init__(self, max_length: int, normalisation: str, alpha: float, constraints: Constraints | None) -> None:
        if max_length < 1:
            raise ArgumentError("max_length", f"is a number of words and at least 1, not {max_length}")
        if normalisation not in NORMALISATIONS:
            raise ArgumentError("normalisation", f"is one of {', '.join(NORMALISATIONS)}, not {normalisation!r}")
        if not math.isfinite(alpha):
            raise ArgumentError("alpha", f"is the exponent of a length and finite, not {alpha}")
        self.max_length, self.normalisation, self.alpha = max_length, normalisation, float(alpha)
        self.constraints = constraints or Constraints()
        if self.constraints.min_length > max_length:
            raise ArgumentError(
                "min_length", f"is a number of words and at most max_length, {max_length}, not {self.constraints.min_length}"
            )

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments by name, with the values that this search has."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def like(cls, other: "Search", **changes: Any) -> "Search":
        """A search of this kind with every setting of `other` that this kind has too, except for `changes`.

        Raises: ArgumentError, as the constructor.
        """
        parameters = inspect.signature(cls).parameters
        return cls(**{**{name: value for name, value in other.settings().items() if name in parameters}, **changes})

    def common_settings(self) -> list[str]:
        """What this search says of itself, as every kind has it: only what is not as usual."""
        usual = {"max_length": 20, "normalisation": "mean", "alpha": 1.0}
        settings = [f"{name} {getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return [*settings, str(self.constraints)] if str(self.constraints) else settings

    @abstractmethod
    def __call__(self, step: StepFunction, state: Any, images: int, start: int, end: int, excluded_ids: list[int]) -> SearchResult:
        """Search from a `state` of one query per image. `excluded_ids` may not be generated."""

    def within(self, vocabulary: Vocabulary) -> "Search":
        """The same search with the words of its constraints as ids. Raises: InputError, a word that the vocabulary lacks."""
        search = copy.copy(self)
        search.constraints = self.constraints.within(vocabulary)
        return search
