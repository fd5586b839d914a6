"""What a caption must keep to, whatever searches for it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.errors import ArgumentError, InputError
from captioner.search.hypotheses import gather_queries
from captioner.vocabulary import Vocabulary


@dataclass(frozen=True)
class Constraints:
    """Which captions are allowed; lengths are in words, without `<end>`.

    min_length: no shorter caption. no_repeat: no n-gram of that many words twice (0: any). bad_endings: no caption ends in one of
    these words. forbid: none of these words. require: each of these words, at least once, in any order. A word is a string or an id;
    `within` a vocabulary strings become ids.

    `forbid` and `no_repeat` always hold, since a caption can end before it breaks them. The others say where a caption may end, and
    are kept in sight: a word that would leave too few words for what is still required, or for an ending that is allowed, is not said
    (what `no_repeat` may take away later is not foreseen). So greedy search and sampling say what is required at the latest when the
    remaining length only just suffices; a beam of several shares its places out by how much of it was said (`BeamSearch`). Where no
    hypothesis may end, the best that had to is given with `satisfied` false.
    Raises: ArgumentError, a negative number, a list that is none, a word that is both required and forbidden.
    """

    min_length: int = 0
    no_repeat: int = 0
    bad_endings: Sequence[str | int] = ()
    require: Sequence[str | int] = ()
    forbid: Sequence[str | int] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in self.word_lists():
                if isinstance(value, str) or not all(isinstance(word, str | int) and not isinstance(word, bool) for word in value):
                    raise ArgumentError(name, f"is a list of words, not {value!r}")
                object.__setattr__(self, name, tuple(dict.fromkeys(value)))
            elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ArgumentError(name, f"is a number of words and at least 0, not {value!r}")
        both = set(self.require) & set(self.forbid)
        if both:
            raise ArgumentError("require", f"and forbid both hold {sorted(map(str, both))[0]!r}")

    def __str__(self) -> str:
        """What is not at its default, as in "no_repeat 3, forbid cat dog"; empty where all are."""
        changed = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != field.default}
        return ", ".join(f"{name} {value if isinstance(value, int) else ' '.join(map(str, value))}" for name, value in changed.items())

    def within(self, vocabulary: Vocabulary) -> "Constraints":
        """Words as ids; bad endings that the vocabulary lacks are never said. Raises: InputError, another word that it lacks."""
        ids: dict[str, list[int | None]] = {}
        for name in self.word_lists():
            ids[name] = [number_of(word, vocabulary) for word in getattr(self, name)]
            for word, number in zip(getattr(self, name), ids[name], strict=True):
                if number is None and name != BadEndings.name:
                    raise InputError(f"{name}: the model's vocabulary has no word {word!r}")
        words_as_ids: dict[str, Any] = {name: [number for number in numbers if number is not None] for name, numbers in ids.items()}
        return replace(self, **words_as_ids)

    def word_lists(self) -> list[str]:
        """The names of the constraints that are lists of words."""
        return [field.name for field in fields(self) if field.default == ()]


def number_of(word: str | int, vocabulary: Vocabulary) -> int | None:
    """The id of a word, None where there is none; an id must be one of a word, not of a special."""
    if isinstance(word, int):
        return word if vocabulary.unknown < word < len(vocabulary) else None
    number = vocabulary.encode([word])[1]
    return None if number == vocabulary.unknown else number


class Constraint:
    """One constraint as it acts in a search, built where it is not at its default. A new one is a subclass in CONSTRAINTS.

    It may remember something of each query, its `state`: a tensor (images queries ...), or None.
    """

    name: str
    """The field of `Constraints`."""

    def __init__(self, constraints: Constraints, max_length: int, device: torch.device) -> None:
        self.value, self.max_length, self.device = getattr(constraints, self.name), max_length, device

    def initial_state(self, images: int) -> Tensor | None:
        """Of one query per image, without words."""

    def update(self, state: Any, words: Int[Tensor, "images queries"]) -> Tensor | None:
        """The state after `words`."""
        return None

    def may_end(self, state: Any, words: Int[Tensor, "images queries"], length: int) -> Bool[Tensor, "images queries"]:
        """Whether a caption of `length` words that ends in `words` is allowed."""
        return torch.ones_like(words, dtype=torch.bool)

    def mask_words(self, log_probs: Float[Tensor, "images queries vocab"], state: Any, length: int, met: Tensor | None) -> None:
        """Set to -inf, in place, every word that may not follow `length` words; `met` are the required words that were generated."""


class MinimumLength(Constraint):
    name = "min_length"

    def may_end(self, state: Any, words: Int[Tensor, "images queries"], length: int) -> Bool[Tensor, "images queries"]:
        return torch.full(words.shape, length >= self.value, device=self.device)


class NoRepeatedNgram(Constraint):
    """Its state holds all words so far."""

    name = "no_repeat"

    def initial_state(self, images: int) -> Tensor:
        return torch.zeros(images, 1, 0, dtype=torch.long, device=self.device)

    def update(self, state: Any, words: Int[Tensor, "images queries"]) -> Tensor:
        return torch.cat([state, words[..., None]], -1)

    def mask_words(self, log_probs: Float[Tensor, "images queries vocab"], state: Any, length: int, met: Tensor | None) -> None:
        if length >= self.value:
            windows = state.unfold(-1, self.value, 1)
            repeated = (windows[..., :-1] == state[..., None, length - self.value + 1 :]).all(-1)
            log_probs.scatter_add_(-1, windows[..., -1], torch.where(repeated, -torch.inf, 0.0).to(log_probs.dtype))


class ForbiddenWords(Constraint):
    name = "forbid"

    def __init__(self, constraints: Constraints, max_length: int, device: torch.device) -> None:
        super().__init__(constraints, max_length, device)
        self.ids = torch.tensor(self.value, device=device)

    def mask_words(self, log_probs: Float[Tensor, "images queries vocab"], state: Any, length: int, met: Tensor | None) -> None:
        log_probs.index_fill_(-1, self.ids, -torch.inf)


class RequiredWords(Constraint):
    """Its state says which required words were generated."""

    name = "require"

    def __init__(self, constraints: Constraints, max_length: int, device: torch.device) -> None:
        super().__init__(constraints, max_length, device)
        bad = set(constraints.bad_endings)
        self.ids = torch.tensor(self.value, device=device)
        self.bad = torch.tensor([word in bad for word in self.value], dtype=torch.bool, device=device)
        self.lookahead = len(self.value) + bool(bad)

    def initial_state(self, images: int) -> Tensor:
        return torch.zeros(images, 1, len(self.ids), dtype=torch.bool, device=self.device)

    def update(self, state: Any, words: Int[Tensor, "images queries"]) -> Tensor:
        met: Tensor = state | (words[..., None] == self.ids)
        return met

    def may_end(self, state: Any, words: Int[Tensor, "images queries"], length: int) -> Bool[Tensor, "images queries"]:
        met: Tensor = state.all(-1)
        return met

    def mask_words(self, log_probs: Float[Tensor, "images queries vocab"], state: Any, length: int, met: Tensor | None) -> None:
        """Mask the words after which too few words are left for the required ones; nothing where it is too late already.

        u missing words need u words and, where each of them is a bad ending, one more.
        """
        left = self.max_length - length - 1
        if not 0 <= left < self.lookahead:
            return
        missing = ~state
        count = missing.sum(-1)
        good = (missing & ~self.bad).sum(-1)
        needed = count + ((good == 0) & (count > 0))
        after = (count - 1)[..., None]
        good_after = good[..., None] - (missing & ~self.bad).int()
        needed_after = torch.where(after > 0, after + (good_after == 0), self.bad.int())
        values = log_probs[..., self.ids]
        blocked = ((needed > left) & (needed <= left + 1))[..., None]
        log_probs.masked_fill_(blocked, -torch.inf)
        log_probs[..., self.ids] = torch.where(blocked, values.masked_fill(~missing | (needed_after > left), -torch.inf), values)


class BadEndings(Constraint):
    name = "bad_endings"

    def __init__(self, constraints: Constraints, max_length: int, device: torch.device) -> None:
        super().__init__(constraints, max_length, device)
        self.ids = torch.tensor(self.value, device=device)

    def may_end(self, state: Any, words: Int[Tensor, "images queries"], length: int) -> Bool[Tensor, "images queries"]:
        return ~torch.isin(words, self.ids) if length > 0 else super().may_end(state, words, length)

    def mask_words(self, log_probs: Float[Tensor, "images queries vocab"], state: Any, length: int, met: Tensor | None) -> None:
        """The last word is no bad ending; where required words are missing, `RequiredWords` decides."""
        if length != self.max_length - 1:
            return
        if met is None:
            log_probs.index_fill_(-1, self.ids, -torch.inf)
        else:
            log_probs[..., self.ids] = log_probs[..., self.ids].masked_fill(met.all(-1, keepdim=True), -torch.inf)


CONSTRAINTS: tuple[type[Constraint], ...] = (MinimumLength, NoRepeatedNgram, ForbiddenWords, RequiredWords, BadEndings)
"""In the order in which they mask words: `RequiredWords` reads what those before it left."""

ConstraintState = tuple[Tensor | None, ...]
"""The state of each active constraint."""


class ActiveConstraints:
    """The constraints of one search that are not at their defaults.

    Raises: ArgumentError, a word is still a string.
    """

    def __init__(self, constraints: Constraints, max_length: int, end: int, excluded_ids: Sequence[int], device: torch.device) -> None:
        for name in constraints.word_lists():
            for word in getattr(constraints, name):
                if isinstance(word, str):
                    raise ArgumentError(name, f"holds {word!r}, which is no id yet: Search.within(vocabulary) makes it one")
        self.excluded = torch.tensor([*excluded_ids, end], device=device)
        self.active = [kind(constraints, max_length, device) for kind in CONSTRAINTS if getattr(constraints, kind.name)]
        self.required = next((constraint.ids for constraint in self.active if isinstance(constraint, RequiredWords)), None)

    def initial_state(self, images: int) -> ConstraintState:
        """Of one query per image, without words."""
        return tuple(constraint.initial_state(images) for constraint in self.active)

    def met(self, states: ConstraintState) -> Bool[Tensor, "images queries required"] | None:
        """Which required words were generated; None where none is required."""
        pairs = zip(self.active, states, strict=True)
        return next((state for constraint, state in pairs if isinstance(constraint, RequiredWords)), None)

    def update(
        self, states: ConstraintState, parents: Int[Tensor, "images queries"], words: Int[Tensor, "images queries"]
    ) -> ConstraintState:
        """The states after `words` extend the queries `parents`."""
        if all(state is None for state in states):
            return states
        pairs = zip(self.active, gather_queries(states, parents), strict=True)
        return tuple(constraint.update(state, words) for constraint, state in pairs)

    def may_end(self, states: ConstraintState, words: Int[Tensor, "images queries"], length: int) -> Bool[Tensor, "images queries"]:
        """Whether a caption of `length` words that ends in `words` is allowed."""
        allowed = torch.ones_like(words, dtype=torch.bool)
        for constraint, state in zip(self.active, states, strict=True):
            allowed = allowed & constraint.may_end(state, words, length)
        return allowed

    def mask_words(self, log_probs: Float[Tensor, "images queries vocab"], states: ConstraintState, length: int) -> None:
        """Set to -inf, in place, every word that may not follow `length` words, and `<end>`."""
        log_probs.index_fill_(-1, self.excluded, -torch.inf)
        for constraint, state in zip(self.active, states, strict=True):
            constraint.mask_words(log_probs, state, length, self.met(states))
