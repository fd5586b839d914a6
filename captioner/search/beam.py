"""Beam search over any `start` and `step`: a whole batch of images at once, all beams in one tensor."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.records import stack_records
from captioner.search.hypotheses import NORMALISATIONS, Found, Say, normalised, pick


class Pool(NamedTuple):
    """The best finished hypotheses so far: where each ended, to be traced back."""

    score: Float[Tensor, "images beams"]
    log_prob: Float[Tensor, "images beams"]
    end_log_prob: Float[Tensor, "images beams"]
    step: Int[Tensor, "images beams"]
    beam: Int[Tensor, "images beams"]


class BeamSearch:
    """The `beams` best captions of each image.

    At every step the continuations are ranked; those among the first `beams` that say `<end>` are finished, and the best `beams` others
    live on. An image is done when `beams` captions have finished. After `max_length` words every live beam has to end, at the price of
    its log p(`<end>`), so that there is always a caption. `normalisation` ("mean", "wu", "none") with exponent `alpha` ranks finished
    captions of different lengths. What `never` holds is never said. A beam of one is greedy search; exact when `beams` holds every
    prefix. Raises: ValueError, beams or max_length below 1, an unknown normalisation.
    """

    def __init__(self, beams: int = 3, max_length: int = 20, normalisation: str = "mean", alpha: float = 1.0) -> None:
        if beams < 1:
            raise ValueError(f"beams is a number of hypotheses and at least 1, not {beams}")
        if max_length < 1:
            raise ValueError(f"max_length is a number of words and at least 1, not {max_length}")
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation is one of {', '.join(NORMALISATIONS)}, not {normalisation!r}")
        self.beams, self.max_length, self.normalisation, self.alpha = beams, max_length, normalisation, alpha

    def __str__(self) -> str:
        return f"beam {self.beams}" if self.beams > 1 else "greedy"

    @torch.no_grad()
    def __call__(self, step: Say, state: Any, images: int, start: int, end: int, never: list[int]) -> Found:
        """Search from a `state` of one query an image. `never` are the ids that may not be said."""
        width = self.beams
        words = torch.full((images, 1), start, device=next_device(state))
        live = torch.zeros(images, 1, device=words.device)
        banned, ending = (torch.tensor(ids, device=words.device) for ids in (never, [end]))
        pool: Pool | None = None
        history: list[tuple[Tensor, Tensor, Tensor, Any]] = []
        for length in range(self.max_length + 1):
            log_probs, state, trace = step(state, words)
            log_probs = log_probs.index_fill(-1, banned, -torch.inf)
            pool = self.finish(pool, live, log_probs[..., end], length, width, forced=length == self.max_length, log_probs=log_probs)
            if length == self.max_length or bool((pool.score > -torch.inf).all()):
                break
            going = log_probs.index_fill(-1, ending, -torch.inf)
            totals = (live[..., None] + going).flatten(1)
            live, flat = totals.topk(min(width, totals.shape[1]), -1)
            parents, words = flat // going.shape[-1], flat % going.shape[-1]
            history.append((parents, words, going.flatten(1).gather(1, flat), trace))
            state = pick(state, parents)
        assert pool is not None
        return self.trace_back(pool, history)

    def finish(self, pool: Pool | None, live: Tensor, ends: Tensor, length: int, width: int, forced: bool, log_probs: Tensor) -> Pool:
        """Let the beams end whose `<end>` ranks among the first `width` continuations (or all, where forced) and keep the best."""
        totals = live + ends
        if not forced:
            every = (live[..., None] + log_probs).flatten(1)
            bar = every.topk(min(width, every.shape[1]), -1).values[:, -1:]
            totals = totals.masked_fill(totals < bar, -torch.inf)
        score = normalised(totals, length + 1, self.normalisation, self.alpha)
        if pool is not None:
            score = score.masked_fill((pool.score > -torch.inf).all(-1, keepdim=True), -torch.inf)
        step = torch.full_like(totals, length, dtype=torch.long)
        beam = torch.arange(totals.shape[1], device=totals.device).expand_as(totals)
        found = Pool(score, totals.masked_fill(score == -torch.inf, -torch.inf), ends, step, beam)
        if pool is not None:
            found = Pool(*(torch.cat(pair, 1) for pair in zip(pool, found, strict=True)))
        if found.score.shape[1] < width:
            missing = width - found.score.shape[1]
            fills = (-torch.inf, -torch.inf, 0.0, 0, 0)
            found = Pool(*(torch.nn.functional.pad(leaf, (0, missing), value=fill) for leaf, fill in zip(found, fills, strict=True)))
        best = found.score.topk(width, -1).indices
        return pick(found, best)

    def trace_back(self, pool: Pool, history: list[tuple[Tensor, Tensor, Tensor, Any]]) -> Found:
        """Walk from each end to the start, taking the word, its log-probability and its trace along."""
        beam, kept = pool.beam, []
        for t in range(len(history) - 1, -1, -1):
            parents, words, log_probs, trace = history[t]
            spoken = pool.step > t
            here = torch.where(spoken, beam, 0)
            beam = torch.where(spoken, parents.gather(1, here), beam)
            row = (
                words.gather(1, here) * spoken,
                log_probs.gather(1, here).masked_fill(~spoken, 0.0),
                pick(trace, torch.where(spoken, beam, 0)),
            )
            kept.append(row)
        kept.reverse()
        images, width = pool.score.shape
        if not kept:
            nothing = pool.score.new_zeros(images, width, 0)
            return Found(nothing.long(), pool.step, nothing, pool.end_log_prob, pool.log_prob, pool.score, None)
        said, scored, traces = zip(*kept, strict=True)
        trace = stack_records(list(traces), 2)
        return Found(torch.stack(said, 2), pool.step, torch.stack(scored, 2), pool.end_log_prob, pool.log_prob, pool.score, trace)


def next_device(state: Any) -> torch.device:
    """The device of the first tensor of a nested record."""
    while not isinstance(state, Tensor):
        state = next(leaf for leaf in state if leaf is not None)
    return state.device
