"""The Lightning data module: order and random crops depend only on seed and epoch."""

import itertools
import os
import random
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from captioner.data.boxes import WordBoxes
from captioner.data.cache import FeatureStore
from captioner.data.captions import CaptionSet
from captioner.data.dataset import CaptionDataset, collate
from captioner.data.transforms import Transform
from captioner.errors import ArgumentError
from captioner.processor import usable_cores
from captioner.records import Batch
from captioner.training.accumulation import GroupedBatches
from captioner.vocabulary import Vocabulary

MEMORY_BYTES = 2**30
"""Data sets that take less than this at the model's size are held in memory by default."""


class EpochSampler(Sampler[int]):
    """Yields the tickets of one epoch, `epoch * items + index`, shuffled by (seed, epoch).

    A ticket tells a worker process the epoch as well as the item. Every process yields its share;
    all shares are made equally long by repetition. first: the number of items, the first ones;
    None, all.
    """

    def __init__(self, items: int, seed: int, shuffle: bool, epoch: int = 0, first: int | None = None) -> None:
        self.items, self.seed, self.shuffle, self.epoch = items, seed, shuffle, epoch
        self.count = items if first is None else min(first, items)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // _rank_and_world_size()[1])

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.count))
        if self.shuffle:
            random.Random(f"order/{self.seed}/{self.epoch}").shuffle(order)
        rank, processes = _rank_and_world_size()
        for index in itertools.islice(itertools.cycle(order), rank, len(self) * processes, processes):
            yield self.epoch * self.items + index


class SeededBatches(Dataset[Batch]):
    """A data set indexed by tickets: a batch's random numbers depend on seed and first ticket
    only."""

    def __init__(self, items: CaptionDataset, seed: int) -> None:
        self.items, self.seed = items, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitems__(self, tickets: Sequence[int]) -> Batch:
        with _random_numbers(f"batch/{self.seed}/{tickets[0]}"):
            return self.items.__getitems__([ticket % len(self.items) for ticket in tickets])


@contextmanager
def _random_numbers(seed: str) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU follow `seed`; outside, they go on unchanged."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(random.Random(seed).getrandbits(63))
    try:
        yield
    finally:
        generator.set_state(state)


def _rank_and_world_size() -> tuple[int, int]:
    """Of the training processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class CaptioningData(LightningDataModule):
    """The loaders of the splits `train` and `val`.

    features: regions computed beforehand, by split.
    features_until: from this epoch on (the first is 0) images are read all the same, for the encoder
        learns; None, never.
    batch_size: images, each with all its captions (or `captions_per_image` of them, sampled again
        each epoch).
    evaluation_batch_size: images; None, as batch_size.
    num_workers: processes that read images; None, one per core but one, and none for data in
        memory.
    hold_in_memory: images in eight bits at the model's size; None, if that takes less than a
        gibibyte and no crops are cut.
    validation_images: the number of images that are validated, the first ones; None, all.
    boxes: of the training captions' words, for the batches' `box_targets`.
    Raises: ArgumentError, a size below 1.
    """

    def __init__(
        self,
        splits: Mapping[str, CaptionSet],
        vocabulary: Vocabulary,
        transform: Transform,
        features: Mapping[str, FeatureStore] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        evaluation_batch_size: int | None = None,
        captions_per_image: int | None = None,
        max_words: int | None = None,
        num_workers: int | None = None,
        hold_in_memory: bool | None = None,
        validation_images: int | None = None,
        boxes: WordBoxes | None = None,
        features_until: int | None = None,
    ) -> None:
        super().__init__()
        self.boxes, self.features_until = boxes, features_until
        counts = {"batch_size": batch_size, "evaluation_batch_size": evaluation_batch_size, "validation_images": validation_images}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise ArgumentError(name, f"is a number of images and at least 1, not {value}")
        if num_workers is not None and num_workers < 0:
            raise ArgumentError("num_workers", f"is a number of processes and not negative, not {num_workers}")
        self.splits, self.vocabulary, self.transform, self.features = splits, vocabulary, transform, features or {}
        self.seed, self.batch_size, self.evaluation_batch_size = seed, batch_size, evaluation_batch_size or batch_size
        self.captions_per_image, self.max_words = captions_per_image, max_words
        self.num_workers, self.hold_in_memory, self.validation_images = num_workers, hold_in_memory, validation_images

    def train_dataloader(self) -> DataLoader[Batch] | GroupedBatches:
        trainer: Any = self.trainer
        loader = self.loader("train", train=True, epoch=self.epoch())
        if trainer is None or trainer.accumulate_grad_batches == 1:
            return loader
        return GroupedBatches(loader, lambda: (trainer.accumulate_grad_batches, trainer.num_training_batches))

    def train_batches(self) -> int:
        """Batches per epoch of this process."""
        return -(-len(EpochSampler(len(self.splits["train"]), self.seed, shuffle=True)) // self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader("val", first=self.validation_images, epoch=self.epoch())

    def epoch(self) -> int:
        """The epoch that the trainer is in or begins with, from 0."""
        trainer: Any = self.trainer
        return trainer.fit_loop.epoch_progress.current.processed if trainer else 0

    def loader(self, split: str, train: bool = False, epoch: int = 0, first: int | None = None) -> DataLoader[Batch]:
        """Batches of a split; for training they are shuffled and transformed at random."""
        captions = self.splits[split]
        in_memory = self._holds_in_memory(captions, train)
        features = self.features.get(split) if self.features_until is None or epoch < self.features_until else None
        items = CaptionDataset(
            captions,
            self.vocabulary,
            self.transform,
            train=train,
            captions_per_image=self.captions_per_image if train else None,
            hold_in_memory=in_memory,
            max_words=self.max_words if train else None,
            features=features,
            boxes=self.boxes if train else None,
        )
        workers = self.num_workers
        if workers is None:
            workers = 0 if in_memory or features is not None else min(8, len(usable_cores()) - 1)
        return DataLoader(
            SeededBatches(items, self.seed),
            batch_size=self.batch_size if train else self.evaluation_batch_size,
            sampler=EpochSampler(len(items), self.seed, shuffle=train, epoch=epoch, first=first),
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_exit_on_sigterm,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _holds_in_memory(self, captions: CaptionSet, train: bool) -> bool:
        if self.hold_in_memory is not None:
            return self.hold_in_memory
        transform = self.transform
        random_crops = train and transform.augment and tuple(transform.crop_scale) != (1.0, 1.0)
        return not random_crops and len(captions) * 3 * transform.height * transform.width < MEMORY_BYTES


def _exit_on_sigterm(_: int) -> None:
    """A signal to the process group ends workers too; torch would report that as a failure."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
