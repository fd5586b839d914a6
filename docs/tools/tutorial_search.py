"""The beam search of tutorials: the peer in benchmarks/search.py, and an oracle in the tests.

It takes one image at a time, copies the regions for each of the k beams, gathers the copies again
after every step, and projects the keys again at every step. Source: caption.py and models.py of
sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning, rewritten. Departures: the paper's deep output and
scalar gate (there: the hidden state alone, and a vector), so that the weights of an `LSTMDecoder`
fit; k does not shrink, and the search ends by the rule of `BeamSearch`.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Caption(NamedTuple):
    words: list[int]
    """Without `<start>` and `<end>`."""
    log_prob: float
    """With `<end>`."""
    alphas: Tensor
    """(steps, regions): one row per word, and one of `<end>`."""


class TutorialDecoder(nn.Module):
    """The weights of an `LSTMDecoder` (additive attention, scalar gate, query "previous") around
    torch's own LSTM cell."""

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        hidden, score = decoder.hidden_size, decoder.attention.score
        self.encoder_att, self.decoder_att, self.full_att = score.key, score.query, score.energy
        self.embedding, self.initial, self.f_beta = decoder.embedding, decoder.initial, decoder.beta
        self.word_output, self.hidden_output, self.context_output = decoder.word_output, decoder.hidden_output, decoder.context_output
        self.fc = decoder.output
        words, states = decoder.word_gates, decoder.state_gates.weight
        self.decode_step = nn.LSTMCell(words.in_features + states.shape[1] - hidden, hidden)
        self.decode_step.weight_ih.data = torch_gate_order(torch.cat([words.weight, states[:, hidden:]], 1)).detach()
        self.decode_step.weight_hh.data = torch_gate_order(states[:, :hidden]).detach()
        self.decode_step.bias_ih.data = torch_gate_order(words.bias).detach()
        self.decode_step.bias_hh.data = torch.zeros_like(words.bias)

    def init_hidden_state(self, encoder_out: Tensor) -> tuple[Tensor, Tensor]:
        h, c = torch.tanh(self.initial(encoder_out.mean(dim=1))).chunk(2, dim=1)
        return h, c

    def attention(self, encoder_out: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        att1 = self.encoder_att(encoder_out)  # (k, regions, attention)
        att2 = self.decoder_att(h)  # (k, attention)
        alpha = F.softmax(self.full_att(torch.tanh(att1 + att2.unsqueeze(1))).squeeze(2), dim=1)  # (k, regions)
        return (encoder_out * alpha.unsqueeze(2)).sum(dim=1), alpha

    def forward(self, encoder_out: Tensor, words: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """log p of the next word (k, vocab), the weights (k, regions), the next state."""
        embeddings = self.embedding(words)
        context, alpha = self.attention(encoder_out, h)
        context = torch.sigmoid(self.f_beta(h)) * context
        h, c = self.decode_step(torch.cat([embeddings, context], dim=1), (h, c))
        scores = self.fc(torch.tanh(self.word_output(embeddings) + self.hidden_output(h) + self.context_output(context)))
        return F.log_softmax(scores, dim=1), alpha, h, c


def torch_gate_order(gates: Tensor) -> Tensor:
    """Rows of `LSTMDecoder` (input, forget, output, candidate) in the order of `nn.LSTMCell`, where
    the last two are swapped."""
    input_, forget, output, candidate = gates.chunk(4)
    return torch.cat([input_, forget, candidate, output])


@torch.no_grad()
def caption_image(
    decoder: TutorialDecoder, regions: Tensor, k: int, max_length: int, start: int, end: int, never: list[int]
) -> list[Caption]:
    """The finished captions of one image (regions features), the likeliest first, at most k."""
    encoder_out = regions.unsqueeze(0).expand(k, -1, -1)
    h, c = decoder.init_hidden_state(encoder_out)
    words = torch.full((k,), start)
    seqs = words.unsqueeze(1)
    seqs_alpha = torch.zeros(k, 0, regions.shape[0])
    top_k_scores = torch.zeros(k)
    complete: list[Caption] = []

    for step in range(max_length + 1):
        scores, alpha, h, c = decoder(encoder_out, words, h, c)
        scores[:, never] = -torch.inf
        scores = top_k_scores.unsqueeze(1) + scores
        seqs_alpha = torch.cat([seqs_alpha, alpha.unsqueeze(1)], dim=1)
        if step == max_length:
            complete += [Caption(seqs[i, 1:].tolist(), scores[i, end].item(), seqs_alpha[i]) for i in range(k)]
            break

        # All k beams are alike at first. Of 2 k continuations at most k say <end>, so k others are
        # left to go on with.
        choices = scores[0] if step == 0 else scores.view(-1)
        ranked, flat = choices.topk(2 * k)
        beams, nexts = flat // scores.shape[1], flat % scores.shape[1]
        for rank in range(k):
            if nexts[rank] == end:
                beam = beams[rank]
                complete.append(Caption(seqs[beam, 1:].tolist(), ranked[rank].item(), seqs_alpha[beam]))
        if len(complete) >= k:
            break

        going = (nexts != end).nonzero().squeeze(1)[:k]
        top_k_scores, parents, words = ranked[going], beams[going], nexts[going]
        seqs = torch.cat([seqs[parents], words.unsqueeze(1)], dim=1)
        seqs_alpha, h, c, encoder_out = seqs_alpha[parents], h[parents], c[parents], encoder_out[parents]

    return sorted(complete, key=lambda caption: caption.log_prob, reverse=True)[:k]
