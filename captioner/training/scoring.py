"""Corpus scores of what validation says, whatever the number of batches and processes."""

import torch
from jaxtyping import Int
from torch import Tensor

from captioner.metrics.scores import Scorer, score


class CorpusScores:
    """Collects one caption an image id and scores them together; an id that a distributed sampler repeats is counted once.

    `references` are the captions of each image id of the split.
    """

    def __init__(self, references: dict[int, list[str]]) -> None:
        self.references = references
        self.captions: dict[int, str] = {}
        """Of the last pass, of all processes after `compute`."""
        self._scorer: Scorer | None = None

    def reset(self) -> None:
        self.captions = {}

    def update(self, image_ids: Int[Tensor, " images"], captions: list[str]) -> None:
        self.captions.update(zip(image_ids.tolist(), captions, strict=True))

    def compute(self) -> dict[str, float]:
        """BLEU-1 to BLEU-4, ROUGE-L, CIDEr as fractions, and `images`."""
        self.captions = dict(sorted(_gathered(self.captions).items()))
        if self.captions.keys() != self.references.keys():
            return score(self.captions, self.references)
        if self._scorer is None:
            self._scorer = Scorer(self.references)
        return self._scorer(self.captions)


def _gathered(captions: dict[int, str]) -> dict[int, str]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return captions
    parts: list[dict[int, str]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(parts, captions)
    return {image_id: caption for part in parts for image_id, caption in part.items()}
