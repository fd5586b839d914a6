"""Random language models small enough to enumerate."""

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from captioner.records import Step
from captioner.search.hypotheses import SearchResult
from captioner.search.search import Search

START, END, UNKNOWN = 1, 2, 3
EXCLUDED = [0, START, UNKNOWN]


class TreeState(NamedTuple):
    prefix: Tensor
    """(images, queries, 1): a number that tells every prefix from every other."""
    image: Tensor


class TreeRecord(NamedTuple):
    prefix: Tensor


class RandomTree:
    """A language model without structure: the next word's logits are a random function of the image and of the whole prefix."""

    def __init__(self, seed: int, vocab: int, images: int, sharpness: float = 2.0) -> None:
        self.seed, self.vocab, self.images, self.sharpness = seed, vocab, images, sharpness
        self.logits = cache(self.logits)

    def logits(self, image: int, prefix: int) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, image, prefix)) % 2**31)
        return (self.sharpness * torch.randn(self.vocab, generator=generator, dtype=torch.float64)).log_softmax(-1)

    def start(self) -> TreeState:
        return TreeState(torch.zeros(self.images, 1, 1, dtype=torch.long), torch.arange(self.images)[:, None, None])

    def step(self, state: TreeState, words: Tensor) -> Step:
        prefix = state.prefix * self.vocab + words[..., None]
        rows = [
            [self.logits(i, p) for i, p in zip(a, b, strict=True)]
            for a, b in zip(state.image[..., 0].tolist(), prefix[..., 0].tolist(), strict=True)
        ]
        return Step(torch.stack([torch.stack(row) for row in rows]), TreeState(prefix, state.image), TreeRecord(prefix))

    def enumerate(self, image: int, max_length: int, normalise) -> list[tuple[float, float, tuple[int, ...]]]:
        """Every caption up to a length, by recursion: the oracle."""
        result = []

        def go(prefix: int, total: float, words: tuple[int, ...]) -> None:
            log_probs = self.logits(image, prefix).tolist()
            whole = total + log_probs[END]
            result.append((normalise(whole, len(words) + 1), whole, words))
            if len(words) < max_length:
                for word in range(4, self.vocab):
                    go(prefix * self.vocab + word, total + log_probs[word], (*words, word))

        go(START, 0.0, ())
        return sorted(result, reverse=True)


def run(search: Search, model: RandomTree) -> SearchResult:
    return search(model.step, model.start(), model.images, START, END, EXCLUDED)


def caption_words(result: SearchResult, image: int, beam: int) -> tuple[int, ...]:
    return tuple(result.words[image, beam, : result.lengths[image, beam]].tolist())
