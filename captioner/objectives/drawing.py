"""Captions drawn from a decoder in training, word by word."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from captioner.records import AttentionMode, Regions, map_tensors
from captioner.vocabulary import Vocabulary

NEVER = [Vocabulary.pad, Vocabulary.start, Vocabulary.unknown]


@torch.no_grad()
def draw_captions(decoder: Any, regions: Regions, drawn: int, max_length: int, greedy: bool = False) -> Int[Tensor, "images drawn words"]:
    """`<start> w1 ... wn <end> <pad> ...` of each caption, drawn from p, or with `greedy` the most probable word each time.

    After `max_length` words every caption ends. The decoder is in evaluation mode meanwhile (no dropout), and every query looks by
    expectation. torch's random numbers decide.
    """
    with evaluating(decoder):
        memory, state = decoder.start(regions)
        state = map_tensors(lambda leaf: leaf.expand(-1, drawn, *leaf.shape[2:]), state)
        mode = torch.full_like(state.history.mode, AttentionMode.EXPECTATION)
        state = state._replace(history=state.history._replace(mode=mode))
        words = torch.full((len(regions.features), drawn), Vocabulary.start, device=regions.features.device)
        active, captions = torch.ones_like(words, dtype=torch.bool), [words]
        for _ in range(max_length):
            log_probs, state, _ = decoder.step(memory, state, words)
            log_probs[..., NEVER] = -torch.inf
            words = log_probs.argmax(-1) if greedy else torch.multinomial(log_probs.exp().flatten(0, 1), 1).view_as(words)
            captions.append(torch.where(active, words, Vocabulary.pad))
            active = active & (words != Vocabulary.end)
            if not bool(active.any()):
                break
        captions.append(torch.where(active, Vocabulary.end, Vocabulary.pad))
    return torch.stack(captions, -1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
