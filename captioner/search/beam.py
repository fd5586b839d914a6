"""Beam search, greedy and diverse: a whole batch of images at once, all beams in one tensor."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot, pad

from captioner.errors import ArgumentError
from captioner.records import map_tensors, select_images, stack_records
from captioner.search.constraints import Constraints, Rules, Said
from captioner.search.hypotheses import Found, Say, best, device_of, in_order, normalised, payable, pick
from captioner.search.search import Search

CHECKED_EVERY = 4
"""Steps between two looks at whether all is found, where a look makes the processor wait for the accelerator."""


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


class Options(NamedTuple):
    """Words that a group's beams may say next, best of each beam first."""

    rank: Float[Tensor, "images options"]
    """What they are chosen by: total with the penalty for being like another group."""
    total: Float[Tensor, "images options"]
    log_prob: Float[Tensor, "images options"]
    word: Int[Tensor, "images options"]
    parent: Int[Tensor, "images options"]
    bank: Int[Tensor, "images options"] | None
    """How many required words are said then; None where none is required."""


class Spoken(NamedTuple):
    """One step of all beams, to be traced back."""

    parents: Int[Tensor, "images beams"]
    words: Int[Tensor, "images beams"]
    log_probs: Float[Tensor, "images beams"]
    record: Any


class BeamSearch(Search):
    """The `beams` best captions of each image.

    At every step the continuations are ranked; those among the first `beams` that say `<end>` are finished, and the best `beams` others
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
    up. Our choices: `<end>` has no penalty, and what the groups found is ranked together by the model's own score.
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
        return ", ".join(["greedy" if self.beams == 1 else kind, *self.in_common()])

    @torch.no_grad()
    def __call__(self, step: Say, state: Any, images: int, start: int, end: int, never: list[int]) -> Found:
        width, device = self.beams // self.groups, device_of(state)
        rules = Rules(self.constraints, self.max_length, end, never, device)
        said, words = rules.begin(images), torch.full((images, 1), start, device=device)
        live = torch.zeros(images, 1, device=device)
        pools = [empty(images, width, device) for _ in range(self.groups)]
        history: list[Spoken] = []
        numbers, finished = torch.arange(images, device=device), []
        for length in range(self.max_length + 1):
            log_probs, state, record = step(state, words)
            ends = log_probs[..., end].clone()
            may_end = rules.may_end(said, words, length)
            rules.ban(log_probs, said, length)
            chosen: list[Options] = []
            for group in range(self.groups):
                own = slice(group * width, (group + 1) * width) if length else slice(0, 1)
                options = self.options(rules, pick_said(said, own), live[:, own], log_probs[:, own], [other.word for other in chosen])
                bar = self.bar(options, live[:, own] + ends[:, own].masked_fill(~may_end[:, own], -torch.inf), width, rules.required)
                pools[group] = self.finish(pools[group], live[:, own], ends[:, own], may_end[:, own], options, bar, length, own.start)
                picked = choose(options, width)
                chosen.append(picked._replace(parent=picked.parent + own.start))
            done = torch.cat([pool.done() for pool in pools], 1).all(1)
            if length == self.max_length or (looks(device, length) and bool(done.all())):
                break
            live, parents, words, values = (torch.cat(leaves, 1) for leaves in zip(*(moves(options) for options in chosen), strict=True))
            history.append(Spoken(parents, words, values, record))
            state, said = pick(state, parents), rules.follow(said, parents, words)
            if hasattr(step, "only") and looks(device, length) and 4 * int(done.sum()) >= len(done):
                gone, rest = done.nonzero()[:, 0], (~done).nonzero()[:, 0]
                finished.append((numbers[gone], trace_back(ranked(select_images(pools, gone)), select_images(history, gone))))
                numbers, pools, history, live, words, state, said = select_images((numbers, pools, history, live, words, state, said), rest)
                step = step.only(rest)
        return together([*finished, (numbers, trace_back(ranked(pools), history))])

    def options(self, rules: Rules, said: Said, live: Tensor, log_probs: Tensor, taken: list[Tensor]) -> Options:
        """The best words of each beam, as many as there are places, and beside them the required ones that it has not said."""
        ranks = log_probs
        if taken and self.diversity:
            others = torch.cat(taken, 1)[:, None].expand(-1, log_probs.shape[1], -1)
            ranks = log_probs.scatter_add(-1, others, log_probs.new_full(others.shape, -self.diversity))
        rank, word = best(ranks, self.beams // self.groups)
        bank = None
        if rules.required is not None and said.met is not None:
            must = rules.required.expand_as(said.met)
            missing = ~said.met
            again = ((word[..., None] == must[:, :, None]) & missing[:, :, None]).any(-1)
            rank = torch.cat([rank.masked_fill(again, -torch.inf), ranks.gather(-1, must).masked_fill(~missing, -torch.inf)], -1)
            bank = said.met.sum(-1)[..., None] + (torch.arange(rank.shape[-1], device=rank.device) >= word.shape[-1])
            word = torch.cat([word, must], -1)
        parent = torch.arange(word.shape[1], device=word.device)[:, None].expand(word.shape)
        value = log_probs.gather(-1, word).masked_fill(rank == -torch.inf, -torch.inf)
        leaves = Options(live[..., None] + rank, live[..., None] + value, value, word, parent, bank)
        return map_tensors(lambda leaf: leaf.flatten(1), leaves)

    def bar(self, options: Options, ends: Tensor, width: int, required: Tensor | None) -> Tensor:
        """The rank that an `<end>` must reach: that of the last of the first `width` continuations."""
        rank = options.rank
        if options.bank is not None and required is not None and width > 1:
            rank = rank.masked_fill(options.bank < len(required), -torch.inf)
        every = torch.cat([rank, ends], 1)
        return every.topk(min(width, every.shape[1]), -1).values[:, -1:]

    def finish(
        self, pool: Pool, live: Tensor, ends: Tensor, may_end: Tensor, options: Options, bar: Tensor, length: int, first: int
    ) -> Pool:
        """Let the beams end that may and reach the bar, and all that cannot go on, and keep the best; `first` is the group's first beam."""
        totals = live + ends
        stuck = (options.rank.view(*live.shape, -1) == -torch.inf).all(-1)
        if length == self.max_length:
            stuck = torch.ones_like(stuck)
        ended = (live > -torch.inf) & (stuck | (may_end & (totals >= bar))) & ~pool.done()
        totals = payable(totals).masked_fill(~ended, -torch.inf)
        score = normalised(totals, length + 1, self.normalisation, self.alpha)
        beam = (torch.arange(live.shape[1], device=live.device) + first).expand_as(totals)
        found = Pool(score, totals, ends, torch.full_like(beam, length), beam, may_end & ended)
        both = Pool(*(torch.cat(pair, 1) for pair in zip(pool, found, strict=True)))
        return pick(both, in_order(both.score, both.satisfied)[:, : pool.score.shape[1]])


def together(parts: list[tuple[Tensor, Found]]) -> Found:
    """What was found for images that left the batch at different times, in their first order; zeros after the steps that each took."""
    if len(parts) == 1:
        return parts[0][1]
    steps = max(found.words.shape[2] for _, found in parts)

    def joined(*leaves: Any) -> Any:
        if leaves[0] is None:
            return None
        if isinstance(leaves[0], tuple):
            return type(leaves[0])(*map(joined, *leaves))
        if leaves[0].dim() < 3:
            return torch.cat(leaves)
        return torch.cat([pad(leaf, (0, 0) * (leaf.dim() - 3) + (0, steps - leaf.shape[2])) for leaf in leaves])

    numbers, found = zip(*parts, strict=True)
    return select_images(joined(*found), torch.cat(numbers).argsort())


def looks(device: torch.device, length: int) -> bool:
    return device.type == "cpu" or length % CHECKED_EVERY == CHECKED_EVERY - 1


def empty(images: int, width: int, device: torch.device) -> Pool:
    nothing = torch.full((images, width), -torch.inf, device=device)
    where = torch.zeros_like(nothing, dtype=torch.long)
    return Pool(nothing, nothing, torch.zeros_like(nothing), where, where, where.bool())


def pick_said(said: Said, own: slice) -> Said:
    return Said(None, None if said.met is None else said.met[:, own])


def moves(options: Options) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return options.total, options.parent, options.word, options.log_prob


def choose(options: Options, width: int) -> Options:
    """The best `width` options; with banks, dealt to them in turn. Places that nothing can fill rank -inf."""
    missing = width - options.rank.shape[1]
    if missing > 0:
        options = map_tensors(lambda leaf: pad(leaf, (0, missing), value=-torch.inf if leaf.is_floating_point() else 0), options)
    if options.bank is None or width == 1:
        return pick(options, options.rank.topk(width, -1).indices)
    options = pick(options, options.rank.argsort(dim=-1, descending=True, stable=True))
    assert options.bank is not None
    banks = int(options.bank.max()) + 1
    same = one_hot(options.bank, banks)
    turn = (same.cumsum(1) * same).sum(-1)
    order = (turn * banks - options.bank).masked_fill(options.rank == -torch.inf, torch.iinfo(torch.long).max)
    return pick(options, order.argsort(dim=-1, stable=True)[:, :width])


def ranked(pools: list[Pool]) -> Pool:
    """What all groups found, in order."""
    if len(pools) == 1:
        return pools[0]
    together = Pool(*(torch.cat(leaves, 1) for leaves in zip(*pools, strict=True)))
    return pick(together, in_order(together.score, together.satisfied))


def trace_back(pool: Pool, history: list[Spoken]) -> Found:
    """Walk from each end to the start, taking the word, its log-probability and its record along."""
    beam, kept = pool.beam, []
    for t in range(len(history) - 1, -1, -1):
        parents, words, log_probs, record = history[t]
        spoken = pool.step > t
        here = torch.where(spoken, beam, 0)
        beam = torch.where(spoken, parents.gather(1, here), beam)
        row = (
            words.gather(1, here) * spoken,
            log_probs.gather(1, here).masked_fill(~spoken, 0.0),
            pick(record, torch.where(spoken, beam, 0)),
        )
        kept.append(row)
    if not kept:
        images, width = pool.score.shape
        nothing = pool.score.new_zeros(images, width, 0)
        return Found(nothing.long(), pool.step, nothing, pool.end_log_prob, pool.log_prob, pool.score, None, pool.satisfied)
    said, scored, records = zip(*reversed(kept), strict=True)
    found = (torch.stack(said, 2), pool.step, torch.stack(scored, 2), pool.end_log_prob, pool.log_prob, pool.score)
    return Found(*found, stack_records(list(records), 2), pool.satisfied)
