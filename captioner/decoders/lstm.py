"""The paper's decoder: an LSTM that looks at every step."""

import torch
from torch import Tensor

from captioner.decoders.recurrent import LayerDecoder, lstm_cell


class LSTMDecoder(LayerDecoder):
    """Look, then say a word.

        h_0, c_0 = tanh(init(mean_i a_i))
        z_t      = beta_t attention(q_t, a),              beta_t = sigmoid(f_beta(h_{t-1}))
        h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})
        p(y_t)   = softmax(L_o dropout(tanh(E' y_{t-1} + L_h h_t + L_z z_t)))

    `query` "previous" is the paper's; "word" and "current" are departures, and so is a sentinel (all said at `LayerDecoder`).
    Source: Xu et al. 2015, sec. 3.1.2 (eqs. 1 to 7) and 4.2.1; the tanh of the deep output is from the authors' code.
    """

    gates, has_cell, opened = 4, True, (1,)

    def recur(self, gates: Tensor, hidden: Tensor, cell: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        assert cell is not None
        return lstm_cell(gates + self.state_gates(torch.cat([hidden, context], -1)), cell)
