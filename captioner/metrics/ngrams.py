"""N-grams of many captions as arrays: numbered, counted, and found again in an image's references."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from captioner.errors import ArgumentError

Tokens = Sequence[Hashable]
"""Words, or their ids."""
Integers = Int[np.ndarray, " entries"]


class Counts(NamedTuple):
    """How often each n-gram of one order stands in each caption; sorted by caption, then n-gram; no zeros."""

    caption: Integers
    ngram: Integers
    times: Integers


class Numbering:
    """Numbers for n-grams of orders 1 to `order`: a longer one is known by the number of its beginning and its last word.

    `words` numbers the words; `keys[n - 1]`, sorted, holds `beginning << 32 | last word` of each n-gram of order n > 1, and its place
    there is its number. `keys[0]` is empty.
    """

    def __init__(self, words: Mapping[Hashable, int], keys: Sequence[np.ndarray]) -> None:
        self.words = words
        self.keys = list(keys)
        self.sizes = [len(words), *(len(known) for known in self.keys[1:])]

    @classmethod
    def of(cls, captions: Sequence[Tokens], order: int) -> tuple["Numbering", list[Counts]]:
        """The n-grams of these captions numbered, and counted order by order."""
        counts, fresh, keys = cls({}, [np.empty(0, np.int64) for _ in range(order)])._count(captions)
        return cls(fresh, keys), counts

    def count(self, captions: Sequence[Tokens]) -> list[Counts]:
        """Count other captions, order by order; n-grams never seen get numbers from sizes[n - 1] on, good for this call alone."""
        return self._count(captions)[0]

    def translated(self, other: "Numbering") -> list[Int[np.ndarray, " _"]]:
        """The number in `other` of each n-gram, order by order; where it has none, its `sizes[n - 1]`."""
        words = np.array([other.words.get(word, other.sizes[0]) for word in self.words], np.int64)
        numbers = [words]
        for known, theirs in zip(self.keys[1:], other.keys[1:], strict=True):
            place, found = find_sorted(theirs, (numbers[-1][known >> 32] << 32) | words[known & 0xFFFFFFFF])
            numbers.append(np.where(found, place, len(theirs)))
        return numbers

    def _count(self, captions: Sequence[Tokens]) -> tuple[list[Counts], dict[Hashable, int], list[np.ndarray]]:
        """Counts, and the words and keys that are new."""
        tokens = list(chain.from_iterable(captions))
        known = self.words
        numbers = {word: known.get(word, -1) for word in tokens}
        fresh = {word: number for number, word in enumerate((word for word in numbers if numbers[word] < 0), len(known))}
        numbers |= fresh
        flat = np.fromiter(map(numbers.__getitem__, tokens), np.int64, len(tokens))
        sizes = lengths(captions)
        caption = np.repeat(np.arange(len(captions)), sizes)
        left = np.repeat(np.cumsum(sizes), sizes) - np.arange(len(flat))
        counts, new_keys = [count_ngrams(caption, flat, len(known) + len(fresh))], [np.empty(0, np.int64)]
        ngram = flat.copy()
        for n in range(2, len(self.keys) + 1):
            at = np.flatnonzero(left >= n)
            key = (ngram[at] << 32) | flat[at + n - 1]
            ngram[at], new = number_keys(self.keys[n - 1], key)
            counts.append(count_ngrams(caption[at], ngram[at], len(self.keys[n - 1]) + len(new)))
            new_keys.append(new)
        return counts, fresh, new_keys


def number_keys(known: Integers, keys: Int[np.ndarray, " keys"]) -> tuple[Int[np.ndarray, " keys"], Int[np.ndarray, " new"]]:
    """Each key's place in sorted `known`, the unknown ones numbered from len(known) on; and those unknown, sorted."""
    place, found = find_sorted(known, keys)
    new, inverse = np.unique(keys[~found], return_inverse=True)
    place[~found] = len(known) + inverse
    return place, new


def find_sorted(known: Integers, keys: Int[np.ndarray, " keys"]) -> tuple[Int[np.ndarray, " keys"], np.ndarray]:
    """Places of `keys` in sorted `known`, and where they truly stand there."""
    place = np.searchsorted(known, keys)
    if len(known) == 0:
        return place, np.zeros(len(keys), bool)
    return place, known[np.minimum(place, len(known) - 1)] == keys


def count_ngrams(caption: Integers, ngram: Integers, size: int) -> Counts:
    """Count equal (caption, n-gram) pairs; n-gram numbers are below `size`."""
    size = max(size, 1)
    pairs, count = np.unique(caption * size + ngram, return_counts=True)
    return Counts(pairs // size, pairs % size, count)


def lengths(captions: Sequence[Tokens]) -> Int[np.ndarray, " captions"]:
    return np.array([len(caption) for caption in captions], np.int64)


class Postings(NamedTuple):
    """For one order, the references that hold an n-gram of an image: entries first .. first + number - 1 of each sorted pair."""

    pairs: Integers
    """image * size + n-gram, sorted, each once."""
    first: Integers
    number: Integers
    reference: Int[np.ndarray, " postings"]
    times: Int[np.ndarray, " postings"]
    size: int


class References:
    """The references of a list of images, tokenised, counted once for all scores.

    Raises: ValueError, no images, an image without references, or a caption that is a string and not a list of tokens.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]], order: int = 4) -> None:
        if len(references) == 0:
            raise ArgumentError("references", "hold no image: there is nothing to score against")
        self.per_image = np.array([len(captions) for captions in references], np.int64)
        if not self.per_image.all():
            empty = int(np.argmin(self.per_image))
            raise ArgumentError("references", f"of image {empty} (counted from 0) are empty: each image needs one or more")
        self.captions = list(chain.from_iterable(references))
        check_tokens(self.captions)
        self.first = np.cumsum(self.per_image) - self.per_image
        self.image = np.repeat(np.arange(len(references)), self.per_image)
        self.lengths = lengths(self.captions)
        self.numbering, self.counts = Numbering.of(self.captions, order)
        self.postings = [self._post(counts, size) for counts, size in zip(self.counts, self.numbering.sizes, strict=True)]

    def __len__(self) -> int:
        return len(self.per_image)

    def of(self, image: int) -> list[Tokens]:
        """The tokenised references of one image."""
        return self.captions[self.first[image] : self.first[image] + self.per_image[image]]

    def _post(self, counts: Counts, size: int) -> Postings:
        pair = self.image[counts.caption] * size + counts.ngram
        order = np.argsort(pair, kind="stable")
        pair = pair[order]
        first = np.flatnonzero(np.diff(pair, prepend=-1))
        number = np.diff(first, append=len(pair))
        return Postings(pair[first], first, number, counts.caption[order], counts.times[order], size)

    def images_of(self, candidates: Sequence[Tokens], images: Sequence[int] | np.ndarray | None) -> Int[np.ndarray, " candidates"]:
        """The image of each candidate, checked; without `images`, one candidate an image in their order."""
        check_tokens(candidates)
        chosen = np.arange(len(self)) if images is None else np.asarray(images, np.int64)
        if len(chosen) != len(candidates):
            raise ValueError(f"{len(candidates)} candidates do not go with {len(chosen)} images")
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise ArgumentError("images", f"must lie in 0 .. {len(self) - 1}, not {chosen.min()} .. {chosen.max()}")
        return chosen


def count_references(references: References | Sequence[Sequence[Tokens]], order: int) -> References:
    """References counted up to `order`, now or already."""
    if not isinstance(references, References):
        return References(references, order)
    if len(references.postings) != order:
        raise ArgumentError("order", f"is {order} words, but the references were counted up to {len(references.postings)}")
    return references


def check_tokens(captions: Sequence[Tokens]) -> None:
    for caption in captions:
        if isinstance(caption, str):
            raise ArgumentError("captions", f"are lists of tokens here, not strings: {caption[:60]!r}")
