"""Ids of images as data sets have them: whole numbers of any size, or strings."""

import re
from typing import Any

ImageId = int | float | str
"""As the file has it, which is how results give it back."""
ImageKey = int | str
"""What tells images apart."""

WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,4000})")


def image_key(image_id: Any) -> ImageKey | None:
    """`12`, `12.0` and `"12"` are one image; `"0012"` and `"a12"` are others. None: this is no id."""
    if isinstance(image_id, bool):
        return None
    if isinstance(image_id, int):
        return image_id
    if isinstance(image_id, float):
        return int(image_id) if image_id.is_integer() else None
    if isinstance(image_id, str) and image_id.strip():
        return int(image_id) if WHOLE.fullmatch(image_id) else image_id
    return None
