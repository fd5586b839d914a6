"""Decoders that read all words of a caption at once, with positions and one attention per layer."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import Decoder, compute_logits, mask_record, output_layers, word_log_probs
from captioner.errors import ArgumentError
from captioner.records import AttentionHistory, Glimpse, Memory, Regions, Rollout, Step, StepRecord, map_tensors

Hidden = Float[Tensor, "images queries steps hidden"]
Past = Float[Tensor, "images queries past units"]
"""What a layer has computed of earlier words and needs for later ones."""
LayerOutput = tuple[Hidden, Float[Tensor, "images queries newest units"], Glimpse]
"""The layer's outputs, its past for the next words, and its glimpse, in which every step of a caption is a query."""


class Layer(nn.Module, ABC):
    """A layer of a parallel decoder, with its own attention."""

    past: tuple[int, int]
    """(words, units) of the past that the first word reads, which are zeros."""

    def __init__(self, attention: Attention, hidden_size: int) -> None:
        super().__init__()
        self.attention = attention
        self.see = nn.Linear(attention.context_size, hidden_size)

    @abstractmethod
    def forward(self, inputs: Hidden, words: Hidden, past: Past, memory: Memory, history: AttentionHistory) -> LayerOutput:
        """`words` are the inputs of the first layer; `history` holds one query per step."""

    def attend(
        self, queries: Hidden, memory: Memory, history: AttentionHistory, scale: Float[Tensor, "images 1 1"] | None = None
    ) -> tuple[Hidden, Glimpse]:
        """The context of each step, multiplied by `scale` and projected to the hidden size, and the glimpse."""
        glimpse = self.attention(queries.flatten(1, 2), memory, history)  # images queries*steps ...
        context = glimpse.context if scale is None else glimpse.context * scale
        return self.see(context).unflatten(1, queries.shape[1:3]), glimpse


class ParallelState(NamedTuple):
    past: tuple[Past, ...]
    """Of each layer."""
    history: AttentionHistory
    """Its `step` and `mode`; earlier alphas are not kept."""


class ParallelDecoder(Decoder):
    """All steps at once, each a query; a single step reads what its layers have kept of the past.

        x_t    = project(dropout(sqrt(size) E y_{t-1} + position_t))
        x_t    = layer_l(x_0 ... x_t, attention_l(...)),        for each layer l
        p(y_t) = softmax(L_o dropout(x_t))

    Positions are sines and cosines (Vaswani et al. 2017, sec. 3.5), so that a caption may have any
    length; there is no projection where `embedding_size` is the hidden size. `tie`: L_o is a layer to
    the embedding's size and the embedding itself. Departures: the sines and the cosines lie side by
    side (there they alternate), and dropout before the output. In the record, alphas are the mean
    over layers (and heads), head_alphas the heads of every layer one after another, log_prob the sum
    over layers.
    """

    layers: Sequence[Layer]

    def __init__(
        self,
        vocabulary_size: int,
        layers: Sequence[Layer],
        last: nn.Module,
        embedding_size: int,
        hidden_size: int,
        dropout: float,
        tie: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        nn.init.zeros_(self.embedding.weight[0].detach())
        self.project = nn.Identity() if embedding_size == hidden_size else nn.Linear(embedding_size, hidden_size)
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.last = last
        self.drop = nn.Dropout(dropout)
        self.narrow, self.output = output_layers(hidden_size, self.embedding, tie)

    def start(self, regions: Regions) -> tuple[tuple[Memory, ...], ParallelState]:
        memory = tuple(layer.attention.build_memory(regions) for layer in self.layers)
        past = tuple(regions.features.new_zeros(len(regions.features), 1, *layer.past) for layer in self.layers)
        return memory, ParallelState(past, self.layers[0].attention.initial_history(memory[0], 1))

    def step(self, memory: tuple[Memory, ...], state: ParallelState, words: Int[Tensor, "images queries"]) -> Step:
        features, state, record = self.run_layers(memory, state, words[..., None])
        log_probs = compute_logits(self.output, features.squeeze(2)).log_softmax(-1)
        return Step(log_probs, state, map_tensors(lambda leaf: leaf.squeeze(2), record))

    def rollout(self, regions: Regions, captions: Int[Tensor, "images captions words"], mode: Int[Tensor, "images captions"]) -> Rollout:
        """Padding comes last, so that no word reads it; it is not scored."""
        features, _, record = self.run_layers(*self.start_captions(regions, mode), captions[..., :-1])
        mask = captions[..., 1:] != 0
        log_probs, means = word_log_probs(self.output, features[mask], captions[..., 1:], mask)
        return Rollout(log_probs, means, mask, mode, mask_record(record, mask))

    def run_layers(
        self, memory: tuple[Memory, ...], state: ParallelState, words: Int[Tensor, "images queries steps"]
    ) -> tuple[Hidden, ParallelState, StepRecord]:
        """The features for the last layer after each of `words`, which follow those that `state` has read."""
        steps = state.history.step[..., None] + torch.arange(words.shape[-1], device=words.device)
        size = self.embedding.embedding_dim
        embedded = self.embedding(words) * size**0.5
        embedded = outputs = self.project(self.drop(embedded + positions(steps, size, embedded.dtype)))
        history = expand_history(state.history, steps)
        past, glimpses = [], []
        for layer, layer_memory, layer_past in zip(self.layers, memory, state.past, strict=True):
            outputs, newest, glimpse = layer(outputs, embedded, layer_past, layer_memory, history)
            past.append(newest)
            glimpses.append(glimpse)
        record = map_tensors(lambda leaf: leaf.unflatten(1, words.shape[1:]), merge_glimpses(glimpses))  # images queries steps ...
        history = state.history._replace(step=state.history.step + words.shape[-1])
        return self.narrow(self.drop(self.last(outputs))), ParallelState(tuple(past), history), record


def copy_attention(attention: Attention, layers: int) -> list[Attention]:
    """`attention` for the first layer, and for each other layer a copy whose weights are drawn again (where they can be).

    Raises: ArgumentError, a locality that reads earlier looks, or a sentinel.
    """
    if attention.locality.needs_history:
        raise ArgumentError(
            "attention.locality",
            f"is {type(attention.locality).__name__}, which reads where was looked before, and this decoder takes all "
            "steps at once; use everywhere, prior or gaussian_window, or the decoder lstm, gru or top_down",
        )
    if attention.sentinel_size is not None:
        raise ArgumentError(
            "attention.sentinel_size",
            f"is {attention.sentinel_size}, and this decoder has no memory to make a sentinel of; use null "
            "(attention=soft or hard), or the decoder lstm, gru or top_down",
        )

    def draw_weights(module: nn.Module) -> None:
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()  # type: ignore[operator]

    return [attention, *(copy.deepcopy(attention).apply(draw_weights) for _ in range(layers - 1))]


def positions(steps: Int[Tensor, "*lead"], size: int, dtype: torch.dtype) -> Float[Tensor, "*lead size"]:
    """sin(t / 10000^(2i/size)), then the cosines. Source: Vaswani et al. 2017, sec. 3.5, where the two alternate."""
    rates = 10000 ** (-torch.arange(0, size, 2, dtype=dtype, device=steps.device) / size)
    angles = steps[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)[..., :size]


def expand_history(history: AttentionHistory, steps: Int[Tensor, "images queries steps"]) -> AttentionHistory:
    """The history with every step of a query as a query (images queries*steps ...)."""

    def repeat(leaf: Tensor) -> Tensor:
        return leaf[:, :, None].expand(*steps.shape, *leaf.shape[2:]).flatten(1, 2)

    return map_tensors(repeat, history)._replace(step=steps.flatten(1))


def merge_glimpses(glimpses: list[Glimpse]) -> StepRecord:
    """One record of the glimpses of all layers."""
    if len(glimpses) == 1:
        return StepRecord(glimpses[0].alphas, glimpses[0].log_prob, None, None, glimpses[0].head_alphas)
    heads = torch.cat([glimpse.alphas[:, :, None] if glimpse.head_alphas is None else glimpse.head_alphas for glimpse in glimpses], 2)
    return StepRecord(heads.mean(2), torch.stack([glimpse.log_prob for glimpse in glimpses]).sum(0), None, None, heads)
