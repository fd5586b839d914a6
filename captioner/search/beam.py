"""Beam search, greedy and diverse: a whole batch of images at once, all beams in one tensor."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot, pad

from captioner.errors import ArgumentError
from captioner.records import map_tensors, select_images, stack_records
from captioner.search.constraints import ActiveConstraints, Constraints
from captioner.search.hypotheses import (
    SearchResult,
    StepFunction,
    clamp_to_finite,
    device_of,
    gather_queries,
    normalised,
    ranking,
    top_values,
)
from captioner.search.search import Search

CHECK_INTERVAL = 4
"""Steps between two checks whether every image is done; a check makes the processor wait for the accelerator."""


class Pool(NamedTuple):
    """The best finished hypotheses of a group so far: where each ended, to be traced back."""

    score: Float[Tensor, "images beams"]
    log_prob: Float[Tensor, "images beams"]
    end_log_prob: Float[Tensor, "images beams"]
    step: Int[Tensor, "images beams"]
    beam: Int[Tensor, "images beams"]
    satisfied: Bool[Tensor, "images beams"]

    def done(self) -> Bool[Tensor, "images 1"]:
        return ((self.score > -torch.inf) & self.satisfied).all(-1, keepdim=True)


class LiveBeams(NamedTuple):
    """Beams at one step, after the decoder and before the choice of words."""

    scores: Float[Tensor, "images beams"]
    """Sums of log-probabilities so far."""
    log_probs: Float[Tensor, "images beams vocab"]
    """Of the next words; -inf where the constraints forbid one."""
    ends: Float[Tensor, "images beams"]
    may_end: Bool[Tensor, "images beams"]
    met: Bool[Tensor, "images beams required"] | None
    """Required words that the caption contains."""


class Options(NamedTuple):
    """Next words of the beams of one group, the best of each beam first."""

    rank: Float[Tensor, "images options"]
    """What they are chosen by: total with the penalty for being like another group."""
    total: Float[Tensor, "images options"]
    log_prob: Float[Tensor, "images options"]
    word: Int[Tensor, "images options"]
    parent: Int[Tensor, "images options"]
    bank: Int[Tensor, "images options"] | None
    """How many required words the caption then has; None where none is required."""


class BeamStep(NamedTuple):
    """One step of all beams, to be traced back."""

    parents: Int[Tensor, "images beams"]
    words: Int[Tensor, "images beams"]
    log_probs: Float[Tensor, "images beams"]
    record: Any


class BeamSearch(Search):
    """The `beams` best captions of each image.

    At every step the continuations are ranked; those among the first `beams` that are `<end>` are finished, and the best `beams` others
    live on. An image is done when `beams` captions have finished. After `max_length` words every live beam has to end, at the price of
    its log p(`<end>`), so that there is always a caption. A beam of one is greedy search.

    It is exact, so that the `beams` captions of the highest score are found in order, where every continuation has a place at every step
    and nothing stops the search early: with one group, no required words, and W words that may be said at each step, for `beams` >=
    W^max_length + W^(max_length - 1) (and > max_length, where W is 1). With fewer beams it promises nothing, whatever the normalisation:
    a caption that ends below the first `beams` continuations is lost, though those may all end worse, and a caption that would score
    higher may be longer than the `beams` that finished first. So a wider beam can find a worse caption.
    Where `step` can be had of some images `only`, those that are done leave the batch, a quarter of it or more at a time.

    `groups` share the beams out; each searches by itself, one after the other at every step, and ranks a word `diversity` lower for
    each time that an earlier group says it at this step (Hamming diversity; in nats). As there, the penalty chooses and is not summed
    up. Our choices: `<end>` has no penalty, and the hypotheses of all groups are ranked together by the model's own score.
    Source: Vijayakumar et al. 2018, Diverse Beam Search, sec. 4 (eqs. 4 and 5).

    Where words are required, places are dealt in turn to banks of hypotheses with the same number of required words said, the fullest
    bank first, each bank's best first; the next required words are always among the options; and `<end>` ranks among the continuations of
    the fullest bank. Source: Post and Vilar 2018, sec. 3, whose banks get fixed shares instead of turns. With one beam to share: see
    `Constraints`.
    Raises: ArgumentError, beams or groups below 1, groups that cannot share the beams out evenly, a negative diversity; see `Search`.
    """

    def __init__(
        self,
        beams: int = 3,
        max_length: int = 20,
        normalisation: str = "mean",
        alpha: float = 1.0,
        groups: int = 1,
        diversity: float = 0.0,
        constraints: Constraints | None = None,
    ) -> None:
        super().__init__(max_length, normalisation, alpha, constraints)
        if beams < 1:
            raise ArgumentError("beams", f"is a number of hypotheses and at least 1, not {beams}")
        if groups < 1 or beams % groups:
            raise ArgumentError("groups", f"is a number that divides beams, {beams}, not {groups}")
        if not diversity >= 0:
            raise ArgumentError("diversity", f"is a penalty in nats and at least 0, not {diversity}")
        self.beams, self.groups, self.diversity = beams, groups, diversity

    def __str__(self) -> str:
        kind = f"diverse beam {self.beams} in {self.groups} groups" if self.groups > 1 else f"beam {self.beams}"
        return ", ".join(["greedy" if self.beams == 1 else kind, *self.common_settings()])

    @torch.no_grad()
    def __call__(self, step: StepFunction, state: Any, images: int, start: int, end: int, excluded_ids: list[int]) -> SearchResult:
        width, device = self.beams // self.groups, device_of(state)
        constraints = ActiveConstraints(self.constraints, self.max_length, end, excluded_ids, device)
        constraint_state, words = constraints.initial_state(images), torch.full((images, 1), start, device=device)
        scores = torch.zeros(images, 1, device=device)
        pools = [empty_pool(images, width, device) for _ in range(self.groups)]
        history: list[BeamStep] = []
        numbers, finished = torch.arange(images, device=device), []
        for length in range(self.max_length + 1):
            log_probs, state, record = step(state, words)
            ends = log_probs[..., end].clone()
            may_end = constraints.may_end(constraint_state, words, length)
            constraints.mask_words(log_probs, constraint_state, length)
            live = LiveBeams(scores, log_probs, ends, may_end, constraints.met(constraint_state))
            choices: list[Options] = []
            for group in range(self.groups):
                beams = slice(group * width, (group + 1) * width) if length else slice(0, 1)
                group_beams = select_beams(live, beams)
                pools[group], choice = self.extend(pools[group], group_beams, constraints.required, choices, length, beams.start)
                choices.append(choice)
            done = torch.cat([pool.done() for pool in pools], 1).all(1)
            if length == self.max_length or (is_check_step(device, length) and bool(done.all())):
                break
            fields = ("total", "parent", "word", "log_prob")
            scores, parents, words, values = (torch.cat([getattr(choice, field) for choice in choices], 1) for field in fields)
            history.append(BeamStep(parents, words, values, record))
            state, constraint_state = gather_queries(state, parents), constraints.update(constraint_state, parents, words)
            if hasattr(step, "only") and is_check_step(device, length) and 4 * int(done.sum()) >= len(done):
                leaving, remaining = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
                result = trace_back(merge_pools(select_images(pools, leaving)), select_images(history, leaving))
                finished.append((numbers[leaving], result))
                batch = (numbers, pools, history, scores, words, state, constraint_state)
                numbers, pools, history, scores, words, state, constraint_state = select_images(batch, remaining)
                step = step.only(remaining)
        return merge_results([*finished, (numbers, trace_back(merge_pools(pools), history))])

    def extend(
        self, pool: Pool, live: LiveBeams, required: Tensor | None, choices: list[Options], length: int, first: int
    ) -> tuple[Pool, Options]:
        """One step of a group, after the `choices` of the groups before it; `first` is the group's first beam."""
        width = self.beams // self.groups
        options = self.options(live, required, [choice.word for choice in choices])
        pool = self.finish(pool, live, options, end_threshold(options, live, width, required), length, first)
        choice = select_options(options, width)
        return pool, choice._replace(parent=choice.parent + first)

    def options(self, live: LiveBeams, required: Tensor | None, other_words: list[Tensor]) -> Options:
        """The best words of each beam, as many as there are places, and beside them the required ones that its caption lacks."""
        ranks = log_probs = live.log_probs
        if other_words and self.diversity:
            others = torch.cat(other_words, 1)[:, None].expand(-1, log_probs.shape[1], -1)
            ranks = log_probs.scatter_add(-1, others, log_probs.new_full(others.shape, -self.diversity))
        rank, word = top_values(ranks, self.beams // self.groups)
        bank = None
        if required is not None and live.met is not None:
            required, missing = required.expand_as(live.met), ~live.met
            repeated = ((word[..., None] == required[:, :, None]) & missing[:, :, None]).any(-1)
            rank = torch.cat([rank.masked_fill(repeated, -torch.inf), ranks.gather(-1, required).masked_fill(~missing, -torch.inf)], -1)
            bank = live.met.sum(-1)[..., None] + (torch.arange(rank.shape[-1], device=rank.device) >= word.shape[-1])
            word = torch.cat([word, required], -1)
        parent = torch.arange(word.shape[1], device=word.device)[:, None].expand(word.shape)
        value = log_probs.gather(-1, word).masked_fill(rank == -torch.inf, -torch.inf)
        leaves = Options(live.scores[..., None] + rank, live.scores[..., None] + value, value, word, parent, bank)
        return map_tensors(lambda leaf: leaf.flatten(1), leaves)

    def finish(self, pool: Pool, live: LiveBeams, options: Options, threshold: Tensor, length: int, first: int) -> Pool:
        """End the beams that may end and reach the threshold, and those that cannot continue; keep the best."""
        totals = live.scores + live.ends
        must_end = (options.rank.view(*totals.shape, -1) == -torch.inf).all(-1)
        if length == self.max_length:
            must_end = torch.ones_like(must_end)
        ended = (live.scores > -torch.inf) & (must_end | (live.may_end & (totals >= threshold))) & ~pool.done()
        totals = clamp_to_finite(totals).masked_fill(~ended, -torch.inf)
        score = normalised(totals, length + 1, self.normalisation, self.alpha)
        beam = (torch.arange(totals.shape[1], device=totals.device) + first).expand_as(totals)
        new = Pool(score, totals, live.ends, torch.full_like(beam, length), beam, live.may_end & ended)
        both = Pool(*(torch.cat(pair, 1) for pair in zip(pool, new, strict=True)))
        return gather_queries(both, ranking(both.score, both.satisfied)[:, : pool.score.shape[1]])


def end_threshold(options: Options, live: LiveBeams, width: int, required: Tensor | None) -> Tensor:
    """The rank that an `<end>` must reach: that of the last of the first `width` continuations."""
    rank = options.rank
    if options.bank is not None and required is not None and width > 1:
        rank = rank.masked_fill(options.bank < len(required), -torch.inf)
    candidates = torch.cat([rank, live.scores + live.ends.masked_fill(~live.may_end, -torch.inf)], 1)
    return candidates.topk(min(width, candidates.shape[1]), -1).values[:, -1:]


def merge_results(parts: list[tuple[Tensor, SearchResult]]) -> SearchResult:
    """The results of images that left the batch at different times, in their first order; zeros after the steps that each took."""
    if len(parts) == 1:
        return parts[0][1]
    steps = max(result.words.shape[2] for _, result in parts)

    def joined(*leaves: Any) -> Any:
        if leaves[0] is None:
            return None
        if isinstance(leaves[0], tuple):
            return type(leaves[0])(*map(joined, *leaves))
        if leaves[0].dim() < 3:
            return torch.cat(leaves)
        return torch.cat([pad(leaf, (0, 0) * (leaf.dim() - 3) + (0, steps - leaf.shape[2])) for leaf in leaves])

    numbers, result = zip(*parts, strict=True)
    return select_images(joined(*result), torch.cat(numbers).argsort())


def select_beams(live: LiveBeams, beams: slice) -> LiveBeams:
    return map_tensors(lambda leaf: leaf[:, beams], live)


def is_check_step(device: torch.device, length: int) -> bool:
    return device.type == "cpu" or length % CHECK_INTERVAL == CHECK_INTERVAL - 1


def empty_pool(images: int, width: int, device: torch.device) -> Pool:
    empty_values = torch.full((images, width), -torch.inf, device=device)
    where = torch.zeros_like(empty_values, dtype=torch.long)
    return Pool(empty_values, empty_values, torch.zeros_like(empty_values), where, where, where.bool())


def select_options(options: Options, width: int) -> Options:
    """The best `width` options; with banks, dealt to them in turn. Places that nothing can fill rank -inf."""
    missing = width - options.rank.shape[1]
    if missing > 0:
        options = map_tensors(lambda leaf: pad(leaf, (0, missing), value=-torch.inf if leaf.is_floating_point() else 0), options)
    if options.bank is None or width == 1:
        return gather_queries(options, options.rank.topk(width, -1).indices)
    options = gather_queries(options, options.rank.argsort(dim=-1, descending=True, stable=True))
    assert options.bank is not None
    banks = int(options.bank.max()) + 1
    same = one_hot(options.bank, banks)
    turn = (same.cumsum(1) * same).sum(-1)
    order = (turn * banks - options.bank).masked_fill(options.rank == -torch.inf, torch.iinfo(torch.long).max)
    return gather_queries(options, order.argsort(dim=-1, stable=True)[:, :width])


def merge_pools(pools: list[Pool]) -> Pool:
    """The hypotheses of all groups, ranked."""
    if len(pools) == 1:
        return pools[0]
    merged = Pool(*(torch.cat(leaves, 1) for leaves in zip(*pools, strict=True)))
    return gather_queries(merged, ranking(merged.score, merged.satisfied))


def trace_back(pool: Pool, history: list[BeamStep]) -> SearchResult:
    """Walk from each end to the start, taking the word, its log-probability and its record along."""
    beam, steps = pool.beam, []
    for t in range(len(history) - 1, -1, -1):
        parents, word, log_prob, record = history[t]
        in_caption = pool.step > t
        here = torch.where(in_caption, beam, 0)
        beam = torch.where(in_caption, parents.gather(1, here), beam)
        row = (
            word.gather(1, here) * in_caption,
            log_prob.gather(1, here).masked_fill(~in_caption, 0.0),
            gather_queries(record, torch.where(in_caption, beam, 0)),
        )
        steps.append(row)
    scores = (pool.end_log_prob, pool.log_prob, pool.score)
    if not steps:
        empty = pool.score.new_zeros(*pool.score.shape, 0)
        return SearchResult(empty.long(), pool.step, empty, *scores, None, pool.satisfied)
    words, log_probs, records = zip(*reversed(steps), strict=True)
    return SearchResult(
        torch.stack(words, 2), pool.step, torch.stack(log_probs, 2), *scores, stack_records(list(records), 2), pool.satisfied
    )
