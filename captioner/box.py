"""Boxes on images, in pixels. Standard library only."""

from typing import TypeAlias

Box: TypeAlias = tuple[float, float, float, float]
"""(left, top, right, bottom) in original pixels, after EXIF rotation."""
CocoBox: TypeAlias = tuple[float, float, float, float]
"""(x, y, width, height) in original pixels, as COCO writes a box."""


def scaled_box(box: Box, size: tuple[int, int], new_size: tuple[int, int]) -> Box:
    """The box on a copy of the image that was resized from `size` to `new_size`, both (width, height)."""
    across, down = new_size[0] / size[0], new_size[1] / size[1]
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down
