"""Gated recurrent units in the place of the LSTM."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from captioner.decoders.lstm import OneLayerDecoder


class GRUDecoder(OneLayerDecoder):
    """The decoder of Xu et al. 2015 with the recurrent layer of Bahdanau et al. 2015, A.1.1 and A.2.2, after Cho et al. 2014.

    The query "previous" is that of Bahdanau et al. Departures from them: the first state is made of
    the image, the gate beta_t, and the deep output in the place of maxout (see `OneLayerDecoder`).
    """

    gates, has_cell = 3, False

    def next_state(self, word_gates: Tensor, hidden: Tensor, cell: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        """r_t, u_t = sigmoid(W [E y_{t-1}; z_t] + U h_{t-1})

        n_t = tanh(W_n [E y_{t-1}; z_t] + U_n (r_t * h_{t-1}))
        h_t = (1 - u_t) * h_{t-1} + u_t * n_t
        """
        size = 2 * self.hidden_size
        weights = self.state_gates.weight
        reset, update = torch.sigmoid(word_gates[..., :size] + linear(torch.cat([hidden, context], -1), weights[:size])).chunk(2, -1)
        candidate = torch.tanh(word_gates[..., size:] + linear(torch.cat([reset * hidden, context], -1), weights[size:]))
        return (1 - update) * hidden + update * candidate, None
