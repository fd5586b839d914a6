"""Words <-> ids. Standard library only."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from captioner.errors import ArgumentError, InputError

SPECIALS = ("<pad>", "<start>", "<end>", "<unk>")


class Vocabulary:
    """Ids 0 to 3 are `<pad> <start> <end> <unk>`; the words follow in the order given.

    Raises: ArgumentError, a word is empty, holds white space, stands twice or is one of the four.
    """

    pad, start, end, unknown = range(4)

    def __init__(self, words: Sequence[str]) -> None:
        self.words: tuple[str, ...] = (*SPECIALS, *words)
        self._ids = {word: index for index, word in enumerate(self.words)}
        for word in words:
            if word in SPECIALS or not word or word.split() != [word]:
                raise ArgumentError(
                    "words", f"holds {word!r}: a word is not empty, holds no white space and is none of {' '.join(SPECIALS)}"
                )
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(words).items() if count > 1)
            raise ArgumentError("words", f"holds {twice!r} more than once")

    @classmethod
    def count(cls, token_lists: Iterable[Sequence[str]] | Counter[str], minimum_count: int) -> "Vocabulary":
        """The words that occur at least `minimum_count` times: the most frequent first, equals in alphabetical order.

        token_lists: captions as tokens, or what `count_tokens` counted in them.
        """
        return cls(_frequent(token_lists, minimum_count))

    def extended(self, token_lists: Iterable[Sequence[str]] | Counter[str], minimum_count: int) -> "Vocabulary":
        """Every word keeps its id; frequent words that are new are appended."""
        return Vocabulary((*self.words[4:], *(word for word in _frequent(token_lists, minimum_count) if word not in self._ids)))

    def unknown_share(self, tallied: Counter[str]) -> float:
        """The share of the counted tokens that become `<unk>`; 0 where nothing was counted."""
        known = sum(count for token, count in tallied.items() if self._ids.get(token, self.unknown) > self.unknown)
        return 1 - known / total if (total := tallied.total()) else 0.0

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """`[<start>, ..., <end>]`; a token that is no word, or is spelt like a special, becomes `<unk>`."""
        ids = self._ids
        return [self.start, *(max(ids.get(token, self.unknown), self.unknown) for token in tokens), self.end]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words up to the first `<end>`, without `<pad>` and `<start>`.

        Raises: IndexError, an id is negative or not below the vocabulary's size.
        """
        words = []
        for index in ids:
            if index == self.end:
                break
            if index < 0:
                raise IndexError(f"ids holds {index}; an id is at least 0")
            if index >= self.unknown:
                words.append(self.words[index])
        return words

    def to_json(self) -> dict[str, Any]:
        return {"words": list(self.words)}

    @classmethod
    def from_json(cls, record: Any) -> "Vocabulary":
        """Raises: InputError, the record is not what `to_json` writes."""
        words = record.get("words") if isinstance(record, Mapping) else None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or tuple(words[:4]) != SPECIALS:
            raise InputError(f"vocabulary: `words` must be a list of strings that begins {' '.join(SPECIALS)}")
        try:
            return cls(words[4:])
        except ValueError as error:
            raise InputError(f"vocabulary: {error}") from None

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.words == other.words

    def __hash__(self) -> int:
        return hash(self.words)

    def __repr__(self) -> str:
        return f"Vocabulary of {len(self)} words"


def count_tokens(token_lists: Iterable[Sequence[str]]) -> Counter[str]:
    """How often each token occurs."""
    return Counter(token for tokens in token_lists for token in tokens)


def _frequent(token_lists: Iterable[Sequence[str]] | Counter[str], minimum_count: int) -> list[str]:
    if minimum_count < 1:
        raise ArgumentError("minimum_count", f"is a number of occurrences and at least 1, not {minimum_count}")
    counts = token_lists if isinstance(token_lists, Counter) else count_tokens(token_lists)
    frequent = (word for word, count in counts.items() if count >= minimum_count and word not in SPECIALS)
    return sorted(frequent, key=lambda word: (-counts[word], word))
