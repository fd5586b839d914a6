import itertools
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captioner.records import Step
from captioner.search.beam import BeamSearch

START, END, UNKNOWN = 1, 2, 3
NEVER = [0, START, UNKNOWN]


class Said(NamedTuple):
    prefix: Tensor
    """(images, queries, 1): a number that tells every prefix from every other."""
    image: Tensor


class Seen(NamedTuple):
    prefix: Tensor


class RandomTree:
    """A language model without structure: the next word's logits are a random function of the image and of the whole prefix."""

    def __init__(self, seed: int, vocab: int, images: int, sharpness: float = 2.0) -> None:
        self.seed, self.vocab, self.images, self.sharpness = seed, vocab, images, sharpness

    def logits(self, image: int, prefix: int) -> Tensor:
        generator = torch.Generator().manual_seed(hash((self.seed, image, prefix)) % 2**31)
        return (self.sharpness * torch.randn(self.vocab, generator=generator, dtype=torch.float64)).log_softmax(-1)

    def start(self) -> Said:
        return Said(torch.zeros(self.images, 1, 1, dtype=torch.long), torch.arange(self.images)[:, None, None])

    def step(self, state: Said, words: Tensor) -> Step:
        prefix = state.prefix * self.vocab + words[..., None]
        rows = [
            [self.logits(i, p) for i, p in zip(a, b, strict=True)]
            for a, b in zip(state.image[..., 0].tolist(), prefix[..., 0].tolist(), strict=True)
        ]
        return Step(torch.stack([torch.stack(row) for row in rows]), Said(prefix, state.image), Seen(prefix))

    def enumerate(self, image: int, max_length: int, normalise) -> list[tuple[float, float, tuple[int, ...]]]:
        """Every caption up to a length, by recursion: the oracle."""
        found = []

        def go(prefix: int, total: float, words: tuple[int, ...]) -> None:
            log_probs = self.logits(image, prefix).tolist()
            whole = total + log_probs[END]
            found.append((normalise(whole, len(words) + 1), whole, words))
            if len(words) < max_length:
                for word in range(4, self.vocab):
                    go(prefix * self.vocab + word, total + log_probs[word], (*words, word))

        go(START, 0.0, ())
        return sorted(found, reverse=True)


def run(search: BeamSearch, model: RandomTree):
    return search(model.step, model.start(), model.images, START, END, NEVER)


NORMALISE = {
    "mean": lambda total, tokens: total / tokens,
    "wu": lambda total, tokens: total / ((5 + tokens) / 6),
    "none": lambda total, tokens: total,
}


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6), content=st.integers(1, 3), max_length=st.integers(1, 3), normalisation=st.sampled_from(sorted(NORMALISE))
)
def test_a_beam_that_holds_every_prefix_is_exact(seed, content, max_length, normalisation):
    model = RandomTree(seed, 4 + content, images=2)
    beams = sum(content**n for n in range(max_length + 1)) + 1
    found = run(BeamSearch(beams, max_length, normalisation), model)
    for i in range(2):
        truth = model.enumerate(i, max_length, NORMALISE[normalisation])
        for k, (score, total, words) in enumerate(truth):
            assert found.words[i, k, : found.lengths[i, k]].tolist() == list(words)
            assert found.score[i, k].item() == pytest.approx(score, abs=1e-9)
            assert found.log_prob[i, k].item() == pytest.approx(total, abs=1e-9)
        assert (found.score[i, len(truth) :] == -torch.inf).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), beams=st.integers(1, 4), max_length=st.integers(1, 6))
def test_what_is_found_is_what_the_model_says(seed, beams, max_length):
    """Scores, log-probabilities and traces belong to the words they stand beside; the order is by score; nothing banned is said."""
    model = RandomTree(seed, 7, images=3)
    found = run(BeamSearch(beams, max_length), model)
    for i, k in itertools.product(range(3), range(beams)):
        if found.score[i, k] == -torch.inf:
            continue
        words, prefix, total = found.words[i, k, : found.lengths[i, k]].tolist(), START, 0.0
        assert not set(words) & {0, START, END, UNKNOWN}
        for t, word in enumerate(words):
            log_prob = model.logits(i, prefix)[word].item()
            assert found.log_probs[i, k, t].item() == pytest.approx(log_prob, abs=1e-9)
            assert found.trace.prefix[i, k, t].item() == prefix
            total, prefix = total + log_prob, prefix * 7 + word
        assert found.end_log_prob[i, k].item() == pytest.approx(model.logits(i, prefix)[END].item(), abs=1e-9)
        assert found.log_prob[i, k].item() == pytest.approx(total + model.logits(i, prefix)[END].item(), abs=1e-9)
    assert (found.score[:, :-1] >= found.score[:, 1:]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), max_length=st.integers(1, 6))
def test_a_beam_of_one_is_greedy(seed, max_length):
    model = RandomTree(seed, 8, images=2)
    found = run(BeamSearch(1, max_length), model)
    for i in range(2):
        words, prefix = [], START
        while len(words) < max_length:
            log_probs = model.logits(i, prefix).index_fill(0, torch.tensor(NEVER), -torch.inf)
            word = int(log_probs.argmax())
            if word == END:
                break
            words.append(word)
            prefix = prefix * 8 + word
        assert found.words[i, 0, : found.lengths[i, 0]].tolist() == words


def test_batching_changes_nothing():
    model = RandomTree(9, 9, images=5)
    together = run(BeamSearch(3, 6), model)
    for i in range(5):
        alone = RandomTree(9, 9, images=1)
        alone.start = lambda i=i: Said(torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([[[i]]]))
        found = run(BeamSearch(3, 6), alone)
        assert torch.allclose(found.score[0], together.score[i])
        assert found.words[0, 0, : found.lengths[0, 0]].tolist() == together.words[i, 0, : together.lengths[i, 0]].tolist()


def test_a_beam_that_never_ends_still_has_a_caption():
    class Endless(RandomTree):
        def logits(self, image, prefix):
            return super().logits(image, prefix).index_fill(0, torch.tensor([END]), -50.0)

    found = run(BeamSearch(3, 4), Endless(3, 9, images=2))
    assert (found.lengths == 4).all()
    assert torch.isfinite(found.score).all()


@pytest.mark.parametrize("bad", [{"beams": 0}, {"max_length": 0}, {"normalisation": "length"}])
def test_a_bad_value_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        BeamSearch(**bad)
