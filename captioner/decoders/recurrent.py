"""Decoders that say one word after another: the loop over given captions, and the one-layer decoders that look at every step."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import Decoder, check_choices, last_layers, logits_of, mean_region, said
from captioner.errors import ArgumentError
from captioner.records import (
    AttentionHistory,
    Glimpse,
    Memory,
    Regions,
    Rollout,
    Step,
    StepRecord,
    map_tensors,
    select_images,
    stack_records,
)

GATES = {"none": 0, "scalar": 1, "vector": None}
QUERIES = ("previous", "word", "current")
DEEP_OUTPUTS = ("projected", "embedded", "attentional", "sum")
FEEDS = ("context", "output", "image")

STEPS_AT_ONCE = 64
"""Steps whose words are read in one product: of a longer caption later pieces are read without the captions that have ended."""

Shares = tuple[Tensor | None, ...]
"""What a step owes to its word alone: projections (... queries, or queries and steps, units)."""
Kept = tuple[Tensor, ...]
"""What a word is said from: (images queries units) each."""


class RecurrentDecoder(Decoder):
    """One word after another. What is of the words alone is computed for many steps in one product (`shares`), `look` goes from one step to
    the next, and `deep` makes of what it kept what the last layer reads, for all words in one product.
    """

    vocabulary_size: int
    embedding: nn.Embedding
    output: nn.Linear
    drop: nn.Dropout

    @abstractmethod
    def shares(self, embedded: Float[Tensor, "*lead embedding"]) -> Shares: ...

    @abstractmethod
    def look(self, memory: Any, state: Any, shares: Shares) -> tuple[Any, StepRecord, Kept]:
        """One step of the recurrence."""

    @abstractmethod
    def deep(self, embedded: Float[Tensor, "*lead embedding"], *kept: Float[Tensor, "*lead _"]) -> Float[Tensor, "*lead hidden"]: ...

    def step(self, memory: Any, state: Any, words: Int[Tensor, "images queries"]) -> Step:
        embedded = self.drop(self.embedding(words))
        state, record, kept = self.look(memory, state, self.shares(embedded))
        return Step(logits_of(self.output, self.deep(embedded, *kept)).log_softmax(-1), state, record)

    def rollout(
        self,
        regions: Regions,
        captions: Int[Tensor, "images captions words"],
        mode: Int[Tensor, "images captions"],
    ) -> Rollout:
        """Captions sorted by length within an image and images by their longest, so that at every step the unfinished ones fill a
        rectangle of views: nothing is computed for what has ended beyond that rectangle, and words are scored only where there is one.
        """
        lengths = (captions[..., 1:] != 0).sum(-1)
        by_length = lengths.argsort(dim=-1, descending=True, stable=True)
        by_longest = lengths.amax(-1).argsort(descending=True, stable=True)
        order = (by_longest[:, None], by_length[by_longest])
        rollout = self.sorted_rollout(select_images(regions, by_longest), captions[order], lengths[order], mode[order])
        images, rows = by_longest.argsort(), by_length.argsort(-1)
        return map_tensors(lambda leaf: leaf[images[:, None], rows], rollout)

    def sorted_rollout(self, regions: Regions, captions: Tensor, lengths: Tensor, mode: Tensor) -> Rollout:
        memory, state = self.start(regions)
        state = map_tensors(lambda leaf: leaf.expand(-1, captions.shape[1], *leaf.shape[2:]), state)
        state = state._replace(history=state.history._replace(mode=mode))
        steps = torch.arange(captions.shape[-1] - 1, device=lengths.device)
        rows = [int(n) for n in (lengths.amax(1)[:, None] > steps).sum(0).tolist()]
        cols = [int(n) for n in (lengths.amax(0)[:, None] > steps).sum(0).tolist()]
        rows[0], cols[0] = max(rows[0], 1), max(cols[0], 1)  # where there is no word at all, one look tells what a record holds
        embedded, kept, records = [], [], []
        for t in range(len(steps)):
            if rows[t] == 0:
                break
            still = (slice(rows[t]), slice(cols[t]))
            if t == 0 or (rows[t], cols[t]) != (rows[t - 1], cols[t - 1]):
                state = map_tensors(lambda leaf: leaf[still], state)  # noqa: B023
                memory = select_images(memory, slice(rows[t]))
            ahead = t % STEPS_AT_ONCE
            if ahead == 0:
                base = still if t else (slice(None), slice(None))
                words, shares = self.read_ahead(captions[(*base, slice(t, min(t + STEPS_AT_ONCE, len(steps))))], lengths[base] - t)
                embedded.append(words)
            state, record, outputs = self.look(memory, state, tuple(None if share is None else share[ahead][still] for share in shares))
            alive = lengths[still] > t
            kept.append([leaf[alive] for leaf in outputs])
            records.append(map_tensors(lambda leaf: spread(leaf * like(alive, leaf), lengths.shape), record))  # noqa: B023
        joined = [torch.cat(leaves) for leaves in zip(*kept, strict=True)]
        return self.score_words(captions, lengths, mode, torch.cat(embedded), joined, records)

    def read_ahead(
        self, words: Int[Tensor, "images captions steps"], left: Int[Tensor, "images captions"]
    ) -> tuple[Float[Tensor, "spoken embedding"], list[tuple[Tensor, ...] | None]]:
        """Embedded words of all steps, one step after another, and the shares of each step; `left` words of each caption are to come."""
        embedded = self.drop(self.embedding(words))
        spoken = (left[..., None] > torch.arange(words.shape[2], device=left.device)).permute(2, 0, 1)
        shares = [None if share is None else share.unbind(2) for share in self.shares(embedded)]
        return embedded.permute(2, 0, 1, 3)[spoken], shares

    def score_words(
        self, captions: Tensor, lengths: Tensor, mode: Tensor, embedded: Tensor, kept: list[Tensor], records: list[StepRecord]
    ) -> Rollout:
        """Log-probabilities of the words from what was embedded and kept, which lies one step after another."""
        steps = captions.shape[-1] - 1
        mask = lengths[..., None] > torch.arange(steps, device=lengths.device)
        by_step = mask.permute(2, 0, 1)
        outputs = self.deep(embedded, *kept)
        log_probs, means = said(self.output, outputs, captions[..., 1:].permute(2, 0, 1)[by_step], self.vocabulary_size)

        def scattered(values: Tensor) -> Tensor:
            return values.new_zeros(by_step.shape).masked_scatter(by_step, values).permute(1, 2, 0)

        missing = steps - len(records)
        records = records + [map_tensors(torch.zeros_like, records[0])] * missing
        return Rollout(scattered(log_probs), scattered(means), mask, mode, stack_records(records, 2))


def like(mask: Tensor, leaf: Tensor) -> Tensor:
    """`mask` (images, captions) with as many axes as `leaf` (images, captions, ...)."""
    return mask.view(*mask.shape, *[1] * (leaf.dim() - 2))


def spread(leaf: Tensor, size: torch.Size) -> Tensor:
    """Zeros of (images, captions, ...) with `leaf` in its first rows and columns."""
    pad = [0, 0] * (leaf.dim() - 2) + [0, size[1] - leaf.shape[1], 0, size[0] - leaf.shape[0]]
    return nn.functional.pad(leaf, pad)


def sentinel_layers(attention: Attention, word_size: int, state_size: int, hidden_size: int) -> tuple[nn.Linear | None, nn.Linear | None]:
    """The two shares of a sentinel's gate, of the word and of the rest, or nothing where `attention` wants none.

    Raises: ArgumentError, `attention.sentinel_size` is not the decoder's hidden size.
    """
    if attention.sentinel_size is None:
        return None, None
    if attention.sentinel_size != hidden_size:
        raise ArgumentError(
            "attention.sentinel_size", f"is the size of the decoder's state, hidden_size={hidden_size} units, not {attention.sentinel_size}"
        )
    return nn.Linear(word_size, hidden_size), nn.Linear(state_size, hidden_size, bias=False)


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """(h, c) of gates (write, forget, read, new) before their nonlinearities. Source: Xu et al. 2015, eqs. 1 to 3."""
    write, forget, read, new = gates.chunk(4, -1)
    cell = torch.sigmoid(forget) * cell + torch.sigmoid(write) * torch.tanh(new)
    return torch.sigmoid(read) * torch.tanh(cell), cell


class LayerState(NamedTuple):
    hidden: Float[Tensor, "images queries hidden"]
    cell: Float[Tensor, "images queries hidden"] | None
    """An LSTM's memory; a GRU has none."""
    fed: Float[Tensor, "images queries _"]
    """What is fed back (`feed`): the last gated context, the last output, or the whole image at every step. The layer reads it where the
    query is the current state, and a sentinel's gate reads it always."""
    history: AttentionHistory


class LayerDecoder(RecurrentDecoder):
    """One recurrent layer: look, then say a word.

        h_0 (c_0) = tanh(init(mean_i a_i))
        z_t       = beta_t attention(q_t, a),               beta_t = sigmoid(f_beta(h_{t-1}))
        h_t       = recur([E y_{t-1}; z_t], h_{t-1})
        p(y_t)    = softmax(L_o dropout(t_t)),   t_t the deep output, tanh(W E y_{t-1} + L_h dropout(h_t) + L_z z_t) by default

    `query` is what is asked with: "previous", q_t = h_{t-1}; "word", q_t = h_{t-1} + W_q E y_{t-1}, so that a look knows the word just
    said; "current", where the layer reads [E y_{t-1}; z_{t-1}] first, q_t = h_t and beta_t is of h_t.
    `gate`: "scalar" (Xu et al. 2015, sec. 4.2.1), "vector" (a gate a feature, as in re-implementations), "none". With a sentinel, beta_t
    multiplies all of z_t, the sentinel's share with it; Lu et al. 2017 have no such gate.

    `deep_output` is t_t: "projected", whose learned matrix W and bias are a departure from Xu et al. 2015, eq. 7; "embedded", E y_{t-1} in
    the place of W E y_{t-1}, which is eq. 7's; "attentional", h~_t = tanh(L_h h_t + L_z z_t) (Luong et al. 2015, eq. 5); "sum",
    h_t + L_z z_t (Lu et al. 2017, eq. 13, whose L_z acts on the regions, with a ReLU). Dropout of h_t and the tanh are from the code of
    Xu et al. In all but "sum" t_t has the embedding's size, so that `tie` can make L_o the embedding.
    `feed` is what the layer reads beside the word, where the query is "current": "context", z_{t-1}, a departure from both papers that ask
    with the current state; "output", t_{t-1}, which with "attentional" is the input feeding of Luong et al. 2015, sec. 3.3; "image",
    v = ReLU(W_b mean_i a_i + b) at every step (Lu et al. 2017, implementation details).

    Where attention has a sentinel, s_t = sigmoid(W_x [E y_{t-1}; fed] + W_h h_{t-1}) * tanh(m) with m the memory that goes with the
    query, c_t for "current" (Lu et al. 2017, eqs. 9 and 10; there `fed` is the image) and c_{t-1} for the others, a departure.
    Raises: ArgumentError, a size not positive, a dropout outside [0, 1), an unknown `query`, `gate`, `deep_output` or `feed`, a `feed` that
    does not go with them, a sentinel of another size.
    """

    gates: ClassVar[int]
    """Gates of the recurrence, the candidate with them."""
    has_cell: ClassVar[bool]
    opened: ClassVar[tuple[int, ...]] = ()
    """Gates that begin open (bias one)."""

    def __init__(
        self,
        vocabulary_size: int,
        features: int,
        attention: Attention,
        embedding_size: int,
        hidden_size: int,
        query: str = "previous",
        gate: str = "scalar",
        dropout: float = 0.5,
        tie: bool = False,
        deep_output: str = "projected",
        feed: str = "context",
    ) -> None:
        super().__init__()
        check_choices(dropout, vocabulary_size=vocabulary_size, embedding_size=embedding_size, hidden_size=hidden_size)
        check_steps(query, gate, deep_output, feed)
        self.vocabulary_size, self.hidden_size, self.query = vocabulary_size, hidden_size, query
        self.attention, self.deep_output, self.feed = attention, deep_output, feed
        context = attention.context_size
        self.fed_size = context if feed == "context" else embedding_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.initial = nn.Linear(features, (1 + self.has_cell) * hidden_size)
        self.word_gates = nn.Linear(embedding_size, self.gates * hidden_size)
        self.state_gates = nn.Linear(hidden_size + self.fed_size, self.gates * hidden_size, bias=False)
        self.word_query = nn.Linear(embedding_size, hidden_size, bias=False) if query == "word" else None
        width = GATES[gate] if GATES[gate] is not None else context
        self.beta = nn.Linear(hidden_size, width) if width else None
        self.make_output(context, embedding_size, tie)
        self.image = nn.Linear(features, self.fed_size) if feed == "image" else None
        self.drop = nn.Dropout(dropout)
        self.word_sentinel, self.state_sentinel = sentinel_layers(attention, embedding_size, hidden_size + self.fed_size, hidden_size)
        self.reset_parameters()
        if tie:
            self.output.weight = self.embedding.weight

    def make_output(self, context: int, embedding_size: int, tie: bool) -> None:
        """The layers of the deep output, and from there to the logits."""
        adds = self.deep_output == "sum"
        size = self.hidden_size if adds else embedding_size
        self.word_output = nn.Linear(embedding_size, embedding_size) if self.deep_output == "projected" else nn.Identity()
        self.hidden_output = nn.Identity() if adds else nn.Linear(self.hidden_size, size, bias=False)
        self.context_output = nn.Linear(context, size, bias=False)
        if adds:
            self.narrow, self.output = last_layers(size, self.embedding, tie)
        else:
            self.narrow, self.output = nn.Identity(), nn.Linear(size, self.vocabulary_size)

    def reset_parameters(self) -> None:
        """Embeddings small, recurrent matrices orthogonal, gates that should begin open so."""
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.embedding.weight[0].detach())
        for gate in self.state_gates.weight.detach()[:, : self.hidden_size].chunk(self.gates):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.word_gates.bias)
        for index in self.opened:
            nn.init.ones_(self.word_gates.bias.detach().chunk(self.gates)[index])
        nn.init.zeros_(self.output.bias)

    @abstractmethod
    def recur(self, gates: Tensor, hidden: Tensor, cell: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """h_t (and c_t), given the word's share of the gates."""

    def start(self, regions: Regions) -> tuple[Memory, LayerState]:
        memory = self.attention.remember(regions)
        mean = mean_region(regions)
        hidden, *cell = torch.tanh(self.initial(mean))[:, None].chunk(1 + self.has_cell, -1)
        fed = hidden.new_zeros(*hidden.shape[:2], self.fed_size) if self.image is None else torch.relu(self.image(mean))[:, None]
        return memory, LayerState(hidden, cell[0] if cell else None, fed, self.attention.begin(memory, 1))

    def shares(self, embedded: Float[Tensor, "*lead embedding"]) -> Shares:
        """Of the gates, of the query, of the sentinel's gate."""
        return tuple(None if layer is None else layer(embedded) for layer in (self.word_gates, self.word_query, self.word_sentinel))

    def look(self, memory: Memory, state: LayerState, shares: Shares) -> tuple[LayerState, StepRecord, Kept]:
        gates, asked, watched = shares
        assert gates is not None
        hidden, cell = state.hidden, state.cell
        if self.query == "current":
            hidden, cell = self.recur(gates, hidden, cell, state.fed)
        queries = hidden if asked is None else hidden + asked
        glimpse = self.attention(queries, memory, state.history, self.known(watched, state, hidden, cell))
        context, beta = self.gated(hidden, glimpse)
        if self.query != "current":
            hidden, cell = self.recur(gates, hidden, cell, context)
        record = StepRecord(glimpse.alphas, glimpse.log_prob, beta, glimpse.sentinel, glimpse.head_alphas)
        history = self.attention.follow(state.history, glimpse)
        if self.feed == "output":
            attentional = self.joined(None, hidden, context)
            return LayerState(hidden, cell, attentional, history), record, (attentional,)
        return LayerState(hidden, cell, context if self.image is None else state.fed, history), record, (hidden, context)

    def gated(self, hidden: Tensor, glimpse: Glimpse) -> tuple[Tensor, Tensor | None]:
        """The gated context, and the gate (the mean of a vector)."""
        if self.beta is None:
            return glimpse.context, None
        beta = torch.sigmoid(self.beta(hidden))
        return beta * glimpse.context, beta.mean(-1)

    def known(self, watched: Tensor | None, state: LayerState, hidden: Tensor, cell: Tensor | None) -> Tensor | None:
        """The sentinel s_t: what the decoder knows without looking."""
        if watched is None or self.state_sentinel is None:
            return None
        gate = torch.sigmoid(watched + self.state_sentinel(torch.cat([state.hidden, state.fed], -1)))
        return gate * (hidden if cell is None else torch.tanh(cell))

    def deep(self, embedded: Float[Tensor, "*lead embedding"], *kept: Float[Tensor, "*lead _"]) -> Float[Tensor, "*lead hidden"]:
        """The deep output before its last layer."""
        return self.narrow(self.drop(kept[0] if self.feed == "output" else self.joined(embedded, *kept)))

    def joined(
        self,
        embedded: Float[Tensor, "*lead embedding"] | None,
        hidden: Float[Tensor, "*lead hidden"],
        context: Float[Tensor, "*lead features"],
    ) -> Float[Tensor, "*lead _"]:
        """t_t, of the word where it takes part."""
        state = self.hidden_output(self.drop(hidden))
        if self.deep_output in ("projected", "embedded"):
            assert embedded is not None
            state = self.word_output(embedded) + state
        total = state + self.context_output(context)
        return total if self.deep_output == "sum" else torch.tanh(total)


def check_steps(query: str, gate: str, deep_output: str, feed: str) -> None:
    """Raise ValueError unless each is a choice there is, and what is fed goes with the query and the deep output."""
    given = {"query": (query, QUERIES), "gate": (gate, GATES), "deep_output": (deep_output, DEEP_OUTPUTS), "feed": (feed, FEEDS)}
    for name, (value, choices) in given.items():
        if value not in choices:
            raise ArgumentError(name, f"is one of {', '.join(choices)}, not {value!r}")
    if feed != "context" and query != "current":
        raise ArgumentError("feed", f"is {feed}, which a layer reads before it asks: it needs query=current, not {query}")
    if feed == "output" and deep_output != "attentional":
        raise ArgumentError(
            "feed", f"is output, which must not need the word just said: it needs deep_output=attentional, not {deep_output}"
        )
