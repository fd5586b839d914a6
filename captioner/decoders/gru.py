"""Gated recurrent units in the place of the LSTM."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from captioner.decoders.recurrent import LayerDecoder


class GRUDecoder(LayerDecoder):
    """Look, then say a word.

        r_t, u_t = sigmoid(W [E y_{t-1}; z_t] + U h_{t-1})
        n_t      = tanh(W_n [E y_{t-1}; z_t] + U_n (r_t * h_{t-1}))
        h_t      = (1 - u_t) * h_{t-1} + u_t * n_t

    Looking, gate, query and output are those of the LSTM (`LayerDecoder`); asking with the "previous" state is the source's. A GRU's state
    is its memory, so that a sentinel is s_t = sigmoid(...) * h. Source: Bahdanau et al. 2015, A.1.1 and A.2.2, after Cho et al. 2014.
    Departures: the image of Xu et al. 2015 for the first state, their gate, and their deep output in the place of maxout.
    """

    gates, has_cell = 3, False

    def recur(self, gates: Tensor, hidden: Tensor, cell: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        size = 2 * self.hidden_size
        weights = self.state_gates.weight
        reset, update = torch.sigmoid(gates[..., :size] + linear(torch.cat([hidden, context], -1), weights[:size])).chunk(2, -1)
        new = torch.tanh(gates[..., size:] + linear(torch.cat([reset * hidden, context], -1), weights[size:]))
        return (1 - update) * hidden + update * new, None
