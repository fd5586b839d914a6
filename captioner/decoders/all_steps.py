"""All steps of given captions at once, where the recurrent layer does not read what was seen.

Then its states depend on the words alone: one call gives those of every step, and one look of the
attention takes every word of an image's captions as a query, with the keys computed once per image.
`decoder` is a `OneLayerDecoder` everywhere, and `state` the one that it starts with.
"""

from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from captioner.decoders.decoder import word_log_probs
from captioner.records import AttentionHistory, Record, Regions, Rollout, map_tensors

States = Float[Tensor, "images captions steps hidden"]


def rollout_all_steps(
    decoder: Any, regions: Regions, captions: Int[Tensor, "images captions words"], mode: Int[Tensor, "images captions"]
) -> Rollout:
    """`step` repeated over given captions. Only words are looked for and scored, not padding."""
    mask = captions[..., 1:] != 0  # (images captions steps)
    memory, state = decoder.start_captions(regions, mode)
    embedded = decoder.drop(decoder.embedding(captions[..., :-1]))  # (images captions steps embedding)
    hidden, cell = all_states(decoder, embedded, state)
    words = Words(mask)
    history = words.history(decoder.attention.initial_history(memory, 1), mode)
    query = words.gather(hidden)  # (images queries hidden)
    sentinel = None
    if decoder.word_sentinel is not None:
        before = torch.cat([state.hidden[:, :, None], hidden[:, :, :-1]], 2)
        feed = state.feed[:, :, None].expand(*mask.shape, -1)
        word_gate = decoder.word_sentinel(words.gather(embedded))
        sentinel = decoder.sentinel(
            word_gate, (words.gather(before), words.gather(feed)), query, None if cell is None else words.gather(cell)
        )
    _, context, record = decoder.look(memory, history, query, query, sentinel)
    features = decoder.output_features(embedded[mask], hidden[mask], context[words.there])
    log_probs, means = word_log_probs(decoder.output, features, captions[..., 1:], mask)
    return Rollout(log_probs, means, mask, mode, words.scatter(record))


class Words:
    """The words of each image's captions in one row, without the padding between captions.

    `mask` is true where there is a word, (images captions steps). An image has as many queries as
    the image with the most words; `there` is true for those that are words of its own.
    """

    def __init__(self, mask: Bool[Tensor, "images captions steps"]) -> None:
        self.shape = mask.shape
        rows = mask.flatten(1)  # (images captions*steps)
        counts = rows.sum(1, keepdim=True)
        queries = max(1, int(counts.max()))
        self.places: Int[Tensor, "images queries"] = rows.byte().argsort(dim=1, descending=True, stable=True)[:, :queries]
        self.there: Bool[Tensor, "images queries"] = torch.arange(queries, device=mask.device) < counts

    def gather(self, leaf: Float[Tensor, "images captions steps units"]) -> Float[Tensor, "images queries units"]:
        return leaf.flatten(1, 2).gather(1, self.places[..., None].expand(-1, -1, leaf.shape[-1]))

    def history(self, first: AttentionHistory, mode: Int[Tensor, "images captions"]) -> AttentionHistory:
        """Each word is a query that knows the number of its step and its caption's mode, and nothing of earlier looks."""
        alphas = first.alphas.expand(-1, self.places.shape[1], -1)
        steps = self.shape[-1]
        return AttentionHistory(alphas, alphas, self.places % steps, mode.gather(1, self.places // steps))

    def scatter(self, record: Record) -> Record:
        """The record by caption and step, (images captions steps ...), with zeros at padding."""

        def spread(leaf: Tensor) -> Tensor:
            places, there = (index.view(*index.shape, *[1] * (leaf.dim() - 2)) for index in (self.places, self.there))
            rows = leaf.new_zeros(len(leaf), self.shape[1] * self.shape[2], *leaf.shape[2:])
            return rows.scatter(1, places.expand_as(leaf), leaf * there).unflatten(1, self.shape[1:])

        return map_tensors(spread, record)


def all_states(decoder: Any, embedded: Float[Tensor, "images captions steps embedding"], state: Any) -> tuple[States, States | None]:
    """h_t and, where something reads it, c_t of every step; an LSTM of which nothing reads c_t runs as PyTorch's own."""
    if decoder.has_cell and decoder.word_sentinel is None:
        return torch_lstm(decoder, embedded, state), None
    hidden, cell, states = state.hidden, state.cell, []
    for word_gates in decoder.word_gates(embedded).unbind(2):
        hidden, cell = decoder.next_state(word_gates, hidden, cell, state.feed)
        states.append((hidden, cell))
    hiddens, cells = zip(*states, strict=True)
    return torch.stack(hiddens, 2), None if cell is None else torch.stack(cells, 2)


def torch_lstm(decoder: Any, embedded: Float[Tensor, "images captions steps embedding"], state: Any) -> States:
    """The states by torch's LSTM, whose gates stand in the order i, f, g, o; ours stand in the order i, f, o, g."""
    images, captions, steps, _ = embedded.shape
    units = state.hidden.shape[-1]
    order = torch.arange(4 * units, device=embedded.device).view(4, units)[[0, 1, 3, 2]].flatten()
    recurrent, fed = decoder.state_gates.weight[order].split([units, state.feed.shape[-1]], 1)
    weights = torch.cat([decoder.word_gates.weight[order], fed], 1)
    inputs = torch.cat([embedded, state.feed[:, :, None].expand(-1, -1, steps, -1)], -1)
    bias = decoder.word_gates.bias[order]
    first = [leaf.reshape(1, images * captions, units) for leaf in (state.hidden, state.cell)]
    parameters = [weights, recurrent.contiguous(), bias, torch.zeros_like(bias)]
    on_processor = embedded.device.type == "cpu"  # whose LSTM may not run in 16 bits
    dtype = torch.float32 if on_processor and bias.dtype in (torch.bfloat16, torch.float16) else bias.dtype
    first, parameters = ([leaf.to(dtype) for leaf in leaves] for leaves in (first, parameters))
    with torch.autocast("cpu", enabled=False) if on_processor else nullcontext():
        # has biases, layers, dropout, training, both ways, batch first
        hidden, _, _ = torch.lstm(inputs.flatten(0, 1).to(dtype), first, parameters, True, 1, 0.0, False, False, True)
    return hidden.to(embedded.dtype).unflatten(0, (images, captions))
