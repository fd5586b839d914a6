"""The top-down decoder: one LSTM looks, another predicts the word."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import check_sizes, mean_features, output_layers
from captioner.decoders.lstm import lstm_cell
from captioner.decoders.recurrent import RecurrentDecoder, StepOutputs, WordProjections, reset_embedding, reset_gates, sentinel_layers
from captioner.records import AttentionHistory, Memory, Regions, StepRecord


class TopDownMemory(NamedTuple):
    regions: Memory
    mean_gates: Float[Tensor, "images gates"]
    """The mean region's part of the gates of the attention LSTM."""


class TopDownState(NamedTuple):
    attention_hidden: Float[Tensor, "images queries hidden"]
    attention_cell: Float[Tensor, "images queries hidden"]
    language_hidden: Float[Tensor, "images queries hidden"]
    language_cell: Float[Tensor, "images queries hidden"]
    history: AttentionHistory


class TopDownDecoder(RecurrentDecoder):
    """Two LSTMs: the attention LSTM (h1, c1) asks where to look, the language LSTM (h2, c2) predicts the word.

        h1_t, c1_t = LSTM_1([h2_{t-1}; mean_i a_i; E y_{t-1}], h1_{t-1}, c1_{t-1})
        z_t        = attention(h1_t, a)
        h2_t, c2_t = LSTM_2([z_t; h1_t], h2_{t-1}, c2_{t-1})
        p(y_t)     = softmax(L_o dropout(h2_t))

    Both start from zeros. Where attention has a sentinel, it is made as in Lu et al. 2017, eqs. 9 and
    10: s_t = sigmoid(W_x [h2_{t-1}; E y_{t-1}] + W_h h1_{t-1}) * tanh(c1_t).
    `tie`: L_o is a layer to the embedding's size and the embedding itself.
    Source: Anderson et al. 2018, sec. 3.2 (eqs. 1 to 7). Departures: regions are those of a grid and
    not of detected objects; any attention in the place of the additive one; dropout, on embeddings
    and before the output; the start from zeros, of which the paper says nothing.
    Raises: ArgumentError, a size not positive, a dropout outside [0, 1), a sentinel of another size.
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
        check_sizes(dropout, vocabulary_size=vocabulary_size, embedding_size=embedding_size, hidden_size=hidden_size)
        self.attention, self.hidden_size = attention, hidden_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.word_gates = nn.Linear(embedding_size, 4 * hidden_size)
        self.mean_gates = nn.Linear(features, 4 * hidden_size, bias=False)
        self.looking_gates = nn.Linear(2 * hidden_size, 4 * hidden_size, bias=False)
        self.speaking_gates = nn.Linear(2 * hidden_size + attention.context_size, 4 * hidden_size)
        self.word_sentinel, self.state_sentinel = sentinel_layers(attention, embedding_size, 2 * hidden_size, hidden_size)
        self.drop = nn.Dropout(dropout)
        self.reset_parameters()
        self.narrow, self.output = output_layers(hidden_size, self.embedding, tie)

    def reset_parameters(self) -> None:
        reset_embedding(self.embedding)
        for layer, biased in ((self.looking_gates, self.word_gates), (self.speaking_gates, self.speaking_gates)):
            reset_gates(layer, biased, 4, open_gates=(1,))

    def start(self, regions: Regions) -> tuple[TopDownMemory, TopDownState]:
        memory = self.attention.build_memory(regions)
        zeros = regions.features.new_zeros(regions.features.shape[0], 1, self.hidden_size)
        state = TopDownState(zeros, zeros, zeros, zeros, self.attention.initial_history(memory, 1))
        return TopDownMemory(memory, self.mean_gates(mean_features(regions))), state

    def word_projections(self, embedded: Float[Tensor, "*lead embedding"]) -> WordProjections:
        """Parts of the gates of the attention LSTM, and of the sentinel's gate."""
        return self.word_gates(embedded), None if self.word_sentinel is None else self.word_sentinel(embedded)

    def recurrent_step(
        self, memory: TopDownMemory, state: TopDownState, projections: WordProjections
    ) -> tuple[TopDownState, StepRecord, StepOutputs]:
        word_gates, word_sentinel = projections
        assert word_gates is not None
        before = torch.cat([state.attention_hidden, state.language_hidden], -1)  # [h1_{t-1}; h2_{t-1}]
        h1, c1 = lstm_cell(word_gates + memory.mean_gates[:, None] + self.looking_gates(before), state.attention_cell)
        sentinel = None
        if self.state_sentinel is not None:
            sentinel = torch.sigmoid(word_sentinel + self.state_sentinel(before)) * torch.tanh(c1)
        glimpse = self.attention(h1, memory.regions, state.history, sentinel)
        inputs = torch.cat([state.language_hidden, h1, glimpse.context], -1)
        h2, c2 = lstm_cell(self.speaking_gates(inputs), state.language_cell)
        record = StepRecord(glimpse.alphas, glimpse.log_prob, None, glimpse.sentinel, glimpse.head_alphas)
        return TopDownState(h1, c1, h2, c2, self.attention.update_history(state.history, glimpse)), record, (h2,)

    def output_features(
        self, embedded: Float[Tensor, "*lead embedding"], *outputs: Float[Tensor, "*lead _"]
    ) -> Float[Tensor, "*lead hidden"]:
        return self.narrow(self.drop(outputs[0]))
