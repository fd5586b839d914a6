"""The paper's decoder: an LSTM that looks at every step."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import Decoder, said
from captioner.records import Glimpse, Memory, Regions, Rollout, Step, Trace, Trail, map_tensors, stack_records

GATES = {"none": 0, "scalar": 1, "vector": None}
QUERIES = ("previous", "word", "current")


class LSTMState(NamedTuple):
    hidden: Float[Tensor, "images queries hidden"]
    cell: Float[Tensor, "images queries hidden"]
    context: Float[Tensor, "images queries features"]
    """The last gated context: fed back where the query is the current state, else unread."""
    trail: Trail


class LSTMDecoder(Decoder):
    """Look, then say a word.

        h_0, c_0 = tanh(init(mean_i a_i))
        z_t      = beta_t attention(q_t, a),              beta_t = sigmoid(f_beta(h_{t-1}))
        h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})
        p(y_t)   = softmax(L_o dropout(tanh(E' y_{t-1} + L_h h_t + L_z z_t)))

    `query` is what is asked with: "previous", q_t = h_{t-1}, as in the paper; "word", q_t = h_{t-1} + W E y_{t-1}, so that a look knows the
    word just said; "current", where the LSTM reads [E y_{t-1}; z_{t-1}] first and q_t = h_t (as in Luong et al. 2015, sec. 3, with input
    feeding). The last two are departures. `gate`: "scalar" (sec. 4.2.1), "vector" (a gate a feature, as in re-implementations), "none".
    Source: Xu et al. 2015, sec. 3.1.2 (eqs. 1 to 7) and 4.2.1; the tanh of the deep output is from the authors' code.
    Raises: ValueError, a size not positive, a dropout outside [0, 1), an unknown `query` or `gate`.
    """

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
    ) -> None:
        super().__init__()
        for name, size in {"vocabulary_size": vocabulary_size, "embedding_size": embedding_size, "hidden_size": hidden_size}.items():
            if size < 1:
                raise ValueError(f"{name} is a number of units and must be positive, not {size}")
        if query not in QUERIES:
            raise ValueError(f"query is one of {', '.join(QUERIES)}, not {query!r}")
        if gate not in GATES:
            raise ValueError(f"gate is one of {', '.join(GATES)}, not {gate!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability in [0, 1), not {dropout}")
        self.vocabulary_size, self.hidden_size, self.query = vocabulary_size, hidden_size, query
        self.attention = attention
        context = attention.context_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.initial = nn.Linear(features, 2 * hidden_size)
        self.word_gates = nn.Linear(embedding_size, 4 * hidden_size)
        self.state_gates = nn.Linear(hidden_size + context, 4 * hidden_size, bias=False)
        self.word_query = nn.Linear(embedding_size, hidden_size, bias=False) if query == "word" else None
        width = GATES[gate] if GATES[gate] is not None else context
        self.beta = nn.Linear(hidden_size, width) if width else None
        self.word_output = nn.Linear(embedding_size, embedding_size)
        self.hidden_output = nn.Linear(hidden_size, embedding_size, bias=False)
        self.context_output = nn.Linear(context, embedding_size, bias=False)
        self.output = nn.Linear(embedding_size, vocabulary_size)
        self.drop = nn.Dropout(dropout)
        self.reset_parameters()
        if tie:
            self.output.weight = self.embedding.weight

    def reset_parameters(self) -> None:
        """Embeddings small, recurrent matrices orthogonal, forget gates open (bias one)."""
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.embedding.weight[0].detach())
        for gate in self.state_gates.weight.detach()[:, : self.hidden_size].chunk(4):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.word_gates.bias)
        nn.init.ones_(self.word_gates.bias.detach()[self.hidden_size : 2 * self.hidden_size])
        nn.init.zeros_(self.output.bias)

    def start(self, regions: Regions) -> tuple[Memory, LSTMState]:
        memory = self.attention.remember(regions)
        hidden, cell = torch.tanh(self.initial(mean_region(regions)))[:, None].chunk(2, -1)
        context = hidden.new_zeros(*hidden.shape[:2], self.attention.context_size)
        return memory, LSTMState(hidden, cell, context, self.attention.begin(memory, 1))

    def step(self, memory: Memory, state: LSTMState, words: Int[Tensor, "images queries"]) -> Step:
        embedded = self.drop(self.embedding(words))
        state, trace, context = self.look(memory, state, self.word_gates(embedded), self.word_query(embedded) if self.word_query else None)
        outputs = self.deep(embedded, state.hidden, context)
        return Step(self.output(outputs).log_softmax(-1), state, trace)

    def look(self, memory: Memory, state: LSTMState, gates: Tensor, asked: Tensor | None) -> tuple[LSTMState, Trace, Tensor]:
        """One step of the recurrence, given the word's share of the gates and of the query."""
        if self.query == "current":
            hidden, cell = self.recur(gates, state.hidden, state.cell, state.context)
            glimpse, context, beta = self.glance(hidden, hidden, memory, state.trail)
        else:
            queries = state.hidden if asked is None else state.hidden + asked
            glimpse, context, beta = self.glance(queries, state.hidden, memory, state.trail)
            hidden, cell = self.recur(gates, state.hidden, state.cell, context)
        trace = Trace(glimpse.alphas, glimpse.log_prob, beta, glimpse.sentinel, glimpse.head_alphas)
        return LSTMState(hidden, cell, context, self.attention.follow(state.trail, glimpse)), trace, context

    def glance(self, queries: Tensor, hidden: Tensor, memory: Memory, trail: Trail) -> tuple[Glimpse, Tensor, Tensor | None]:
        """The glimpse, its gated context, and the gate (the mean of a vector)."""
        glimpse = self.attention(queries, memory, trail)
        if self.beta is None:
            return glimpse, glimpse.context, None
        beta = torch.sigmoid(self.beta(hidden))
        return glimpse, beta * glimpse.context, beta.mean(-1)

    def recur(self, gates: Tensor, hidden: Tensor, cell: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        gates = gates + self.state_gates(torch.cat([hidden, context], -1))
        write, forget, read, new = gates.chunk(4, -1)
        cell = torch.sigmoid(forget) * cell + torch.sigmoid(write) * torch.tanh(new)
        return torch.sigmoid(read) * torch.tanh(cell), cell

    def deep(self, embedded: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """The deep output before its last layer (eq. 7)."""
        return self.drop(torch.tanh(self.word_output(embedded) + self.hidden_output(self.drop(hidden)) + self.context_output(context)))

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
        regions = Regions(regions.features[by_longest], regions.cells, None if regions.mask is None else regions.mask[by_longest])
        rollout = self.sorted_rollout(regions, captions[order], lengths[order], mode[order])
        images, rows = by_longest.argsort(), by_length.argsort(-1)
        return map_tensors(lambda leaf: leaf[images[:, None], rows], rollout)

    def sorted_rollout(self, regions: Regions, captions: Tensor, lengths: Tensor, mode: Tensor) -> Rollout:
        memory, state = self.start(regions)
        state = map_tensors(lambda leaf: leaf.expand(-1, captions.shape[1], *leaf.shape[2:]), state)
        state = state._replace(trail=state.trail._replace(mode=mode))
        embedded = self.drop(self.embedding(captions[..., :-1]))
        gates = self.word_gates(embedded).unbind(2)
        asked = self.word_query(embedded).unbind(2) if self.word_query else None
        steps = captions.shape[-1] - 1
        rows = [int(n) for n in (lengths.amax(1)[:, None] > torch.arange(steps, device=lengths.device)).sum(0).tolist()]
        cols = [int(n) for n in (lengths.amax(0)[:, None] > torch.arange(steps, device=lengths.device)).sum(0).tolist()]
        hiddens, contexts, traces = [], [], []
        for t in range(steps):
            if rows[t] == 0:
                break
            still = (slice(rows[t]), slice(cols[t]))
            if t == 0 or (rows[t], cols[t]) != (rows[t - 1], cols[t - 1]):
                state = map_tensors(lambda leaf: leaf[still], state)  # noqa: B023
                memory = Memory(
                    memory.keys[still[0]], memory.values[still[0]], memory.cells, None if memory.mask is None else memory.mask[still[0]]
                )
            share = None if asked is None else asked[t][still]
            state, trace, context = self.look(memory, state, gates[t][still], share)
            alive = lengths[still] > t
            hiddens.append(state.hidden[alive])
            contexts.append(context[alive])
            traces.append(map_tensors(lambda leaf: spread(leaf * alive.view(*alive.shape, *[1] * (leaf.dim() - 2)), lengths.shape), trace))  # noqa: B023
        return self.score_words(captions, lengths, mode, embedded, torch.cat(hiddens), torch.cat(contexts), traces)

    def score_words(
        self, captions: Tensor, lengths: Tensor, mode: Tensor, embedded: Tensor, hiddens: Tensor, contexts: Tensor, traces: list[Trace]
    ) -> Rollout:
        """Log-probabilities of the words from the kept outputs, which lie one step after another."""
        steps = captions.shape[-1] - 1
        mask = lengths[..., None] > torch.arange(steps, device=lengths.device)
        by_step = mask.permute(2, 0, 1)
        outputs = self.deep(embedded.permute(2, 0, 1, 3)[by_step], hiddens, contexts)
        log_probs, means = said(self.output, outputs, captions[..., 1:].permute(2, 0, 1)[by_step], self.vocabulary_size)

        def scattered(values: Tensor) -> Tensor:
            return values.new_zeros(by_step.shape).masked_scatter(by_step, values).permute(1, 2, 0)

        missing = steps - len(traces)
        traces = traces + [map_tensors(torch.zeros_like, traces[0])] * missing
        return Rollout(scattered(log_probs), scattered(means), mask, mode, stack_records(traces, 2))


def mean_region(regions: Regions) -> Float[Tensor, "images features"]:
    """The mean annotation vector over the regions that may be looked at."""
    if regions.mask is None:
        return regions.features.mean(1)
    weights = regions.mask.to(regions.features.dtype)
    return (regions.features * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)


def spread(leaf: Tensor, size: torch.Size) -> Tensor:
    """Zeros of (images, captions, ...) with `leaf` in its first rows and columns."""
    pad = [0, 0] * (leaf.dim() - 2) + [0, size[1] - leaf.shape[1], 0, size[0] - leaf.shape[0]]
    return nn.functional.pad(leaf, pad)
