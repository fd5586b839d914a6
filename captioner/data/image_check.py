"""Every image of a split is looked at before anything is learnt from it."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from captioner.data.captions import CaptionSet
from captioner.data.images import UnreadableImageError, check_image
from captioner.errors import InputError
from captioner.progress import progress

log = logging.getLogger(__name__)

THREADS = 8
"""Files are looked at by so many at once: a disk on a network takes most of the time with waiting."""
AT_ONCE = 1024
NAMED = 3
"""So many of the images that are left out are named."""


def readable_images(captions: CaptionSet, split: str, missing: str | None = "error") -> CaptionSet:
    """The images that `check_image` finds readable, by their heads and ends, in a fraction of a millisecond each.

    missing: `error` refuses a split with an image that cannot be read; `skip` leaves such images out with a logged line; None refuses as
    `error` does, but does not speak of `data.missing`, which that kind of data does not have.
    Raises: InputError, an image cannot be read, or none can.
    """
    refused = {index: error for index, error in _looked_at(captions, split) if error is not None}
    if not refused:
        return captions
    first = next(iter(refused.values()))
    if missing != "skip" or len(refused) == len(captions):
        more = f" ({len(refused)} of {len(captions)} {split} images cannot be read)" if len(refused) > 1 else ""
        raise InputError(f"{first}{more}" + ("; data.missing=skip leaves such images out" if missing == "error" else ""))
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(error.kind for error in refused.values()).most_common())
    names = ", ".join(captions.names[index] for index in list(refused)[:NAMED]) + (", ..." if len(refused) > NAMED else "")
    log.warning("%d of %d %s images cannot be read and are left out (%s): %s", len(refused), len(captions), split, kinds, names)
    return captions.select([index for index in range(len(captions)) if index not in refused])


def _looked_at(captions: CaptionSet, split: str) -> Iterator[tuple[int, UnreadableImageError | None]]:
    """Each image's index, and why it cannot be read."""

    def look(index: int) -> tuple[int, UnreadableImageError | None]:
        try:
            check_image(captions.path(index))
        except UnreadableImageError as error:
            return index, error
        return index, None

    def looked() -> Iterator[tuple[int, UnreadableImageError | None]]:
        with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:  # threads put one another's filters of warnings back
            for first in range(0, len(captions), AT_ONCE):
                yield from pool.map(look, range(first, min(first + AT_ONCE, len(captions))))

    return progress(looked(), f"looking at the {split} images", len(captions))
