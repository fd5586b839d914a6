"""Corpus scores as a torchmetrics `Metric`: any number of batches and processes, no image counted twice."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from captioner.errors import ArgumentError
from captioner.ids import ImageId
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.scores import METRICS, Scorer, check_metrics, score


class CorpusScores(Metric):
    """Collects one caption an image id and scores them all together; an id that comes again (a distributed sampler repeats images to
    fill its batches) is counted once, with what was said last.

    `references`: the captions of each image id, known beforehand; left out, each update brings those of its images. Scored are the
    images that have a caption. `metrics`, `frequencies`: as `Scorer` takes them. Further arguments are torchmetrics' own.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = True

    def __init__(
        self,
        references: Mapping[Any, Sequence[str]] | None = None,
        metrics: Sequence[str] = METRICS,
        frequencies: DocumentFrequencies | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dist_sync_fn": gather_letters, **kwargs})
        self.references, self.metrics, self.frequencies = references, check_metrics(metrics), frequencies
        self.captions: dict[ImageId, str] = {}
        """What was scored last, of all processes, by image id."""
        self._ids = list(references or ())
        self._scorer: Scorer | None = None
        self.letters: Tensor
        self.add_state("letters", torch.empty(0, dtype=torch.uint8), dist_reduce_fx=single_row)

    def ids(self, indices: Int[Tensor, " images"]) -> list[ImageId]:
        """Of the images that stand at these places among the references."""
        known = self._ids
        return [known[index] for index in indices.tolist()]

    def update(
        self,
        image_ids: Sequence[ImageId],
        captions: Sequence[str],
        references: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Raises: ArgumentError, lengths differ, or references are given at construction and here, or at neither."""
        if (references is None) == (self.references is None):
            raise ArgumentError("references", "are given either to CorpusScores or to each update")
        texts = [None] * len(image_ids) if references is None else [list(of_image) for of_image in references]
        lines = [json.dumps(entry) + "\n" for entry in zip(image_ids, captions, texts, strict=True)]
        fresh = torch.frombuffer(bytearray("".join(lines).encode()), dtype=torch.uint8) if lines else torch.empty(0, dtype=torch.uint8)
        self.letters = torch.cat([self.letters, fresh.to(self.letters.device)])

    def compute(self) -> dict[str, float]:
        """Corpus scores as `Scorer` gives them, as fractions, and `images`."""
        lines = bytes(self.letters.cpu().numpy()).decode().splitlines()
        entries = sorted(
            {entry[0]: entry for entry in map(json.loads, lines)}.values(), key=lambda entry: (isinstance(entry[0], str), entry[0])
        )
        self.captions = {image_id: caption for image_id, caption, _ in entries}
        references = self.references
        if references is None:
            return score(self.captions, {image_id: texts for image_id, _, texts in entries}, self.metrics, self.frequencies)
        if self.captions.keys() != references.keys():
            return score(self.captions, references, self.metrics, self.frequencies)
        if self._scorer is None:
            self._scorer = Scorer(references, self.metrics, self.frequencies)
        return self._scorer(self.captions)


def gather_letters(letters: UInt8[Tensor, " letters"], group: Any = None) -> list[Tensor]:
    """Of all processes, one after the other, as one tensor: torchmetrics would stack them, and they are not equally long."""
    return [torch.cat(gather_all_tensors(letters, group))]


def single_row(stacked: UInt8[Tensor, "1 letters"]) -> UInt8[Tensor, " letters"]:
    return stacked[0]
