"""Images opened a batch at a time, with a bound on what lies in memory."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image

from captioner.data.images import UnreadableImageError, open_image

Key = TypeVar("Key", bound=Hashable)

BATCH_PIXELS = 2**26
"""Of the images of a batch, 256 MiB: from here on it is full, be there fewer images in it than were asked for."""


def open_batches(
    keys: Iterable[Key], path_of: Callable[[Key], Path | str], size: int
) -> Iterator[tuple[dict[Key, Image.Image], dict[Key, UnreadableImageError]]]:
    """(opened, refused) of up to `size` keys at a time, in their order: RGB images, and why others cannot be read."""
    opened: dict[Key, Image.Image] = {}
    refused: dict[Key, UnreadableImageError] = {}
    for key in keys:
        try:
            opened[key] = open_image(path_of(key))
        except UnreadableImageError as error:
            refused[key] = error
        if len(opened) + len(refused) == size or sum(image.width * image.height for image in opened.values()) >= BATCH_PIXELS:
            yield opened, refused
            opened, refused = {}, {}
    if opened or refused:
        yield opened, refused
