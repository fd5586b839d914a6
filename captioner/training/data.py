"""The Lightning data module: splits, transform and vocabulary -> loaders whose order and random crops depend on seed and epoch alone."""

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
from captioner.records import Batch
from captioner.training.accumulation import GroupedBatches
from captioner.vocabulary import Vocabulary

HELD_BYTES = 2**30
"""Sets that take less than this at the model's size are held in memory when nothing is said."""


class EpochSampler(Sampler[int]):
    """Tickets of one epoch, `epoch * items + index`, shuffled by (seed, epoch); each process draws its own share, filled up by repetition.

    A ticket tells a worker process the epoch as well as the item. `first`: only so many items, the first ones.
    """

    def __init__(self, items: int, seed: int, shuffle: bool, epoch: int = 0, first: int | None = None) -> None:
        self.items, self.seed, self.shuffle, self.epoch = items, seed, shuffle, epoch
        self.taken = items if first is None else min(first, items)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.taken // _processes()[1])

    def __iter__(self) -> Iterator[int]:
        order = list(range(self.taken))
        if self.shuffle:
            random.Random(f"order/{self.seed}/{self.epoch}").shuffle(order)
        rank, processes = _processes()
        share = itertools.islice(itertools.cycle(order), rank, len(self) * processes, processes)
        for index in share:
            yield self.epoch * self.items + index


class SeededBatches(Dataset[Batch]):
    """A data set asked by tickets: a batch's random numbers depend on seed, epoch and its first item, whichever process makes it."""

    def __init__(self, items: CaptionDataset, seed: int) -> None:
        self.items, self.seed = items, seed

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, ticket: int) -> Batch:
        return self.__getitems__([ticket])

    def __getitems__(self, tickets: Sequence[int]) -> Batch:
        with _random_numbers(f"batch/{self.seed}/{tickets[0]}"):
            return self.items.__getitems__([ticket % len(self.items) for ticket in tickets])


@contextmanager
def _random_numbers(seed: str) -> Iterator[None]:
    """Torch's numbers on the CPU follow `seed` inside and go on outside as if nothing had been drawn."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(random.Random(seed).getrandbits(63))
    try:
        yield
    finally:
        generator.set_state(state)


def _processes() -> tuple[int, int]:
    """(rank, how many) of the training processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class CaptioningData(LightningDataModule):
    """Loaders of the splits `train` and `val`.

    batch_size: images, each with all its captions (or `captions_per_image` of them, drawn anew each epoch).
    evaluation_batch_size: images; None, as batch_size.
    num_workers: processes that read images; None, none for what is held in memory and one a core less one elsewhere.
    hold_in_memory: images in eight bits at the model's size; None, where that takes less than a gibibyte and no crops are cut.
    boxes: of the training captions' words, for the batches' `box_targets`.
    features: regions computed beforehand, by split. validation_images: so many are validated, the first ones; None, all.
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
    ) -> None:
        super().__init__()
        self.boxes = boxes
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
        loader = self.loader("train", train=True, epoch=trainer.fit_loop.epoch_progress.current.processed if trainer else 0)
        if trainer is None or trainer.accumulate_grad_batches == 1:
            return loader
        return GroupedBatches(loader, lambda: (trainer.accumulate_grad_batches, trainer.num_training_batches))

    def train_batches(self) -> int:
        """Batches an epoch of this process."""
        return -(-len(EpochSampler(len(self.splits["train"]), self.seed, shuffle=True)) // self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self.loader("val", first=self.validation_images)

    def loader(self, split: str, train: bool = False, epoch: int = 0, first: int | None = None) -> DataLoader[Batch]:
        """Batches of a split, shuffled and made random where it is to train on."""
        captions = self.splits[split]
        held = self._held(captions, train)
        items = CaptionDataset(
            captions,
            self.vocabulary,
            self.transform,
            train=train,
            captions_per_image=self.captions_per_image if train else None,
            hold_in_memory=held,
            max_words=self.max_words if train else None,
            features=self.features.get(split),
            boxes=self.boxes if train else None,
        )
        workers = self.num_workers if self.num_workers is not None else _spare_cores()
        workers = 0 if self.num_workers is None and (held or split in self.features) else workers
        return DataLoader(
            SeededBatches(items, self.seed),
            batch_size=self.batch_size if train else self.evaluation_batch_size,
            sampler=EpochSampler(len(items), self.seed, shuffle=train, epoch=epoch, first=first),
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            worker_init_fn=_end_quietly,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _held(self, captions: CaptionSet, train: bool) -> bool:
        if self.hold_in_memory is not None:
            return self.hold_in_memory
        transform = self.transform
        crops = train and transform.augment and tuple(transform.crop_scale) != (1.0, 1.0)
        return not crops and len(captions) * 3 * transform.height * transform.width < HELD_BYTES


def _end_quietly(_: int) -> None:
    """A signal to the whole group of processes ends a worker too; torch would call that a failure, over the head of what ends the run."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def _spare_cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(8, cores - 1))
