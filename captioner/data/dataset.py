"""Batches of images with all their captions: one item an image, so that all captions are decoded against one encoder pass."""

import logging
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from captioner.data.boxes import WordBoxes
from captioner.data.cache import FeatureStore
from captioner.data.captions import CaptionSet
from captioner.data.images import UnreadableImageError, open_image
from captioner.data.transforms import Transform, Views, whole_views
from captioner.errors import ArgumentError, InputError
from captioner.progress import progress
from captioner.records import Batch, BoxTargets, Regions
from captioner.tokenizer import tokenize
from captioner.vocabulary import Vocabulary

log = logging.getLogger(__name__)


class CaptionDataset(Dataset[Batch]):
    """An item is a batch of one image; `collate` joins them. A DataLoader asks for whole batches (`__getitems__`), which is faster.

    captions: an image without captions gives a row of `<pad>`.
    captions_per_image: at most this many of an image's captions, drawn anew each time in training, the first ones elsewhere.
    max_words: longer captions are cut to this many words and `<end>`, with a warning; None cuts nothing. A batch takes
        as many steps of the decoder as its longest caption has words.
    hold_in_memory: keep each image in eight bits at the model's size after its first reading (bytes: images * 3 * height * width;
        each worker process would keep its own, so use num_workers=0). Training crops are then cut from the kept view.
    features: regions computed beforehand, in the order of `captions`; then images are not read at all, and a training batch is
        mirrored with the transform's probability where the store holds the mirrored view.
    boxes: of words that name objects, for the batch's `box_targets`.

    An image that can be read no longer is left out of its batch, with a warning the first time: what was trained so far is worth more.
    Raises: ArgumentError, an argument is not positive or the store has another number of images. InputError, by a batch of which no image
    can be read.
    """

    def __init__(
        self,
        captions: CaptionSet,
        vocabulary: Vocabulary,
        transform: Transform,
        train: bool = False,
        captions_per_image: int | None = None,
        hold_in_memory: bool = False,
        max_words: int | None = None,
        features: FeatureStore | None = None,
        boxes: WordBoxes | None = None,
    ) -> None:
        for name, value in (("captions_per_image", captions_per_image), ("max_words", max_words)):
            if value is not None and value < 1:
                raise ArgumentError(name, f"is a number and at least 1, or None, not {value}")
        if features is not None and len(features) != len(captions):
            raise ArgumentError("features", f"holds {len(features)} images, captions {len(captions)}")
        self.captions, self.vocabulary, self.transform, self.train = captions, vocabulary, transform, train
        self.captions_per_image, self.features, self.boxes = captions_per_image, features, boxes
        self._words, self._first = _encode(captions, vocabulary, max_words)
        self._held: UInt8[Tensor, "images 3 height width"] | None = None
        if hold_in_memory and features is None:
            self._held = torch.empty(len(captions), 3, transform.height, transform.width, dtype=torch.uint8)
        self._is_held = np.zeros(len(captions), dtype=bool)
        self._lost: set[int] = set()

    def __len__(self) -> int:
        return len(self.captions)

    def __getitem__(self, image: int) -> Batch:
        return self.__getitems__([image])

    def __getitems__(self, images: Sequence[int]) -> Batch:
        indices, pixels, views = self._images(np.asarray(images, dtype=np.int64))
        rows, there = self._rows(indices)
        captions = torch.from_numpy(self._gather(rows, there))
        box_targets = None if self.boxes is None else self.boxes.box_targets(rows, there, views)
        return Batch(pixels, captions, torch.from_numpy(indices), box_targets)

    def _images(
        self, indices: Int[np.ndarray, " images"]
    ) -> tuple[Int[np.ndarray, " readable"], Float[Tensor, "readable 3 height width"] | Regions, Views]:
        """Which of the images can be read, what the encoder takes of them, and what of the images that is."""
        if self.features is not None:
            mirrored = self.transform.random_flips(len(indices)) if self.train and self.features.views == 2 else None
            views = whole_views(len(indices))
            views = views if mirrored is None else views._replace(mirrored=mirrored)
            return indices, self.features.regions(indices, None if mirrored is None else mirrored.numpy()), views
        if self._held is None:
            opened = {place: image for place, index in enumerate(indices) if (image := self._open(int(index))) is not None}
            kept = self._some(indices, list(opened))
            pairs = [self._view(image) for image in opened.values()]
            views = Views(*(torch.cat(leaves) for leaves in zip(*(views for _, views in pairs), strict=True)))
            return kept, self.transform.normalise(torch.stack([pixels for pixels, _ in pairs])), views
        for index in indices[~self._is_held[indices]]:
            if not self._is_held[index] and (image := self._open(int(index))) is not None:
                self._held[index] = self.transform.pixels(image)[0]
                self._is_held[index] = True
        kept = self._some(indices, np.flatnonzero(self._is_held[indices]).tolist())
        pixels, views = self._held[torch.from_numpy(kept)], whole_views(len(kept))
        if self.train:
            pixels, views = self.transform.augmented_views(pixels)
        return kept, self.transform.normalise(pixels), views

    def _view(self, image: Image.Image) -> tuple[UInt8[Tensor, "3 height width"], Views]:
        return self.transform.training_view(image) if self.train else (self.transform.pixels(image)[0], whole_views(1))

    def _open(self, index: int) -> Image.Image | None:
        """The image; None, and a warning the first time, where it cannot be read."""
        try:
            return open_image(self.captions.path(index))
        except UnreadableImageError as error:
            if index not in self._lost:
                log.warning("%s; what goes on leaves it out", error)
            self._lost.add(index)
            return None

    def _some(self, indices: Int[np.ndarray, " images"], places: list[int]) -> Int[np.ndarray, " readable"]:
        if not places:
            raise InputError(f"{self.captions.path(int(indices[0]))}: none of the {len(indices)} images of a batch can be read any longer")
        return indices[places]

    def _rows(self, indices: Int[np.ndarray, " images"]) -> tuple[Int[np.ndarray, "images captions"], Bool[np.ndarray, "images captions"]]:
        """Which of all captions each place of the batch takes, and whether it takes one."""
        first = self.captions.first
        counts = first[indices + 1] - first[indices]
        if self.captions_per_image is not None:
            chosen = [self._choose(int(count)) for count in counts]
            counts = np.minimum(counts, self.captions_per_image)
        slots = np.arange(max(1, int(counts.max(initial=1))))
        rows = first[indices][:, None] + slots
        there = slots < counts[:, None]
        if self.captions_per_image is not None:
            for row, choice in enumerate(chosen):
                rows[row, : len(choice)] = first[indices[row]] + choice
        return np.where(there, rows, 0), there

    def _choose(self, count: int) -> Int[np.ndarray, " captions"]:
        wanted = min(count, self.captions_per_image or count)
        if not self.train or wanted == count:
            return np.arange(wanted)
        return torch.randperm(count)[:wanted].sort().values.numpy()

    def _gather(
        self, rows: Int[np.ndarray, "images captions"], there: Bool[np.ndarray, "images captions"]
    ) -> Int[np.ndarray, "images captions words"]:
        if len(self._first) == 1:
            return np.full((*rows.shape, 2), self.vocabulary.pad, dtype=np.int64)
        lengths = np.where(there, self._first[rows + 1] - self._first[rows], 0)
        steps = np.arange(max(2, int(lengths.max(initial=0))))
        spoken = steps < lengths[..., None]
        places = np.where(spoken, self._first[rows][..., None] + steps, 0)
        return np.where(spoken, self._words[places], self.vocabulary.pad).astype(np.int64)


def collate(items: Batch | Sequence[Batch]) -> Batch:
    """Join batches into one; missing words and captions become `<pad>`. A single batch is handed back."""
    if isinstance(items, Batch):
        return items
    captions = max(item.captions.shape[1] for item in items)
    words = max(item.captions.shape[2] for item in items)
    padded = [_pad(item.captions, captions, words) for item in items]
    images, ids = _join([item.images for item in items]), torch.cat([item.indices for item in items])
    return Batch(images, torch.cat(padded), ids, None if items[0].box_targets is None else _join_aims(items))


def _join_aims(items: Sequence[Batch]) -> BoxTargets:
    words, boxes, images = [], [], 0
    for item in items:
        assert item.box_targets is not None
        words.append(item.box_targets.words + torch.tensor([images, 0, 0]))
        boxes.append(item.box_targets.boxes)
        images += len(item.indices)
    return BoxTargets(torch.cat(words), torch.cat(boxes))


def _pad(captions: Int[Tensor, "images fewer shorter"], number: int, words: int) -> Int[Tensor, "images captions words"]:
    missing = (0, words - captions.shape[2], 0, number - captions.shape[1])
    return torch.nn.functional.pad(captions, missing, value=Vocabulary.pad)


def _join(images: list[Any]) -> Any:
    if isinstance(images[0], Regions):
        return Regions(torch.cat([regions.features for regions in images]), images[0].cells, None)
    return torch.cat(images)


def _encode(
    captions: CaptionSet, vocabulary: Vocabulary, max_words: int | None
) -> tuple[Int[np.ndarray, " words"], Int[np.ndarray, " captions_and_one"]]:
    words, first, lengths = array("i"), array("q", [0]), array("q")
    for caption in progress(captions.captions, "reading captions", unit="caption"):
        tokens = tokenize(caption)
        lengths.append(len(tokens))
        words.extend(vocabulary.encode(tokens[:max_words]))
        first.append(len(words))
    _warn_of_cut(captions, np.array(lengths, dtype=np.int64), max_words)
    return np.array(words, dtype=np.int32), np.array(first, dtype=np.int64)


def _warn_of_cut(captions: CaptionSet, lengths: Int[np.ndarray, " captions"], max_words: int | None) -> None:
    cut = 0 if max_words is None else int((lengths > max_words).sum())
    if cut:
        longest = int(lengths.argmax())
        image = captions.names[int(np.searchsorted(captions.first, longest, side="right")) - 1]
        log.warning(
            "%s of %s captions have more than data.max_words=%d words and are cut there; the longest, of %s, is one of %s",
            f"{cut:,}",
            f"{len(lengths):,}",
            max_words,
            f"{lengths[longest]:,}",
            image,
        )
