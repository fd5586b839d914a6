"""Gradients of several batches accumulated, so that one step is the step of one large batch of all their images."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader

from captioner.records import Batch, BoxTargets, Shares
from captioner.vocabulary import Vocabulary


class GroupedBatches:
    """The loader's batches, each with its shares of the group whose gradients are accumulated (`Batch.shares`).

    A mean over the words of a group is the sum of its batches' means, each weighed by the batch's share of the words: the same number of
    images may say more or fewer words, and the last group of an epoch has fewer batches. So a group is read before its first batch is
    handed out, and waits in memory. `sizes`: (batches a group, batches an epoch), asked when an epoch begins.
    What depends on a batch as a whole still sees each alone: statistics of batch norm, a baseline that moves after every batch.
    """

    def __init__(self, loader: DataLoader[Batch], sizes: Callable[[], tuple[int, int]]) -> None:
        self.loader, self.sizes = loader, sizes
        self.sampler = loader.sampler
        """Lightning tells it the epoch."""

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        size, epoch = self.sizes()
        batches = itertools.islice(self.loader, epoch)
        while group := list(itertools.islice(batches, size)):
            yield from shared(group)


def shared(group: Sequence[Batch]) -> list[Batch]:
    """The same batches, each with its shares of all of them; of what none has, the share is 0."""
    counts = [counted(batch) for batch in group]
    totals = [max(1, sum(column)) for column in zip(*counts, strict=True)]
    found = []
    for batch, own in zip(group, counts, strict=True):
        words, captions, box_targets = (count / total for count, total in zip(own, totals, strict=True))
        found.append(batch._replace(shares=Shares(words, captions, box_targets, last=batch is group[-1])))
    return found


def counted(batch: Batch) -> tuple[int, int, int]:
    """How many words, captions, and words that a box in sight belongs to a batch has."""
    spoken = batch.captions[..., 1:] != Vocabulary.pad
    aimed = 0 if batch.box_targets is None else len(aimed_words(batch.box_targets, spoken))
    return int(spoken.sum()), int(spoken.any(-1).sum()), aimed


def aimed_words(box_targets: BoxTargets, spoken: Tensor) -> Tensor:
    """(image, caption, step) of each word that a box in sight belongs to, once."""
    left, top, right, bottom = box_targets.boxes.clamp(0, 1).unbind(1)
    words = box_targets.words[(right > left) & (bottom > top) & (box_targets.words[:, 2] < spoken.shape[2])]
    return words[spoken[words.unbind(1)]].unique(dim=0)
