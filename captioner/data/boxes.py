"""Where the words of a set of captions should look: the boxes of the objects that they name, in what the model sees."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int
from PIL import ExifTags, Image

from captioner.box import Box
from captioner.data.captions import CaptionSet
from captioner.data.instances import Instance, fit_to_photo
from captioner.data.object_words import PhraseFinder
from captioner.data.transforms import Transform, Views
from captioner.errors import InputError
from captioner.ids import ImageKey
from captioner.progress import progress
from captioner.records import BoxTargets
from captioner.tokenizer import tokenize

log = logging.getLogger(__name__)


class WordBoxes:
    """A row a box of a word: every word of a phrase that names objects has the boxes of all that it may name.

    Boxes are kept in the view that `transform.box` names, and follow the random crops and mirrorings of a batch. Images that `instances`
    does not list have none. Boxes outside of what is seen are left out, and all of a photo that has another shape than the file says.
    max_words: as the data set's. Raises: InputError, an image without a size.
    """

    def __init__(
        self,
        captions: CaptionSet,
        instances: Mapping[ImageKey, Sequence[Instance]],
        sizes: Mapping[ImageKey, tuple[int, int]],
        names: PhraseFinder,
        transform: Transform,
        max_words: int | None = None,
    ) -> None:
        crops = transform.augment and tuple(transform.crop_scale) != (1.0, 1.0)
        steps, boxes, counts = [], [], []
        misfits: list[str] = []
        for index, image in enumerate(progress(captions.keys, "finding object words")):
            if image in instances and image not in sizes:
                raise InputError(f"the instances file says no width and height of image {image}, which boxes of words need")
            view = transform.box(*sizes[image]) if image in instances and fits(captions, index, sizes[image], misfits) else None
            for caption in captions.captions_of(index):
                rows = [] if view is None else list(_rows(names(image, tokenize(caption)), instances[image], view, max_words, crops))
                steps += [step for step, _ in rows]
                boxes += [box for _, box in rows]
                counts.append(len(rows))
        if misfits:
            log.warning("%s; the boxes of %d photos like this guide no word", misfits[0], len(misfits))
        self.steps = np.array(steps, np.int32)
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.first = np.cumsum([0, *counts], dtype=np.int64)

    def box_targets(
        self, rows: Int[np.ndarray, "images captions"], there: Bool[np.ndarray, "images captions"], views: Views | None = None
    ) -> BoxTargets:
        """Of a batch whose place (image, caption) takes caption `rows` of the set, where `there`; `views`: what is seen of the images."""
        counts = np.where(there, self.first[rows + 1] - self.first[rows], 0) if len(self.first) > 1 else np.zeros(rows.shape, int)
        image, caption = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(rows.shape))
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts.ravel(), counts.ravel())
        taken = within + (np.repeat(self.first[rows.ravel()], counts.ravel()) if len(within) else 0)
        words = np.stack([image, caption, self.steps[taken]], 1).astype(np.int64)
        targets = BoxTargets(torch.from_numpy(words), torch.from_numpy(self.boxes[taken]))
        return targets if views is None else seen(targets, views)


def seen(targets: BoxTargets, views: Views) -> BoxTargets:
    """The boxes in what is seen of each image, as shares of it; those that lie outside are left out."""
    image = targets.words[:, 0]
    left, top, right, bottom = views.boxes[image].unbind(1)
    corner, sides = torch.stack([left, top], 1), torch.stack([right - left, bottom - top], 1)
    boxes = (targets.boxes - corner.repeat(1, 2)) / sides.repeat(1, 2)
    first, upper, last, lower = boxes.unbind(1)
    mirrored = torch.stack([1 - last, upper, 1 - first, lower], 1)
    boxes = torch.where(views.mirrored[image, None], mirrored, boxes)
    inside = (boxes[:, 2:].amin(1) > 0) & (boxes[:, :2].amax(1) < 1)
    return BoxTargets(targets.words[inside], boxes[inside])


def fits(captions: CaptionSet, index: int, told: tuple[int, int], misfits: list[str]) -> bool:
    """Whether boxes marked on an image of this size lie right on the photo as it is, at whatever scale; where not, it is noted."""
    size = upright_size(captions.path(index))
    try:
        fit_to_photo([], told, size or told)
    except InputError as error:
        misfits.append(f"{captions.names[index]}: {error}")
        return False
    return True


def upright_size(path: Path) -> tuple[int, int] | None:
    """(width, height) as the image is looked at, from the beginning of the file; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except Exception:  # damaged files are named where they are read
        return None


def _rows(
    phrases: Sequence[tuple[int, int, str, list[int]]],
    things: Sequence[Instance],
    view: Box,
    max_words: int | None,
    outside: bool,
) -> list[tuple[int, Box]]:
    """(step, box) of each word and each of its objects that can be seen in the view, or with `outside` anywhere."""
    left, top, right, bottom = view
    found = []
    for first, stop, _, objects in phrases:
        for index in objects:
            x, y, width, height = things[index].box
            across, down = right - left, bottom - top
            box = (x - left) / across, (y - top) / down, (x + width - left) / across, (y + height - top) / down
            if outside or (min(box[2:]) > 0 and max(box[:2]) < 1):
                found += [(step, box) for step in range(first, stop) if max_words is None or step < max_words]
    return found
