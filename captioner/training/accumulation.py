"""Accumulated gradients: a step of several batches equals the step of one large batch."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor
from torch.utils.data import DataLoader

from captioner.records import AccumulationShares, Batch, BoxTargets
from captioner.vocabulary import Vocabulary


class GroupedBatches:
    """The loader's batches, each with its shares of the group whose gradients are accumulated
    (`Batch.accumulation_shares`).

    A mean over the words of a group is the sum of its batches' means, each weighted by the batch's
    share of the words: the same number of images may have more or fewer words, and the last group
    of an epoch has fewer batches. So a whole group is read before its first batch is returned, and
    waits in memory. sizes: returns (batches per group, batches per epoch); called when an epoch
    begins. What depends on a batch as a whole still sees each batch alone: the statistics of batch
    norm, a baseline that moves after every batch.
    """

    def __init__(self, loader: DataLoader[Batch], sizes: Callable[[], tuple[int, int]]) -> None:
        self.loader, self.sizes = loader, sizes
        self.sampler = loader.sampler
        """Lightning sets its epoch."""

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        size, epoch = self.sizes()
        batches = itertools.islice(self.loader, epoch)
        while group := list(itertools.islice(batches, size)):
            yield from with_shares(group)


def ends_step(batch: Batch) -> bool:
    """Whether an optimizer step follows the batch, which is the last of its group."""
    return batch.accumulation_shares is None or batch.accumulation_shares.last


def with_shares(group: Sequence[Batch]) -> list[Batch]:
    """The same batches, each with its shares of the group's numbers; the share of nothing is 0."""
    counts = [count_targets(batch) for batch in group]
    totals = [max(1, sum(column)) for column in zip(*counts, strict=True)]
    batches = []
    for batch, row in zip(group, counts, strict=True):
        words, captions, box_targets = (count / total for count, total in zip(row, totals, strict=True))
        shares = AccumulationShares(words, captions, box_targets, last=batch is group[-1])
        batches.append(batch._replace(accumulation_shares=shares))
    return batches


def count_targets(batch: Batch) -> tuple[int, int, int]:
    """How many words, captions, and words with a visible box a batch has."""
    is_word = batch.captions[..., 1:] != Vocabulary.pad
    boxed = 0 if batch.box_targets is None else len(words_with_boxes(batch.box_targets, is_word))
    return int(is_word.sum()), int(is_word.any(-1).sum()), boxed


def words_with_boxes(box_targets: BoxTargets, is_word: Tensor) -> Tensor:
    """(image, caption, step) of each word that has a visible box, once per word."""
    left, top, right, bottom = box_targets.boxes.clamp(0, 1).unbind(1)
    words = box_targets.words[(right > left) & (bottom > top) & (box_targets.words[:, 2] < is_word.shape[2])]
    return words[is_word[words.unbind(1)]].unique(dim=0)
