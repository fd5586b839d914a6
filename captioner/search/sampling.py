"""Captions drawn from the model."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.records import stack_records
from captioner.search.constraints import ActiveConstraints, Constraints
from captioner.search.hypotheses import SearchResult, StepFunction, clamp_to_finite, device_of, gather_queries, normalised, ranking
from captioner.search.search import Search


class Sampling(Search):
    """`captions` independent captions of each image, word by word; sorted by score, the best first.

    The next word is drawn from q(w) ~ p(w)^(1 / temperature) over the words (and `<end>`) that the constraints allow, cut down in turn to

        top_k    the k most probable
        top_p    the fewest that together have at least that probability, the most probable first (nucleus)
        typical  the fewest that together have at least that probability, those first whose -log q is nearest to q's entropy

    and scaled to one again after each cut (ties at the edge of top_k all stay). After `max_length` words every caption ends. `log_prob` and
    `score` are of p itself, so that they compare with those of other searches. Draws come from a generator of our own: they go on from
    call to call and image by image, so that the batch size changes nothing, and are the same on every device; `seed` None takes a new one.
    Source: Holtzman et al. 2020, sec. 3 (top_p; top_k is Fan et al. 2018); Meister et al. 2023, sec. 4 (typical).
    Raises: ArgumentError, captions or top_k below 1, a temperature not positive, top_p or typical outside (0, 1]; see `Search`.
    """

    def __init__(
        self,
        captions: int = 1,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        typical: float | None = None,
        seed: int | None = None,
        max_length: int = 20,
        normalisation: str = "mean",
        alpha: float = 1.0,
        constraints: Constraints | None = None,
    ) -> None:
        super().__init__(max_length, normalisation, alpha, constraints)
        if captions < 1:
            raise ArgumentError("captions", f"is a number of draws an image and at least 1, not {captions}")
        if not 0 < temperature < float("inf"):
            raise ArgumentError("temperature", f"is a positive number, not {temperature}")
        if top_k is not None and top_k < 1:
            raise ArgumentError("top_k", f"is a number of words and at least 1, not {top_k}")
        for name, share in {"top_p": top_p, "typical": typical}.items():
            if share is not None and not 0 < share <= 1:
                raise ArgumentError(name, f"is a probability above 0 and at most 1, not {share}")
        self.captions, self.temperature, self.top_k, self.top_p, self.typical = captions, temperature, top_k, top_p, typical
        self.seed = seed
        self.generator = torch.Generator()
        if seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(seed)

    def __str__(self) -> str:
        cuts = {"top_k": self.top_k, "top_p": self.top_p, "typical": self.typical}
        settings = [f"{name} {value}" for name, value in cuts.items() if value is not None]
        return ", ".join([f"sampling {self.captions} at temperature {self.temperature:g}", *settings, *self.common_settings()])

    @torch.no_grad()
    def __call__(self, step: StepFunction, state: Any, images: int, start: int, end: int, excluded_ids: list[int]) -> SearchResult:
        device = device_of(state)
        chances = self.chances(images).to(device)
        constraints = ActiveConstraints(self.constraints, self.max_length, end, excluded_ids, device)
        all_queries = torch.arange(self.captions, device=device).expand(images, -1)
        first_query = torch.zeros_like(all_queries)
        state, constraint_state = gather_queries(state, first_query), gather_queries(constraints.initial_state(images), first_query)
        words, lengths = torch.full_like(first_query, start), first_query
        active, satisfied = torch.ones_like(first_query, dtype=torch.bool), torch.zeros_like(first_query, dtype=torch.bool)
        total = end_log_prob = torch.zeros(images, self.captions, device=device)
        steps: list[tuple[Tensor, Tensor, Any]] = []
        for length in range(self.max_length + 1):
            log_probs, state, record = step(state, words)
            ends = log_probs[..., end].clone()
            may_end = constraints.may_end(constraint_state, words, length)
            constraints.mask_words(log_probs, constraint_state, length)
            words = self.draw(log_probs, ends.masked_fill(~may_end, -torch.inf), end, chances[..., length])
            ended = active & ((words == end) | (length == self.max_length))
            end_log_prob, satisfied = torch.where(ended, ends, end_log_prob), satisfied | (ended & may_end)
            total = torch.where(ended, clamp_to_finite(total + ends), total)
            active = active & ~ended
            if length == self.max_length or not bool(active.any()):
                break
            words = words * active
            value = log_probs.gather(-1, words[..., None]).squeeze(-1).masked_fill(~active, 0.0)
            total, lengths = total + value, lengths + active.long()
            steps.append((words, value, record))
            constraint_state = constraints.update(constraint_state, all_queries, words)
        score = normalised(total, lengths + 1, self.normalisation, self.alpha)
        return ordered(steps, lengths, end_log_prob, total, score, satisfied)

    def chances(self, images: int) -> Float[Tensor, "images captions steps"]:
        """Numbers in [0, 1), the same for an image whatever batch it comes in."""
        return torch.stack([torch.rand(self.captions, self.max_length + 1, generator=self.generator) for _ in range(images)])

    def draw(self, log_probs: Tensor, ends: Tensor, end: int, chances: Tensor) -> Int[Tensor, "images captions"]:
        """A word, or `end`, for each query: where the distribution function passes its chance. `end` where nothing is allowed."""
        logits = log_probs / self.temperature
        logits[..., end] = ends / self.temperature
        logits[..., end].masked_fill_(logits.amax(-1) == -torch.inf, 0.0)
        if self.top_k is not None:
            logits = most_probable(logits, self.top_k)
        for cut, share in ((nucleus, self.top_p), (typical, self.typical)):
            if share is not None:
                logits = cut(logits.log_softmax(-1), share)
        chance = logits.softmax(-1)
        reached = chance.cumsum(-1)
        point = chances[..., None].to(reached.dtype) * reached[..., -1:]
        place = torch.searchsorted(reached, point, right=True).clamp_max(chance.shape[-1] - 1)
        rounded_off = chance.gather(-1, place) == 0
        return torch.where(rounded_off, chance.argmax(-1, keepdim=True), place).squeeze(-1)


def most_probable(log_probs: Float[Tensor, "*lead vocab"], count: int) -> Float[Tensor, "*lead vocab"]:
    """-inf below the `count`-th highest."""
    least = log_probs.topk(min(count, log_probs.shape[-1]), -1).values[..., -1:]
    return log_probs.masked_fill(log_probs < least, -torch.inf)


def nucleus(log_probs: Float[Tensor, "*lead vocab"], share: float) -> Float[Tensor, "*lead vocab"]:
    return fewest(log_probs, -log_probs, share)


def typical(log_probs: Float[Tensor, "*lead vocab"], share: float) -> Float[Tensor, "*lead vocab"]:
    entropy = -(log_probs.exp() * log_probs.masked_fill(log_probs == -torch.inf, 0.0)).sum(-1, keepdim=True)
    return fewest(log_probs, (-log_probs - entropy).abs(), share)


def fewest(log_probs: Float[Tensor, "*lead vocab"], key: Float[Tensor, "*lead vocab"], share: float) -> Float[Tensor, "*lead vocab"]:
    """-inf but for the words of the lowest keys that together reach the probability `share`; one word stays at least."""
    for count in (128, 1024, key.shape[-1]):  # most often the first few reach it, and to sort all is the slowest thing here
        order = key.topk(min(count, key.shape[-1]), -1, largest=False).indices
        chances = log_probs.gather(-1, order).exp()
        before = chances.cumsum(-1) - chances
        if count >= key.shape[-1] or bool((before[..., -1] >= share).all()):
            break
    keeps = torch.zeros_like(log_probs, dtype=torch.bool).scatter(-1, order, before < share)
    return log_probs.masked_fill(~keeps, -torch.inf)


def ordered(
    steps: list[tuple[Tensor, Tensor, Any]], lengths: Tensor, ends: Tensor, total: Tensor, score: Tensor, satisfied: Tensor
) -> SearchResult:
    """The drawn captions, the satisfied first and then by score."""
    order = ranking(score, satisfied)
    lengths, ends, total, score, satisfied = gather_queries((lengths, ends, total, score, satisfied), order)
    if not steps:
        nothing = score.new_zeros(*score.shape, 0)
        return SearchResult(nothing.long(), lengths, nothing, ends, total, score, None, satisfied)
    words, values, record = (gather_queries(stack_records(list(leaves), 2), order) for leaves in zip(*steps, strict=True))
    return SearchResult(words, lengths, values, ends, total, score, record, satisfied)
