"""Decoders that run one word after another: the loop over given captions."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from captioner.attention.attention import Attention
from captioner.decoders.all_steps import rollout_all_steps
from captioner.decoders.decoder import Decoder, compute_logits, mask_record, word_log_probs
from captioner.errors import ArgumentError
from captioner.records import Record, Regions, Rollout, Step, StepRecord, map_tensors, select_images, stack_records

WordProjections = tuple[Tensor | None, ...]
"""What a step reads of its word: (... units) of each layer that reads words, None for a layer that the decoder has not."""
StepOutputs = tuple[Tensor, ...]
"""What the output layers read of a step: (images queries units) each."""

STEPS_AT_ONCE = 64
"""Steps whose words are projected in one product. In longer captions, later pieces leave out the captions that have ended."""


class RecurrentDecoder(Decoder):
    """One word after another.

    x_t          = word_projections(E y_{t-1})          of many steps in one product
    s_t, o_t     = recurrent_step(s_{t-1}, x_t)         one step after another
    p(y_t)       = softmax(L_o output_features(E y_{t-1}, o_t))      of all words in one product
    """

    embedding: nn.Embedding
    output: nn.Linear
    drop: nn.Dropout
    steps_at_once: bool = False
    """Whether the steps of given captions do not depend on earlier looks, so that all run at once."""

    @abstractmethod
    def word_projections(self, embedded: Float[Tensor, "*lead embedding"]) -> WordProjections: ...

    @abstractmethod
    def recurrent_step(self, memory: Any, state: Any, projections: WordProjections) -> tuple[Any, StepRecord, StepOutputs]:
        """The next state, what the step leaves for the reader, and what the output layers read."""

    @abstractmethod
    def output_features(
        self, embedded: Float[Tensor, "*lead embedding"], *outputs: Float[Tensor, "*lead _"]
    ) -> Float[Tensor, "*lead hidden"]: ...

    def step(self, memory: Any, state: Any, words: Int[Tensor, "images queries"]) -> Step:
        embedded = self.drop(self.embedding(words))
        state, record, outputs = self.recurrent_step(memory, state, self.word_projections(embedded))
        logits = compute_logits(self.output, self.output_features(embedded, *outputs))
        return Step(logits.log_softmax(-1), state, record)

    def rollout(self, regions: Regions, captions: Int[Tensor, "images captions words"], mode: Int[Tensor, "images captions"]) -> Rollout:
        """Captions are sorted by length within an image, and images by their longest caption.

        So at every step the unfinished captions fill a rectangle (images captions) of views: nothing
        is computed for finished captions beyond it, and log-probabilities are computed for words only.
        """
        if self.steps_at_once:
            return rollout_all_steps(self, regions, captions, mode)  # type: ignore[arg-type]
        lengths = (captions[..., 1:] != 0).sum(-1)
        by_length = lengths.argsort(dim=-1, descending=True, stable=True)
        by_longest = lengths.amax(-1).argsort(descending=True, stable=True)
        order = (by_longest[:, None], by_length[by_longest])
        rollout = self.rollout_sorted(select_images(regions, by_longest), captions[order], lengths[order], mode[order])
        images, columns = by_longest.argsort(), by_length.argsort(-1)
        return map_tensors(lambda leaf: leaf[images[:, None], columns], rollout)

    def rollout_sorted(
        self,
        regions: Regions,
        captions: Int[Tensor, "images captions words"],
        lengths: Int[Tensor, "images captions"],
        mode: Int[Tensor, "images captions"],
    ) -> Rollout:
        embedded, outputs, records = self.run_steps(*self.start_captions(regions, mode), captions, lengths)
        steps = captions.shape[-1] - 1
        mask = lengths[..., None] > torch.arange(steps, device=lengths.device)  # (images captions steps)
        by_step = (2, 0, 1)  # (steps images captions), the order of the rows of `embedded` and `outputs`
        features = self.output_features(embedded, *outputs)
        scores = word_log_probs(self.output, features, captions[..., 1:].permute(by_step), mask.permute(by_step))
        log_probs, means = (leaf.permute(1, 2, 0) for leaf in scores)
        records += [map_tensors(torch.zeros_like, records[0])] * (steps - len(records))
        return Rollout(log_probs, means, mask, mode, stack_records(records, 2))

    def run_steps(
        self, memory: Any, state: Any, captions: Int[Tensor, "images captions words"], lengths: Int[Tensor, "images captions"]
    ) -> tuple[Float[Tensor, "unfinished embedding"], list[Tensor], list[StepRecord]]:
        """Embedded words and outputs, one row per word and one step after another; and the record of each step."""
        embedded, outputs, records, size = [], [], [], tuple(lengths.shape)
        for t, (images, columns) in enumerate(unfinished_sizes(lengths, captions.shape[-1] - 1)):
            if t % STEPS_AT_ONCE == 0:
                rows, cols = (images, columns) if t else size
                words = captions[:rows, :cols, t:-1][..., :STEPS_AT_ONCE]
                vectors, projections = self.embed_words(words, lengths[:rows, :cols] - t)
                embedded.append(vectors)
            if (images, columns) != size:
                size = (images, columns)
                state, memory = first_captions(state, *size), select_images(memory, slice(images))
            word = tuple(None if leaf is None else leaf[t % STEPS_AT_ONCE][:images, :columns] for leaf in projections)
            state, record, step_outputs = self.recurrent_step(memory, state, word)
            unfinished = lengths[:images, :columns] > t
            outputs.append([leaf[unfinished] for leaf in step_outputs])
            records.append(pad_captions(mask_record(record, unfinished), *lengths.shape))
        return torch.cat(embedded), [torch.cat(leaves) for leaves in zip(*outputs, strict=True)], records

    def embed_words(
        self, words: Int[Tensor, "images captions steps"], left: Int[Tensor, "images captions"]
    ) -> tuple[Float[Tensor, "unfinished embedding"], list[tuple[Tensor, ...] | None]]:
        """Embedded words, one step after another, and the projections of each step; each caption has `left` words to come."""
        embedded = self.drop(self.embedding(words))  # (images captions steps embedding)
        unfinished = left[..., None] > torch.arange(words.shape[2], device=left.device)
        projections = [None if leaf is None else leaf.unbind(2) for leaf in self.word_projections(embedded)]
        return embedded.permute(2, 0, 1, 3)[unfinished.permute(2, 0, 1)], projections


def unfinished_sizes(lengths: Int[Tensor, "images captions"], steps: int) -> list[tuple[int, int]]:
    """(images, captions per image) that are unfinished at each step, of sorted captions.

    Where there is no word at all, one step of one caption tells what a record holds.
    """
    step = torch.arange(steps, device=lengths.device)
    images, captions = ((lengths.amax(axis)[:, None] > step).sum(0).tolist() for axis in (1, 0))
    return [size for size in zip(images, captions, strict=True) if size[0]] or [(1, 1)]


def first_captions(record: Record, images: int, captions: int) -> Record:
    return map_tensors(lambda leaf: leaf[:images, :captions], record)


def pad_captions(record: Record, images: int, captions: int) -> Record:
    """The record with zeros behind it up to `images` and `captions`."""

    def pad(leaf: Tensor) -> Tensor:
        missing = [0, captions - leaf.shape[1], 0, images - leaf.shape[0]]
        return nn.functional.pad(leaf, [0, 0] * (leaf.dim() - 2) + missing)

    return map_tensors(pad, record)


def reset_embedding(embedding: nn.Embedding) -> None:
    """Small vectors, and zeros for padding."""
    nn.init.uniform_(embedding.weight, -0.1, 0.1)
    nn.init.zeros_(embedding.weight[0].detach())


def reset_gates(layer: nn.Linear, biased: nn.Linear, gates: int, open_gates: tuple[int, ...]) -> None:
    """The recurrent matrix of each gate, the first columns of `layer`, orthogonal; the biases zero, and one for open gates."""
    for gate in layer.weight.detach()[:, : layer.out_features // gates].chunk(gates):
        nn.init.orthogonal_(gate)
    nn.init.zeros_(biased.bias)
    for index in open_gates:
        nn.init.ones_(biased.bias.detach().chunk(gates)[index])


def sentinel_layers(attention: Attention, word_size: int, state_size: int, hidden_size: int) -> tuple[nn.Linear | None, nn.Linear | None]:
    """The parts of a sentinel's gate that read the word and the rest; none where attention has no sentinel.

    Raises: ArgumentError, `attention.sentinel_size` is not the decoder's hidden size.
    """
    if attention.sentinel_size is None:
        return None, None
    if attention.sentinel_size != hidden_size:
        raise ArgumentError(
            "attention.sentinel_size", f"is the size of the decoder's state, hidden_size={hidden_size} units, not {attention.sentinel_size}"
        )
    return nn.Linear(word_size, hidden_size), nn.Linear(state_size, hidden_size, bias=False)
