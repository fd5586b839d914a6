"""Decoders that read all words of a caption at once: positions, one attention a layer, and what a step keeps for the next."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.decoder import Decoder, last_layers, logits_of, said
from captioner.errors import ArgumentError
from captioner.records import AttentionHistory, Glimpse, Memory, Regions, Rollout, Step, StepRecord, map_tensors

Read = tuple[Float[Tensor, "images queries steps hidden"], Float[Tensor, "images queries kept units"], Glimpse]
"""A layer's outputs, what of its past later words will need, and where it looked, all steps as queries."""


class Layer(nn.Module, ABC):
    """A layer of a parallel decoder, with an attention of its own."""

    past: tuple[int, int]
    """(words, units) of the past that a first word reads."""

    def __init__(self, attention: Attention, hidden_size: int) -> None:
        super().__init__()
        self.attention = attention
        self.see = nn.Linear(attention.context_size, hidden_size)

    @abstractmethod
    def forward(
        self,
        inputs: Float[Tensor, "images queries steps hidden"],
        words: Float[Tensor, "images queries steps hidden"],
        past: Float[Tensor, "images queries past units"],
        memory: Memory,
        history: AttentionHistory,
    ) -> Read:
        """`words` are the inputs of the first layer; `history` holds a row a step."""

    def look(
        self,
        queries: Float[Tensor, "images queries steps hidden"],
        memory: Memory,
        history: AttentionHistory,
        scale: Float[Tensor, "images 1 1"] | None = None,
    ) -> tuple[Float[Tensor, "images queries steps hidden"], Glimpse]:
        """What each step sees, the context multiplied by `scale`, and its glimpse."""
        glimpse = self.attention(queries.flatten(1, 2), memory, history)
        context = glimpse.context if scale is None else glimpse.context * scale
        return self.see(context).unflatten(1, queries.shape[1:3]), glimpse


class ParallelState(NamedTuple):
    past: tuple[Float[Tensor, "images queries past units"], ...]
    """Of each layer."""
    history: AttentionHistory
    """Its `step` and `mode`; where was looked before is not kept."""


class ParallelDecoder(Decoder):
    """All steps at once, each a query of its own; a step alone reads what its layers kept of the past.

        x_t    = project(dropout(sqrt(size) E y_{t-1} + position_t))
        x_t    = layer_l(x_0 ... x_t, attention_l(...)),        for each layer l
        p(y_t) = softmax(L_o dropout(x_t))

    Positions are sines and cosines (Vaswani et al. 2017, sec. 3.5), so that a caption may be of any length; there is no projection where
    `embedding_size` is the hidden size. `tie`: L_o is a layer to the embedding's size and the embedding itself. Departures of ours: the
    sines and the cosines lie side by side (there they alternate), and dropout before the output. In the record, alphas are
    the mean over layers (and heads), head_alphas every layer's heads one after another, log_prob the sum over layers.
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
        self.vocabulary_size, self.hidden_size = vocabulary_size, hidden_size
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)
        nn.init.zeros_(self.embedding.weight[0].detach())
        self.project = nn.Identity() if embedding_size == hidden_size else nn.Linear(embedding_size, hidden_size)
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.last = last
        self.drop = nn.Dropout(dropout)
        self.narrow, self.output = last_layers(hidden_size, self.embedding, tie)

    def start(self, regions: Regions) -> tuple[tuple[Memory, ...], ParallelState]:
        memory = tuple(layer.attention.remember(regions) for layer in self.layers)
        images = regions.features.shape[0]
        past = tuple(regions.features.new_zeros(images, 1, *layer.past) for layer in self.layers)
        return memory, ParallelState(past, self.layers[0].attention.begin(memory[0], 1))

    def step(self, memory: tuple[Memory, ...], state: ParallelState, words: Int[Tensor, "images queries"]) -> Step:
        outputs, state, record = self.read(memory, state, words[..., None])
        log_probs = logits_of(self.output, outputs.squeeze(2)).log_softmax(-1)
        return Step(log_probs, state, map_tensors(lambda leaf: leaf.squeeze(2), record))

    def rollout(
        self,
        regions: Regions,
        captions: Int[Tensor, "images captions words"],
        mode: Int[Tensor, "images captions"],
    ) -> Rollout:
        """Padding is read, being the last, by no word, and is not scored."""
        memory, state = self.start(regions)
        state = map_tensors(lambda leaf: leaf.expand(-1, captions.shape[1], *leaf.shape[2:]), state)
        state = state._replace(history=state.history._replace(mode=mode))
        outputs, _, record = self.read(memory, state, captions[..., :-1])
        mask = captions[..., 1:] != 0
        log_probs, means = (
            scattered(values, mask) for values in said(self.output, outputs[mask], captions[..., 1:][mask], self.vocabulary_size)
        )
        record = map_tensors(lambda leaf: leaf * mask.view(*mask.shape, *[1] * (leaf.dim() - 3)), record)
        return Rollout(log_probs, means, mask, mode, record)

    def read(
        self, memory: tuple[Memory, ...], state: ParallelState, words: Int[Tensor, "images queries steps"]
    ) -> tuple[Float[Tensor, "images queries steps hidden"], ParallelState, StepRecord]:
        """What is said from after each of `words`, which follow those that `state` has read."""
        steps = state.history.step[..., None] + torch.arange(words.shape[-1], device=words.device)
        size = self.embedding.embedding_dim
        embedded = self.embedding(words) * size**0.5
        embedded = outputs = self.project(self.drop(embedded + positions(steps, size, embedded.dtype)))
        history = one_query_per_step(state.history, steps)
        past, glimpses = [], []
        for layer, own, before in zip(self.layers, memory, state.past, strict=True):
            outputs, kept, glimpse = layer(outputs, embedded, before, own, history)
            past.append(kept)
            glimpses.append(glimpse)
        record = map_tensors(lambda leaf: leaf.unflatten(1, words.shape[1:]), together(glimpses))
        history = state.history._replace(step=state.history.step + words.shape[-1])
        return self.narrow(self.drop(self.last(outputs))), ParallelState(tuple(past), history), record


def an_attention_each(attention: Attention, layers: int) -> list[Attention]:
    """`attention` for the first layer, and for each other a copy with weights of its own (of the layers that can be drawn anew).

    Raises: ArgumentError, a locality that reads where was looked before, or a sentinel.
    """
    if attention.locality.needs_history:
        raise ArgumentError(
            "attention.locality",
            f"is {type(attention.locality).__name__}, which reads where was looked before, and this decoder takes "
            "all steps at once; use everywhere, prior or gaussian_window, or the decoder lstm, gru or top_down",
        )
    if attention.sentinel_size is not None:
        raise ArgumentError(
            "attention.sentinel_size",
            f"is {attention.sentinel_size}, and this decoder has no memory to make a sentinel of; use null "
            "(attention=soft or hard), or the decoder lstm, gru or top_down",
        )

    def draw(module: nn.Module) -> None:
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()  # type: ignore[operator]

    return [attention, *(copy.deepcopy(attention).apply(draw) for _ in range(layers - 1))]


def positions(steps: Int[Tensor, "*lead"], size: int, dtype: torch.dtype) -> Float[Tensor, "*lead size"]:
    """sin(t / 10000^(2i/size)), then the cosines. Source: Vaswani et al. 2017, sec. 3.5, where the two alternate."""
    rates = 10000 ** (-torch.arange(0, size, 2, dtype=dtype, device=steps.device) / size)
    angles = steps[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)[..., :size]


def one_query_per_step(history: AttentionHistory, steps: Int[Tensor, "images queries steps"]) -> AttentionHistory:
    """The history with every step of a query as a query."""

    def repeated(leaf: Tensor) -> Tensor:
        return leaf[:, :, None].expand(*steps.shape, *leaf.shape[2:]).flatten(1, 2)

    return AttentionHistory(repeated(history.alphas), repeated(history.cumulative), steps.flatten(1), repeated(history.mode))


def together(glimpses: list[Glimpse]) -> StepRecord:
    """One record of every layer's glimpse."""
    if len(glimpses) == 1:
        return StepRecord(glimpses[0].alphas, glimpses[0].log_prob, None, None, glimpses[0].head_alphas)
    heads = torch.cat([glimpse.alphas[:, :, None] if glimpse.head_alphas is None else glimpse.head_alphas for glimpse in glimpses], 2)
    return StepRecord(heads.mean(2), torch.stack([glimpse.log_prob for glimpse in glimpses]).sum(0), None, None, heads)


def scattered(values: Float[Tensor, " spoken"], mask: Bool[Tensor, "images captions steps"]) -> Float[Tensor, "images captions steps"]:
    return values.new_zeros(mask.shape).masked_scatter(mask, values)
