"""The paper's decoder: an LSTM that looks at every step."""

import torch
from torch import Tensor

from captioner.decoders.recurrent import LayerDecoder, lstm_cell


class LSTMDecoder(LayerDecoder):
    """Look, then say a word.

        h_0, c_0 = tanh(init(mean_i a_i))
        z_t      = beta_t attention(q_t, a),              beta_t = sigmoid(f_beta(h_{t-1}))
        h_t, c_t = LSTM([E y_{t-1}; z_t], h_{t-1}, c_{t-1})
        p(y_t)   = softmax(L_o dropout(tanh(W E y_{t-1} + L_h dropout(h_t) + L_z z_t)))

    Source: Xu et al. 2015, sec. 3.1.2 (eqs. 1 to 7) and 4.2.1; dropout and the tanh of the deep output are from the authors' code.
    Departures: the learned W (eq. 7 has E y itself: `deep_output` "embedded"), and every `query` but "previous", every `feed` but
    "context", every other `deep_output` and a sentinel, which are other papers' (all said at `LayerDecoder`).
    """

    gates, has_cell, opened = 4, True, (1,)

    def recur(self, gates: Tensor, hidden: Tensor, cell: Tensor | None, context: Tensor) -> tuple[Tensor, Tensor | None]:
        assert cell is not None
        return lstm_cell(gates + self.state_gates(torch.cat([hidden, context], -1)), cell)
