"""The paper's decoder, an LSTM that looks before every word, and what it shares with other decoders of one recurrent layer."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import check_sizes, mean_features, output_layers
from captioner.decoders.recurrent import RecurrentDecoder, StepOutputs, WordProjections, reset_embedding, reset_gates, sentinel_layers
from captioner.errors import ArgumentError
from captioner.records import AttentionHistory, Glimpse, Memory, Regions, StepRecord

OPTIONS = {
    "query": ("previous", "word", "current"),
    "gate": ("none", "scalar", "vector"),
    "deep_output": ("projected", "embedded", "attentional", "sum"),
    "feed": ("context", "output", "image", "none"),
}


class RecurrentState(NamedTuple):
    hidden: Float[Tensor, "images queries hidden"]
    cell: Float[Tensor, "images queries hidden"] | None
    """An LSTM's memory; a GRU has none."""
    feed: Float[Tensor, "images queries _"]
    """What the next step reads beside its word: see `feed` of `OneLayerDecoder`."""
    history: AttentionHistory


class OneLayerDecoder(RecurrentDecoder):
    """One recurrent layer that looks before every word.

        h_0, c_0 = tanh(init(mean_i a_i))
        z_t      = beta_t attention(q_t, a),    beta_t = sigmoid(f_beta(h_{t-1})),    q_t = h_{t-1}
        h_t, c_t = next_state([E y_{t-1}; z_t], h_{t-1}, c_{t-1})
        d_t      = tanh(W E y_{t-1} + L_h dropout(h_t) + L_z z_t)
        p(y_t)   = softmax(L_o dropout(d_t))

    This is Xu et al. 2015, sec. 3.1.2 and 4.2.1, with these choices:

    `query` is q_t: "previous", h_{t-1}; "word", h_{t-1} + W_q E y_{t-1}, which knows the word before;
    "current", h_t: the layer reads [E y_{t-1}; feed] first, then h_t asks, and beta_t is of h_t.
    `gate` is beta_t: "scalar" (sec. 4.2.1), "vector" (one per feature, as in re-implementations) or
    "none". It multiplies all of z_t, also the part of a sentinel; Lu et al. 2017 have no such gate.
    `deep_output` is d_t: "projected" as above, whose matrix W and bias are a departure from eq. 7;
    "embedded", E y_{t-1} in the place of W E y_{t-1}, as in eq. 7; "attentional", tanh(L_h h_t + L_z z_t)
    (Luong et al. 2015, eq. 5); "sum", h_t + L_z z_t (Lu et al. 2017, eq. 13, whose L_z acts on the
    regions, with a ReLU). The dropout of h_t and the tanh are from the code of Xu et al.
    In all but "sum" d_t has the embedding's size, so that with `tie` L_o can be the embedding.
    `feed` is what the layer reads beside the word where the query is "current": "context", z_{t-1}, a
    departure from both papers that use the current state; "output", d_{t-1}, which with "attentional"
    is the input feeding of Luong et al. 2015, sec. 3.3; "image", v = ReLU(W_b mean_i a_i + b) at every
    step (Lu et al. 2017, implementation details); "none", nothing: the layer reads the words alone.
    With "image" and "none" the layer does not know what was seen, so that all steps of given captions
    run at once (see `all_steps`), unless the locality needs to know earlier looks.
    Raises: ArgumentError, a size not positive, a dropout outside [0, 1), an unknown `query`, `gate`,
    `deep_output` or `feed`, a `feed` that does not go with them, a sentinel of another size.
    """

    gates: ClassVar[int]
    """Blocks of rows of the recurrent matrices: the gates, and the candidate."""
    has_cell: ClassVar[bool]
    open_gates: ClassVar[tuple[int, ...]] = ()
    """The blocks whose bias starts at one, so that the gate starts open."""

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
        check_sizes(dropout, vocabulary_size=vocabulary_size, embedding_size=embedding_size, hidden_size=hidden_size)
        check_options(query=query, gate=gate, deep_output=deep_output, feed=feed)
        self.attention, self.hidden_size = attention, hidden_size
        self.query, self.deep_output, self.feed = query, deep_output, feed
        context = attention.context_size
        self.feed_size = {"context": context, "none": 0}.get(feed, embedding_size)
        self.steps_at_once = feed in ("image", "none") and not attention.locality.needs_history
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.initial = nn.Linear(features, (1 + self.has_cell) * hidden_size)
        self.word_gates = nn.Linear(embedding_size, self.gates * hidden_size)
        self.state_gates = nn.Linear(hidden_size + self.feed_size, self.gates * hidden_size, bias=False)
        self.word_query = nn.Linear(embedding_size, hidden_size, bias=False) if query == "word" else None
        self.beta = nn.Linear(hidden_size, {"scalar": 1, "vector": context}[gate]) if gate != "none" else None
        self.build_output(vocabulary_size, tie)
        self.image = nn.Linear(features, self.feed_size) if feed == "image" else None
        self.drop = nn.Dropout(dropout)
        self.word_sentinel, self.state_sentinel = sentinel_layers(attention, embedding_size, hidden_size + self.feed_size, hidden_size)
        self.reset_parameters()
        if tie:
            self.output.weight = self.embedding.weight

    def build_output(self, vocabulary_size: int, tie: bool) -> None:
        """The layers of d_t, and from there to the logits."""
        embedding, adds = self.embedding.embedding_dim, self.deep_output == "sum"
        size = self.hidden_size if adds else embedding
        self.word_output = nn.Linear(embedding, embedding) if self.deep_output == "projected" else nn.Identity()
        self.hidden_output = nn.Identity() if adds else nn.Linear(self.hidden_size, size, bias=False)
        self.context_output = nn.Linear(self.attention.context_size, size, bias=False)
        if adds:
            self.narrow, self.output = output_layers(size, self.embedding, tie)
        else:
            self.narrow, self.output = nn.Identity(), nn.Linear(size, vocabulary_size)

    def reset_parameters(self) -> None:
        reset_embedding(self.embedding)
        reset_gates(self.state_gates, self.word_gates, self.gates, self.open_gates)
        nn.init.zeros_(self.output.bias)

    def start(self, regions: Regions) -> tuple[Memory, RecurrentState]:
        """h_0, c_0 = tanh(init(mean_i a_i))"""
        memory = self.attention.build_memory(regions)
        mean = mean_features(regions)
        hidden, *cell = torch.tanh(self.initial(mean))[:, None].chunk(1 + self.has_cell, -1)  # (images 1 hidden) each
        feed = hidden.new_zeros(*hidden.shape[:2], self.feed_size) if self.image is None else torch.relu(self.image(mean))[:, None]
        return memory, RecurrentState(hidden, cell[0] if cell else None, feed, self.attention.initial_history(memory, 1))

    def word_projections(self, embedded: Float[Tensor, "*lead embedding"]) -> WordProjections:
        """Parts of the gates, of the query and of the sentinel's gate."""
        return tuple(None if layer is None else layer(embedded) for layer in (self.word_gates, self.word_query, self.word_sentinel))

    def recurrent_step(
        self, memory: Memory, state: RecurrentState, projections: WordProjections
    ) -> tuple[RecurrentState, StepRecord, StepOutputs]:
        """z_t = beta_t attention(q_t, a);    h_t, c_t = next_state([E y_{t-1}; z_t], h_{t-1}, c_{t-1})

        Where the query is "current", the other way round.
        """
        word_gates, word_query, word_sentinel = projections
        assert word_gates is not None
        hidden, cell = state.hidden, state.cell
        if self.query == "current":
            hidden, cell = self.next_state(word_gates, hidden, cell, state.feed)
        query = hidden if word_query is None else hidden + word_query
        sentinel = self.sentinel(word_sentinel, (state.hidden, state.feed), hidden, cell)
        glimpse, context, record = self.look(memory, state.history, query, hidden, sentinel)
        if self.query != "current":
            hidden, cell = self.next_state(word_gates, hidden, cell, context)
        outputs = (self.combine(None, hidden, context),) if self.feed == "output" else (hidden, context)
        feed = {"context": context, "output": outputs[0]}.get(self.feed, state.feed)
        return RecurrentState(hidden, cell, feed, self.attention.update_history(state.history, glimpse)), record, outputs

    def look(
        self,
        memory: Memory,
        history: AttentionHistory,
        query: Float[Tensor, "images queries hidden"],
        hidden: Float[Tensor, "images queries hidden"],
        sentinel: Float[Tensor, "images queries hidden"] | None,
    ) -> tuple[Glimpse, Float[Tensor, "images queries context"], StepRecord]:
        """The glimpse of each query, z_t = beta_t attention(q_t, a), and the record; beta_t is of `hidden`."""
        glimpse = self.attention(query, memory, history, sentinel)
        beta = None if self.beta is None else torch.sigmoid(self.beta(hidden))
        context = glimpse.context if beta is None else beta * glimpse.context
        gate = None if beta is None else beta.mean(-1)
        return glimpse, context, StepRecord(glimpse.alphas, glimpse.log_prob, gate, glimpse.sentinel, glimpse.head_alphas)

    @abstractmethod
    def next_state(self, word_gates: Tensor, hidden: Tensor, cell: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """h_t (and c_t) of the word's part of the gates, h_{t-1} (and c_{t-1}), and z_t."""

    def sentinel(self, word_gate: Tensor | None, before: tuple[Tensor, Tensor], hidden: Tensor, cell: Tensor | None) -> Tensor | None:
        """s_t = sigmoid(W_x [E y_{t-1}; feed] + W_h h_{t-1}) * tanh(m), where attention has a sentinel

        m is the memory that belongs to the query: c_t for "current" (Lu et al. 2017, eqs. 9 and 10,
        where `feed` is the image), c_{t-1} for the others, a departure. A GRU has h in the place of tanh(m).
        `before` is (h_{t-1}, feed).
        """
        if word_gate is None or self.state_sentinel is None:
            return None
        gate = torch.sigmoid(word_gate + self.state_sentinel(torch.cat(before, -1)))
        return gate * (hidden if cell is None else torch.tanh(cell))

    def output_features(
        self, embedded: Float[Tensor, "*lead embedding"], *outputs: Float[Tensor, "*lead _"]
    ) -> Float[Tensor, "*lead hidden"]:
        """dropout(d_t), and where `tie` needs it a layer to the embedding's size."""
        return self.narrow(self.drop(outputs[0] if self.feed == "output" else self.combine(embedded, *outputs)))

    def combine(self, embedded: Tensor | None, hidden: Tensor, context: Tensor) -> Tensor:
        """d_t = tanh(W E y_{t-1} + L_h dropout(h_t) + L_z z_t); without tanh for "sum", without the word for that and "attentional"."""
        total = self.hidden_output(self.drop(hidden))
        if embedded is not None and self.deep_output in ("projected", "embedded"):
            total = self.word_output(embedded) + total
        total = total + self.context_output(context)
        return total if self.deep_output == "sum" else torch.tanh(total)


class LSTMDecoder(OneLayerDecoder):
    """The decoder of Xu et al. 2015, sec. 3.1.2 (eqs. 1 to 7) and 4.2.1, in the order of `OneLayerDecoder`; `lstm_cell` is its layer.

    Departures: the learned W of the deep output (`deep_output` "embedded" is eq. 7). Every `query` but
    "previous", every `feed` but "context", "attentional" and "sum", and a sentinel are of other papers.
    """

    gates, has_cell, open_gates = 4, True, (1,)

    def next_state(self, word_gates: Tensor, hidden: Tensor, cell: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        assert cell is not None
        return lstm_cell(word_gates + self.state_gates(torch.cat([hidden, context], -1)), cell)


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """(h_t, c_t) of the gates before their nonlinearities, in the order i, f, o, g, and c_{t-1}.

        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(c_t)

    Source: Xu et al. 2015, eqs. 1 to 3; g is the candidate.
    """
    input_gate, forget_gate, output_gate, candidate = gates.chunk(4, -1)
    cell = torch.sigmoid(forget_gate) * cell + torch.sigmoid(input_gate) * torch.tanh(candidate)
    return torch.sigmoid(output_gate) * torch.tanh(cell), cell


def check_options(**options: str) -> None:
    """Raise ArgumentError unless each is a choice there is, and `feed` goes with `query` and `deep_output`."""
    for name, value in options.items():
        if value not in OPTIONS[name]:
            raise ArgumentError(name, f"is one of {', '.join(OPTIONS[name])}, not {value!r}")
    query, deep_output, feed = options["query"], options["deep_output"], options["feed"]
    if feed != "context" and query != "current":
        raise ArgumentError("feed", f"is {feed}, which a layer reads before it asks: it needs query=current, not {query}")
    if feed == "output" and deep_output != "attentional":
        raise ArgumentError(
            "feed", f"is output, which must not need the word just said: it needs deep_output=attentional, not {deep_output}"
        )
