"""What a captioner and an ensemble share: captioning images, aligning sentences with images, and the captions that they give."""

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from captioner.attention.readout import attention_mode
from captioner.box import Box
from captioner.caption import Caption
from captioner.data.image_inputs import as_image, as_images
from captioner.data.images import original_size
from captioner.errors import ArgumentError, BrokenModelError, InputError
from captioner.maps.animation import frames, write_animation
from captioner.maps.heads import head_sheet
from captioner.maps.matrix import alignment_matrix
from captioner.maps.sheet import contact_sheet
from captioner.records import grid_size
from captioner.search.beam import BeamSearch
from captioner.search.hypotheses import SearchResult, StepFunction
from captioner.search.search import Search
from captioner.tokenizer import tokenize
from captioner.vocabulary import Vocabulary

Entry = TypeVar("Entry")
ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""What stands for an image: see `data.image_inputs.as_images`."""
SearchLike: TypeAlias = Search | Callable[..., SearchResult]
"""What is called as a `Search` is; a `Search` also turns the words of its constraints into ids."""
BROKEN = "the model's log-probabilities are not finite numbers: its training overflowed; train again with a lower optimizer.lr"


@dataclass
class DrawableCaption(Caption):
    """A caption that can draw itself. Raises, for every drawing: ValueError, the caption was made without its image."""

    alternatives: Sequence["DrawableCaption"] = ()

    def overlay(self, **options: Any) -> Image.Image:
        """The contact sheet: the image, then one heat map per word; `options` are those of `maps.sheet.contact_sheet`."""
        return contact_sheet(self.maps, **options)

    def matrix(self, **options: Any) -> Image.Image:
        """The alignment matrix, words by regions; `options` are those of `maps.matrix.alignment_matrix`."""
        return alignment_matrix(self.maps, **options)

    def heads(self, **options: Any) -> Image.Image:
        """One row per word and one column per head; `options` are those of `maps.heads.head_sheet`. Raises: ArgumentError, one head."""
        return head_sheet(self.maps, **options)

    def animation(self, path: str | Path, seconds: float = 0.9, **options: Any) -> None:
        """Write the walk through the words to a .gif, .webp or .apng; `options` are those of `maps.animation.frames`."""
        write_animation(path, frames(self.maps, **options), seconds)


FAMILIAR, UNFAMILIAR_SHARE = "familiar_log_prob", 0.05
"""The key of a model's configuration, and the share of validation images whose captions lie below its value."""


class SearchStart(NamedTuple):
    """Where a search over prepared images begins."""

    step: StepFunction
    state: Any
    images: int
    cells: Float[Tensor, "regions 2"]
    """The grid that the maps lie on."""


class TeacherForcedCaption(NamedTuple):
    """One sentence run over one image."""

    log_probs: Float[Tensor, " steps"]
    """log p of each word, then of `<end>`."""
    record: Any
    """A `StepRecord` whose leaves begin (steps, ...)."""
    cells: Float[Tensor, "regions 2"]


class BaseCaptioner(ABC):
    """One model or several that decode together. `search` is how captions are found where no other search is asked for."""

    vocabulary: Vocabulary
    search: Search

    @property
    def members(self) -> Sequence[Any]:
        """The models that decode together; of one captioner, itself."""
        return [self]

    @property
    def familiar_log_prob(self) -> float | None:
        """The mean of log p over the words that nearly all captions of validation images exceed; None where it was not measured.

        Images unlike those of the training tend to get less probable captions: a simple sign (Hendrycks and Gimpel 2017), and no proof.
        """
        value = self.members[0].config.get(FAMILIAR) if len(self.members) == 1 else None
        return value if isinstance(value, float) else None

    @abstractmethod
    def prepare(self, images: Sequence[Image.Image]) -> tuple[Any, tuple[Box, ...]]:
        """What `generate` takes of RGB images, and the pixels that their grids cover."""

    @abstractmethod
    def start(self, images: Any) -> SearchStart:
        """Encode prepared images."""

    @abstractmethod
    def teacher_force(self, images: Any, tokens: Sequence[str]) -> TeacherForcedCaption:
        """Run one sentence over one prepared image."""

    @torch.no_grad()
    def generate(self, images: Any, search: SearchLike | None = None) -> list[list[DrawableCaption]]:
        """Captions of each prepared image, free-running, the best first, without the image itself; `<unk>` is never generated.

        Raises: BrokenModelError, an image has no caption, or one without a probability.
        """
        start, vocabulary, search = self.start(images), self.vocabulary, search or self.search
        if isinstance(search, Search):
            search = search.within(vocabulary)
        forbidden = [vocabulary.pad, vocabulary.start, vocabulary.unknown]
        result = search(start.step, start.state, start.images, vocabulary.start, vocabulary.end, forbidden)
        return captions_from_result(result, vocabulary, start.cells)

    @overload
    def caption(  # type: ignore[overload-overlap]  # a path is a string, which is an iterable of strings
        self, images: ImageLike, beam: int | None = None, batch_size: int = 16, search: SearchLike | None = None
    ) -> DrawableCaption: ...

    @overload
    def caption(
        self, images: Iterable[ImageLike], beam: int | None = None, batch_size: int = 16, search: SearchLike | None = None
    ) -> list[DrawableCaption]: ...

    def caption(
        self, images: Any, beam: int | None = None, batch_size: int = 16, search: SearchLike | None = None
    ) -> DrawableCaption | list[DrawableCaption]:
        """Caption one image, or a list of images `batch_size` at a time. The model is set to evaluation.

        Captions are found by `search`; without it, by the model's search, or with `beam` by a beam search of that many beams with
        the other settings of the model's search. An image is a path, a PIL image, an array (height, width) or (height, width,
        channels), or a tensor (channels, height, width); an empty list gives an empty list.
        Raises: InputError, anything else by name, or a file that cannot be read.
        """
        self._set_to_evaluation()
        search = search or (self.search if beam is None else BeamSearch.like(self.search, beams=beam))
        opened, is_one = as_images(images)
        captions: list[DrawableCaption] = []
        for batch in batches(opened, batch_size):
            prepared, boxes = self.prepare(batch)
            of_images = self.generate(prepared, search)
            captions += [self.to_caption(*each) for each in zip(of_images, batch, boxes, strict=True)]
        if (least := self.familiar_log_prob) is not None:
            for caption in captions:
                caption.familiar = caption.mean_log_prob >= least
        return captions[0] if is_one else captions

    def align(self, image: Any, caption: str) -> DrawableCaption:
        """Where the model looks, and how likely it finds each word, when it is made to say `caption`; the score is the mean of log p.

        image: as `caption` takes it. Raises: InputError, no words, or an image that is none or cannot be read; BrokenModelError,
        the model gives the words no probability.
        """
        tokens = tokenize(caption)
        if not tokens:
            raise InputError(f"the caption {caption!r} holds no word")
        self._set_to_evaluation()
        opened = as_image(image)
        prepared, (box,) = self.prepare([opened])
        return self.to_caption([aligned_caption(tokens, self.teacher_force(prepared, tokens))], opened, box)

    @staticmethod
    def to_caption(captions: Sequence[DrawableCaption], image: Image.Image, box: Box) -> DrawableCaption:
        """The first caption of an image, with the others as its alternatives; `box` is in the pixels of the original image."""
        width, height = original_size(image)
        best, *others = [replace(caption, image=image, box=box, width=width, height=height) for caption in captions]
        best.alternatives = others
        return best

    def set_attention_mode(self, name: str) -> None:
        """How hard attention looks in evaluation from now on: "expectation", "argmax" or "sample" (torch's seed decides, and the batch).

        Raises: InputError, there is no hard attention; ArgumentError, another name.
        """
        mode = attention_mode(name)
        readouts = [readout for member in self.members for readout in member.sampling_readouts]
        if not readouts:
            raise InputError(f"this model's attention draws nothing: it has no mode {name}")
        for readout in readouts:
            readout.eval_mode = mode

    def _set_to_evaluation(self) -> None:
        for member in self.members:
            member.eval()


def aligned_caption(tokens: Sequence[str], forced: TeacherForcedCaption) -> DrawableCaption:
    """Raises: BrokenModelError, the model gives the words no probability."""
    *log_probs, end_log_prob = values = forced.log_probs.tolist()
    if any(map(math.isnan, values)):
        raise BrokenModelError(BROKEN)
    maps = {name: leaf[: len(tokens)] for name, leaf in maps_on_grid(forced.record, forced.cells).items()}
    return DrawableCaption(" ".join(tokens), list(tokens), sum(values), log_probs, end_log_prob, sum(values) / len(values), **maps)


def captions_from_result(result: SearchResult, vocabulary: Vocabulary, cells: Tensor) -> list[list[DrawableCaption]]:
    """What a search found, each image's best caption first, without the beams that found nothing.

    Raises: BrokenModelError, an image has no caption, or one without a probability.
    """
    record = None if result.record is None else maps_on_grid(result.record, cells)  # leaves (images beams steps ...)
    maps = record or {"alphas": np.zeros((*result.lengths.shape, 0, *grid_size(cells)), np.float32)}
    fields = (result.lengths, result.words, result.log_probs, result.end_log_prob, result.log_prob, result.score, result.satisfied)
    of_images: list[list[DrawableCaption]] = []
    for i, beams in enumerate(zip(*(field.tolist() for field in fields), strict=True)):
        captions = []
        for k, (length, ids, log_probs, end_log_prob, log_prob, score, satisfied) in enumerate(zip(*beams, strict=True)):
            if score != -math.inf:
                words = vocabulary.decode(ids[:length])
                numbers = (log_prob, log_probs[:length], end_log_prob, score)
                leaves = {name: leaf[i, k, :length].copy() for name, leaf in maps.items()}
                captions.append(DrawableCaption(" ".join(words), words, *numbers, satisfied=satisfied, **leaves))
        if not captions or math.isnan(captions[0].log_prob):
            raise BrokenModelError(BROKEN)
        of_images.append(captions)
    return of_images


def maps_on_grid(record: Any, cells: Tensor) -> dict[str, Any]:
    """What a `StepRecord` holds for captions, as float32 arrays; the regions of alphas become (rows, cols)."""
    leaves = {name: leaf for name in ("alphas", "gate", "sentinel", "head_alphas") if (leaf := getattr(record, name)) is not None}
    arrays = {name: leaf.float().cpu().numpy() for name, leaf in leaves.items()}
    grid = grid_size(cells)
    return {name: array.reshape(*array.shape[:-1], *grid) if "alphas" in name else array for name, array in arrays.items()}


def batches(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """Lists of `size`, the last one shorter. Raises: ArgumentError, size below 1."""
    if size < 1:
        raise ArgumentError("batch_size", f"is a number of images and at least 1, not {size}")
    remaining = iter(entries)
    while batch := list(islice(remaining, size)):
        yield batch
