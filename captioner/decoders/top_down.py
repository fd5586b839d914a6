"""The top-down decoder: one LSTM looks, another speaks."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import check_choices, last_layers, mean_region
from captioner.decoders.recurrent import Kept, RecurrentDecoder, Shares, lstm_cell, sentinel_layers
from captioner.records import AttentionHistory, Memory, Regions, StepRecord


class TopDownMemory(NamedTuple):
    regions: Memory
    gates: Float[Tensor, "images gates"]
    """The mean region's share of the attention LSTM's gates."""


class TopDownState(NamedTuple):
    looking: Float[Tensor, "images queries hidden"]
    looking_cell: Float[Tensor, "images queries hidden"]
    speaking: Float[Tensor, "images queries hidden"]
    speaking_cell: Float[Tensor, "images queries hidden"]
    history: AttentionHistory


class TopDownDecoder(RecurrentDecoder):
    """Two LSTMs, the first asks where to look, the second says the word.

        h1_t, c1_t = LSTM_1([h2_{t-1}; mean_i a_i; E y_{t-1}], h1_{t-1}, c1_{t-1})
        z_t        = attention(h1_t, a)
        h2_t, c2_t = LSTM_2([z_t; h1_t], h2_{t-1}, c2_{t-1})
        p(y_t)     = softmax(L_o dropout(h2_t))

    Both start from zeros. Where attention has a sentinel, s_t = sigmoid(W_x [h2_{t-1}; E y_{t-1}] + W_h h1_{t-1}) * tanh(c1_t), as Lu et
    al. 2017, eqs. 9 and 10, make it of their one LSTM. `tie`: L_o is a layer to the embedding's size and the embedding itself.
    Source: Anderson et al. 2018, sec. 3.2 (eqs. 1 to 7). Departures: regions are those of a grid and not of detected objects; any attention
    in the place of the additive one; dropout, on embeddings and before the output; the start from zeros, of which the paper says nothing.
    Raises: ValueError, a size not positive, a dropout outside [0, 1), a sentinel of another size.
    """

    def __init__(
        self,
        vocabulary_size: int,
        features: int,
        attention: Attention,
        embedding_size: int,
        hidden_size: int,
        dropout: float = 0.5,
        tie: bool = False,
    ) -> None:
        super().__init__()
        check_choices(dropout, vocabulary_size=vocabulary_size, embedding_size=embedding_size, hidden_size=hidden_size)
        self.vocabulary_size, self.hidden_size = vocabulary_size, hidden_size
        self.attention = attention
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.word_gates = nn.Linear(embedding_size, 4 * hidden_size)
        self.mean_gates = nn.Linear(features, 4 * hidden_size, bias=False)
        self.looking_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.speaking_gates = nn.Linear(2 * hidden_size + attention.context_size, 4 * hidden_size)
        self.word_sentinel, self.state_sentinel = sentinel_layers(attention, embedding_size, 2 * hidden_size, hidden_size)
        self.drop = nn.Dropout(dropout)
        self.reset_parameters()
        self.narrow, self.output = last_layers(hidden_size, self.embedding, tie)

    def reset_parameters(self) -> None:
        """Embeddings small, recurrent matrices orthogonal, forget gates open (bias one)."""
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.zeros_(self.embedding.weight[0].detach())
        for layer, biased in ((self.looking_gates, self.word_gates), (self.speaking_gates, self.speaking_gates)):
            for gate in layer.weight.detach()[:, : self.hidden_size].chunk(4):
                nn.init.orthogonal_(gate)
            nn.init.zeros_(biased.bias)
            nn.init.ones_(biased.bias.detach().chunk(4)[1])

    def start(self, regions: Regions) -> tuple[TopDownMemory, TopDownState]:
        memory = self.attention.remember(regions)
        nothing = regions.features.new_zeros(regions.features.shape[0], 1, self.hidden_size)
        state = TopDownState(nothing, nothing, nothing, nothing, self.attention.begin(memory, 1))
        return TopDownMemory(memory, self.mean_gates(mean_region(regions))), state

    def shares(self, embedded: Float[Tensor, "*lead embedding"]) -> Shares:
        """Of the attention LSTM's gates, and of the sentinel's gate."""
        return self.word_gates(embedded), None if self.word_sentinel is None else self.word_sentinel(embedded)

    def look(self, memory: TopDownMemory, state: TopDownState, shares: Shares) -> tuple[TopDownState, StepRecord, Kept]:
        gates, watched = shares
        assert gates is not None
        before = torch.cat([state.looking, state.speaking], -1)
        looking, looking_cell = lstm_cell(gates + memory.gates[:, None] + self.looking_gates(before), state.looking_cell)
        sentinel = None
        if self.state_sentinel is not None:
            sentinel = torch.sigmoid(watched + self.state_sentinel(before)) * torch.tanh(looking_cell)
        glimpse = self.attention(looking, memory.regions, state.history, sentinel)
        seen = torch.cat([state.speaking, looking, glimpse.context], -1)
        speaking, speaking_cell = lstm_cell(self.speaking_gates(seen), state.speaking_cell)
        history = self.attention.follow(state.history, glimpse)
        record = StepRecord(glimpse.alphas, glimpse.log_prob, None, glimpse.sentinel, glimpse.head_alphas)
        return TopDownState(looking, looking_cell, speaking, speaking_cell, history), record, (speaking,)

    def deep(self, embedded: Float[Tensor, "*lead embedding"], *kept: Float[Tensor, "*lead _"]) -> Float[Tensor, "*lead hidden"]:
        return self.narrow(self.drop(kept[0]))
