"""A decoder of causal convolutions, each of which looks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import check_sizes
from captioner.decoders.parallel import Hidden, Layer, LayerOutput, ParallelDecoder, Past, copy_attention
from captioner.errors import ArgumentError
from captioner.records import AttentionHistory, Memory


class Convolution(Layer):
    """One block; `words` are the embeddings e_t.

    v_t = GLU(convolution(x_{t-k+1} ... x_t))
    z_t = m sqrt(1/m) attention((W v_t + e_t) / sqrt 2, a),     m the number of regions
    x_t <- ((v_t + U z_t) / sqrt 2 + x_t) / sqrt 2
    """

    def __init__(self, attention: Attention, hidden_size: int, kernel_size: int, dropout: float, scale_context: bool) -> None:
        super().__init__(attention, hidden_size)
        self.scale_context = scale_context
        self.past = (kernel_size - 1, hidden_size)
        self.convolution = nn.Conv1d(hidden_size, 2 * hidden_size, kernel_size)
        self.ask = nn.Linear(hidden_size, hidden_size)
        self.drop = nn.Dropout(dropout)
        nn.init.normal_(self.convolution.weight, std=(4 * (1 - dropout) / (kernel_size * hidden_size)) ** 0.5)
        nn.init.zeros_(self.convolution.bias.detach())  # type: ignore[union-attr]

    def forward(self, inputs: Hidden, words: Hidden, past: Past, memory: Memory, history: AttentionHistory) -> LayerOutput:
        window = torch.cat([past, self.drop(inputs)], 2)  # (images queries past+steps hidden)
        convolved = self.convolution(window.flatten(0, 1).transpose(1, 2))  # (images*queries 2*hidden steps)
        signal = nn.functional.glu(convolved.transpose(1, 2).unflatten(0, inputs.shape[:2]), -1)  # (images queries steps hidden)
        scale = context_scale(memory) if self.scale_context else None
        context, glimpse = self.attend((self.ask(signal) + words) * 0.5**0.5, memory, history, scale)
        outputs = ((signal + context) * 0.5**0.5 + inputs) * 0.5**0.5
        return outputs, window[:, :, inputs.shape[2] :], glimpse


def context_scale(memory: Memory) -> Float[Tensor, "images 1 1"]:
    """m sqrt(1/m), of the m regions that may be looked at: equal weights divide the deviation of independent values by that."""
    values = memory.values
    regions = values.new_full((values.shape[0],), values.shape[1]) if memory.mask is None else memory.mask.sum(-1).to(values.dtype)
    return regions.sqrt()[:, None, None]


class ConvolutionalDecoder(ParallelDecoder):
    """Causal convolutions with gated linear units over the words so far, and an attention in every layer.

    A word reads `layers` x (`kernel_size` - 1) words before it, and looks in each layer again,
    knowing what the layer below saw: multi-step attention. `scale_context` false leaves m sqrt(1/m)
    out, as models of this class were trained before there was a choice.
    Source: Gehring et al. 2017, sec. 3 (scales in sec. 3.4, initialization in sec. 3.5); Aneja et al.
    2018 for captions, where the image is read beside the words and there is one attention. The scale
    of the query is from the authors' code. Departures: no weight normalisation; positions are not
    learned, and embeddings grow by sqrt(size) (`ParallelDecoder`); the keys and values of regions are
    those of `attention` (there values are sums of outputs and embeddings); the encoder's gradients
    are not divided by the number of attentions.
    Raises: ArgumentError, a size not positive, a dropout outside [0, 1), a locality that needs the past, a sentinel.
    """

    def __init__(
        self,
        vocabulary_size: int,
        attention: Attention,
        embedding_size: int,
        hidden_size: int,
        layers: int = 3,
        kernel_size: int = 5,
        dropout: float = 0.1,
        tie: bool = False,
        scale_context: bool = False,
    ) -> None:
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size, "layers": layers}
        check_sizes(dropout, vocabulary_size=vocabulary_size, **sizes)
        if kernel_size < 1:
            raise ArgumentError("kernel_size", f"is a number of words and must be positive, not {kernel_size}")
        blocks = [Convolution(each, hidden_size, kernel_size, dropout, scale_context) for each in copy_attention(attention, layers)]
        super().__init__(vocabulary_size, blocks, nn.Identity(), embedding_size, hidden_size, dropout, tie)
