"""Images with captions and the boxes of what their words name: COCO's instances, drawn scenes, or Flickr30k Entities."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from captioner.data.captions import CaptionSet, read_coco_captions, read_references
from captioner.data.entities import read_entities
from captioner.data.instances import Instance, read_instances_and_sizes
from captioner.data.object_words import PhraseFinder, category_phrases
from captioner.errors import InputError
from captioner.ids import ImageKey
from captioner.scenes.truth import names_in_scenes, read_scenes


class GroundingData(NamedTuple):
    """Images with captions, their objects, and which words name them."""

    captions: CaptionSet
    instances: Mapping[ImageKey, Sequence[Instance]]
    sizes: Mapping[ImageKey, tuple[int, int]]
    """(width, height) that the objects were marked at, where the file states it."""
    names: PhraseFinder
    missing: list[ImageKey]
    """Images that are listed and are not on disk."""


def read_grounding_data(
    annotations: Path, captions: Path, images: Path, scenes: Path | None, limit: int | None, warn: Callable[[str], object]
) -> GroundingData:
    """Read COCO captions and instances of the same images, and the truth of drawn scenes where it is given.

    `warn` gets a line for what is left out. Raises: InputError, a file is wrong, or the files are of different images.
    """
    caption_set = read_coco_captions(captions, images, missing="skip")
    instances, sizes = read_instances_and_sizes(annotations)
    listed = [index for index, key in enumerate(caption_set.keys) if key in instances]
    if not listed:
        raise InputError(f"{annotations}: lists none of the images of {captions}; give the instances of the same images")
    if len(listed) < len(caption_set):
        warn(f"{annotations}: does not list {len(caption_set) - len(listed)} of {len(caption_set)} images of {captions}; they are left out")
    chosen = caption_set.select(listed[:limit])
    on_disk = set(caption_set.keys)
    missing = [] if limit else [key for key in read_references(captions).captions if key not in on_disk]
    if scenes is None:
        return GroundingData(chosen, instances, sizes, category_phrases(instances), missing)
    _, truths = read_scenes(scenes)
    for image in chosen.keys:
        if image not in truths or len(truths[image]["objects"]) != len(instances[image]):
            raise InputError(f"{scenes}: is not of the images of {annotations} (image {image}); give the files of one split")
    return GroundingData(chosen, instances, sizes, names_in_scenes(scenes), missing)


def read_entity_data(entities: Path, captions: Path, images: Path, limit: int | None) -> GroundingData:
    """Read COCO captions and the boxes of their phrases in Flickr30k Entities. Raises: InputError, a file is wrong."""
    caption_set = read_coco_captions(captions, images, missing="skip")
    chosen = caption_set.select(range(len(caption_set))[:limit])
    described = read_entities(entities, chosen)
    known = [index for index, key in enumerate(chosen.keys) if key in described.instances]
    on_disk = set(caption_set.keys)
    missing = [] if limit else [key for key in read_references(captions).captions if key not in on_disk]
    return GroundingData(chosen.select(known), described.instances, described.sizes, described.names, missing)
