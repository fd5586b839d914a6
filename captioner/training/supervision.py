"""Boxes for an objective that guides the maps of object words."""

import logging

from captioner.data.boxes import WordBoxes
from captioner.data.captions import CaptionSet
from captioner.data.entities import read_entities
from captioner.data.instances import read_instances_and_sizes
from captioner.data.object_words import category_phrases
from captioner.data.source import DataSource
from captioner.data.transforms import Transform
from captioner.errors import InputError
from captioner.scenes.truth import names_in_scenes

log = logging.getLogger(__name__)


def check_boxes(source: DataSource) -> None:
    """Raises: InputError, the data set has no boxes of its training images."""
    if "train" not in source.instances and "train" not in source.entities:
        raise InputError(
            "objective.terms.supervised: this data set has no boxes; it takes data=scenes, data=coco with instances_train*.json beside the "
            "captions, or data=captions with data.train.instances=FILE or data.train.entities=PATH"
        )


def training_boxes(source: DataSource, captions: CaptionSet, transform: Transform, max_words: int | None) -> WordBoxes:
    """Boxes of the training captions' words: of the drawn objects in scenes, of phrases in Flickr30k Entities, else of COCO's categories.

    Raises: InputError, as `check_boxes`; or no box fits a word.
    """
    check_boxes(source)
    if "train" in source.entities:
        path = source.entities["train"]
        instances, sizes, names = read_entities(path, captions)
    else:
        path = source.instances["train"]
        instances, sizes = read_instances_and_sizes(path)
        names = names_in_scenes(source.scenes["train"]) if "train" in source.scenes else category_phrases(instances)
    boxes = WordBoxes(captions, instances, sizes, names, transform, max_words)
    if not len(boxes.boxes):
        raise InputError(f"{path}: no word of the training captions names an object that this file has in its image")
    guided = int((boxes.first[1:] > boxes.first[:-1]).sum())
    log.info("boxes guide the words of %s of %s training captions", f"{guided:,}", f"{len(captions.captions):,}")
    return boxes
