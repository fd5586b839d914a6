"""The transformer's decoder, whose cross-attention is ours."""

import torch
from torch import nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import check_sizes
from captioner.decoders.parallel import Hidden, Layer, LayerOutput, ParallelDecoder, Past, copy_attention
from captioner.errors import ArgumentError
from captioner.records import AttentionHistory, Memory


class Block(Layer):
    """One layer, with a normalisation before each part.

    x <- x + self_attention(norm(x)),   x <- x + U attention(norm(x), a),   x <- x + feedforward(norm(x))
    """

    def __init__(self, attention: Attention, hidden_size: int, heads: int, feedforward_size: int, dropout: float) -> None:
        super().__init__(attention, hidden_size)
        self.past = (0, 2 * hidden_size)
        self.heads, self.dropout = heads, dropout
        self.norm_words, self.norm_look, self.norm_feed = (nn.LayerNorm(hidden_size) for _ in range(3))
        self.ask = nn.Linear(hidden_size, 3 * hidden_size)
        self.join = nn.Linear(hidden_size, hidden_size)
        self.feed = nn.Sequential(
            nn.Linear(hidden_size, feedforward_size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(feedforward_size, hidden_size)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, inputs: Hidden, words: Hidden, past: Past, memory: Memory, history: AttentionHistory) -> LayerOutput:
        hidden = inputs.shape[-1]
        queries, keys_values = self.ask(self.norm_words(inputs)).split([hidden, 2 * hidden], -1)
        past = torch.cat([past.to(keys_values.dtype), keys_values], 2)
        outputs = inputs + self.drop(self.join(self.self_attention(queries, past)))
        context, glimpse = self.attend(self.norm_look(outputs), memory, history)
        outputs = outputs + self.drop(context)
        return outputs + self.drop(self.feed(self.norm_feed(outputs))), past, glimpse

    def self_attention(self, queries: Hidden, past: Past) -> Hidden:
        """Each word attends to itself and to those before it; `past` holds their keys and values, and ends with its own."""
        steps, words = queries.shape[2], past.shape[2]
        # (images*queries heads steps units) each
        query, key, value = (leaf.flatten(0, 1).unflatten(-1, (self.heads, -1)).transpose(1, 2) for leaf in (queries, *past.chunk(2, -1)))
        causal = torch.ones(steps, words, dtype=torch.bool, device=past.device).tril(words - steps)
        drop = self.dropout if self.training else 0.0
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=causal, dropout_p=drop)
        return attended.transpose(1, 2).flatten(2).unflatten(0, queries.shape[:2])


class TransformerDecoder(ParallelDecoder):
    """Self-attention over the words so far, attention over the regions, and a feed-forward network, in every layer.

    `heads` are those of the self-attention; attention over the regions has those of its score. Single
    steps keep the keys and values of the words so far.
    Source: Vaswani et al. 2017, sec. 3. Departures: norms before each part and after the last layer
    ("pre-norm", Xiong et al. 2020), which trains without a long warm-up; attention over the regions
    is any `attention`, of which each layer has its own; dropout also on the weights of the
    self-attention, inside the feed-forward network and before the output.
    Raises: ArgumentError, a size not positive, `heads` that do not divide hidden_size, a dropout outside
    [0, 1), a locality that needs the past, a sentinel.
    """

    def __init__(
        self,
        vocabulary_size: int,
        attention: Attention,
        embedding_size: int,
        hidden_size: int,
        layers: int = 3,
        heads: int = 8,
        feedforward_size: int = 2048,
        dropout: float = 0.1,
        tie: bool = False,
    ) -> None:
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size, "layers": layers, "feedforward_size": feedforward_size}
        check_sizes(dropout, vocabulary_size=vocabulary_size, **sizes)
        if heads < 1 or hidden_size % heads:
            raise ArgumentError("heads", f"splits hidden_size, {hidden_size} units, into equal parts, and must divide it, not {heads}")
        blocks = [Block(each, hidden_size, heads, feedforward_size, dropout) for each in copy_attention(attention, layers)]
        super().__init__(vocabulary_size, blocks, nn.LayerNorm(hidden_size), embedding_size, hidden_size, dropout, tie)
