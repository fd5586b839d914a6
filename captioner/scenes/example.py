"""One example of the drawn data set: a scene that captions can describe, its picture, its captions and its annotations."""

import io
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_masks

from captioner.scenes.drawing import draw_scene
from captioner.scenes.grammar import ATTEMPTS, write_caption
from captioner.scenes.layout import KINDS, Scene, sample_scene, scene_key, unseen_combinations

CAPTIONS = 5
"""Captions of each image."""


class Example(NamedTuple):
    """One scene, ready to be listed in the annotation files."""

    key: str
    captions: list[str]
    """Five that differ."""
    extra_caption: str
    """One more, which may repeat one of the five."""
    truth: dict[str, Any]
    annotations: list[dict[str, Any]]
    covered: float
    """The share of the image in the union of its objects' boxes."""


def file_name(split: str, index: int) -> str:
    return f"{split}_{index:06d}.png"


def draw_chunk(chunk: tuple[str, int, int], folder: Path, seed: int, image_size: int) -> list[Example]:
    """Draw the scenes of a chunk, (split, first index, number), as PNG files below `folder`; each scene has its own seed."""
    split, first, number = chunk
    unseen = unseen_combinations(seed)
    examples = []
    for index in range(first, first + number):
        rng = random.Random(f"{seed}/{split}/{index}")
        scene, captions = sample_captioned_scene(rng, split, unseen, image_size)
        picture = Image.fromarray(draw_scene(scene, rng, image_size))
        data = io.BytesIO()
        picture.save(data, "PNG", compress_level=1)
        (folder / split / file_name(split, index)).write_bytes(data.getvalue())
        examples.append(annotate(scene, captions, image_size))
    return examples


def sample_captioned_scene(rng: random.Random, split: str, unseen: frozenset[tuple[str, str]], image_size: int) -> tuple[Scene, list[str]]:
    """A scene for which enough captions exist, and its six captions."""
    while True:
        scene = sample_scene(rng, split, unseen, image_size)
        captions = write_captions(rng, scene, image_size)
        if captions is not None:
            return scene, captions


def write_captions(rng: random.Random, scene: Scene, image_size: int) -> list[str] | None:
    """Five captions that differ, and a sixth that may repeat one; None where the scene allows too few."""
    captions: list[str] = []
    for _ in range(ATTEMPTS):
        caption = write_caption(rng, scene, image_size)
        if caption is None:
            return None
        if len(captions) == CAPTIONS:
            return [*captions, caption]
        if caption not in captions:
            captions.append(caption)
    return None


def annotate(scene: Scene, captions: list[str], image_size: int) -> Example:
    """The example of a scene and its six captions: COCO annotations (box, area, run lengths), and the truth."""
    annotations, objects = [], []
    in_boxes = np.zeros((image_size, image_size), bool)
    codes = coco_masks.encode(np.asfortranarray(scene.masks.transpose(1, 2, 0).astype(np.uint8)))
    areas, boxes = coco_masks.area(codes).tolist(), coco_masks.toBbox(codes).astype(int).tolist()
    for depth, (item, code, area, box) in enumerate(zip(scene.objects, codes, areas, boxes, strict=True)):
        left, top, width, height = box
        in_boxes[top : top + height, left : left + width] = True
        annotations.append(
            {
                "category_id": KINDS.index(item.kind) + 1,
                "bbox": box,
                "area": area,
                "iscrowd": 0,
                "segmentation": {"size": code["size"], "counts": code["counts"].decode()},
                "attributes": {"colour": item.colour, "size": item.size},
            }
        )
        place = {"x": round(item.x, 2), "y": round(item.y, 2), "box": box, "depth": depth}
        objects.append({"kind": item.kind, "colour": item.colour, "size": item.size, **place})
    truth = {"width": image_size, "height": image_size, "objects": objects, "in_front": [list(pair) for pair in scene.in_front]}
    return Example(scene_key(scene.objects), captions[:CAPTIONS], captions[CAPTIONS], truth, annotations, float(in_boxes.mean()))
