"""What a caption must keep to, whatever searches for it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

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
        for name in ("min_length", "no_repeat"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or number < 0:
                raise ArgumentError(name, f"is a number of words and at least 0, not {number!r}")
        for name in ("bad_endings", "require", "forbid"):
            words = getattr(self, name)
            if isinstance(words, str) or not all(isinstance(word, str | int) and not isinstance(word, bool) for word in words):
                raise ArgumentError(name, f"is a list of words, not {words!r}")
            object.__setattr__(self, name, tuple(dict.fromkeys(words)))
        both = set(self.require) & set(self.forbid)
        if both:
            raise ArgumentError("require", f"and forbid both hold {sorted(map(str, both))[0]!r}")

    def __str__(self) -> str:
        """What is not at its default, as in "no_repeat 3, forbid cat dog"; empty where all are."""
        changed = {field.name: getattr(self, field.name) for field in fields(self) if getattr(self, field.name) != field.default}
        return ", ".join(f"{name} {value if isinstance(value, int) else ' '.join(map(str, value))}" for name, value in changed.items())

    def within(self, vocabulary: Vocabulary) -> "Constraints":
        """Words as ids; bad endings that the vocabulary lacks are never said. Raises: InputError, another word that it lacks."""
        ids = {name: [number_of(word, vocabulary) for word in getattr(self, name)] for name in ("bad_endings", "require", "forbid")}
        for name in ("require", "forbid"):
            for word, number in zip(getattr(self, name), ids[name], strict=True):
                if number is None:
                    raise InputError(f"{name}: the model's vocabulary has no word {word!r}")
        bad, require, forbid = ([number for number in numbers if number is not None] for numbers in ids.values())
        return replace(self, bad_endings=bad, require=require, forbid=forbid)


def number_of(word: str | int, vocabulary: Vocabulary) -> int | None:
    """The id of a word, None where there is none; an id must be one of a word, not of a special."""
    if isinstance(word, int):
        return word if vocabulary.unknown < word < len(vocabulary) else None
    number = vocabulary.encode([word])[1]
    return None if number == vocabulary.unknown else number


class ConstraintState(NamedTuple):
    """What the constraints must remember of each query; None where no constraint needs it."""

    words: Int[Tensor, "images queries length"] | None
    met: Bool[Tensor, "images queries required"] | None


class ActiveConstraints:
    """Constraints made ready for one search: ids as tensors, `<end>` among what is no word. A constraint at its default costs nothing.

    Raises: ArgumentError, a word is still a string.
    """

    def __init__(self, constraints: Constraints, max_length: int, end: int, excluded_ids: Sequence[int], device: torch.device) -> None:
        for name in ("bad_endings", "require", "forbid"):
            for word in getattr(constraints, name):
                if isinstance(word, str):
                    raise ArgumentError(name, f"holds {word!r}, which is no id yet: Search.within(vocabulary) makes it one")
        self.max_length, self.min_length, self.no_repeat = max_length, constraints.min_length, constraints.no_repeat
        self.banned = torch.tensor([*excluded_ids, *constraints.forbid, end], device=device)
        self.bad = torch.tensor(constraints.bad_endings, device=device) if constraints.bad_endings else None
        self.required = torch.tensor(constraints.require, device=device) if constraints.require else None
        bad = set(constraints.bad_endings)
        self.required_bad = torch.tensor([word in bad for word in constraints.require], dtype=torch.bool, device=device)
        self.foresight = len(constraints.require) + bool(bad)

    def initial_state(self, images: int) -> ConstraintState:
        """One query per image, without words."""
        device = self.banned.device
        words = torch.zeros(images, 1, 0, dtype=torch.long, device=device) if self.no_repeat else None
        met = None if self.required is None else torch.zeros(images, 1, len(self.required), dtype=torch.bool, device=device)
        return ConstraintState(words, met)

    def update(
        self, constraint_state: ConstraintState, parents: Int[Tensor, "images queries"], words: Int[Tensor, "images queries"]
    ) -> ConstraintState:
        """The state after `words` extend the queries `parents`."""
        if constraint_state.words is None and constraint_state.met is None:
            return constraint_state
        before, met = gather_queries(constraint_state, parents)
        before = None if before is None else torch.cat([before, words[..., None]], -1)
        return ConstraintState(before, None if met is None else met | (words[..., None] == self.required))

    def may_end(
        self, constraint_state: ConstraintState, words: Int[Tensor, "images queries"], length: int
    ) -> Bool[Tensor, "images queries"]:
        """Whether a caption of `length` words that ends in `words` is allowed."""
        allowed = torch.full(words.shape, length >= self.min_length, device=words.device)
        if self.bad is not None and length > 0:
            allowed &= ~torch.isin(words, self.bad)
        return allowed if constraint_state.met is None else allowed & constraint_state.met.all(-1)

    def mask_words(self, log_probs: Float[Tensor, "images queries vocab"], constraint_state: ConstraintState, length: int) -> None:
        """Set to -inf, in place, every word that may not follow `length` words, and `<end>`."""
        log_probs.index_fill_(-1, self.banned, -torch.inf)
        if constraint_state.words is not None and length >= self.no_repeat:
            windows = constraint_state.words.unfold(-1, self.no_repeat, 1)
            repeated = (windows[..., :-1] == constraint_state.words[..., None, length - self.no_repeat + 1 :]).all(-1)
            log_probs.scatter_add_(-1, windows[..., -1], torch.where(repeated, -torch.inf, 0.0).to(log_probs.dtype))
        left = self.max_length - length - 1
        if 0 <= left < self.foresight:
            self.mask_dead_ends(log_probs, constraint_state, left)

    def mask_dead_ends(self, log_probs: Float[Tensor, "images queries vocab"], constraint_state: ConstraintState, left: int) -> None:
        """Mask the words after which `left` words more cannot make the caption whole; nothing where it is too late already.

        Whole are u required words not said yet and, where each of them is a bad ending, one more; with none, a bad ending needs one more.
        """
        if constraint_state.met is None:
            assert self.bad is not None
            log_probs.index_fill_(-1, self.bad, -torch.inf)
            return
        assert self.required is not None
        missing = ~constraint_state.met
        count = missing.sum(-1)
        good = (missing & ~self.required_bad).sum(-1)
        needed = count + ((good == 0) & (count > 0))
        after = (count - 1)[..., None]
        good_after = good[..., None] - (missing & ~self.required_bad).int()
        needed_after = torch.where(after > 0, after + (good_after == 0), self.required_bad.int())
        values = log_probs[..., self.required]
        blocked = (needed > left) & (needed <= left + 1)
        log_probs.masked_fill_(blocked[..., None], -torch.inf)
        log_probs[..., self.required] = torch.where(
            blocked[..., None], values.masked_fill(~missing | (needed_after > left), -torch.inf), values
        )
        if self.bad is not None and left == 0:
            log_probs[..., self.bad] = log_probs[..., self.bad].masked_fill((count == 0)[..., None], -torch.inf)
