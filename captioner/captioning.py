"""What a captioner and an ensemble share: the captions that they give."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.caption import Caption
from captioner.maps.animation import frames, write_animation
from captioner.maps.heads import head_sheet
from captioner.maps.matrix import alignment_matrix
from captioner.maps.sheet import contact_sheet


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
        """One row per word and one column per head; `options` are those of `maps.heads.head_sheet`.

        Raises: ValueError, attention has one head.
        """
        if self.head_alphas is None:
            raise ValueError("this model's attention has one head; overlay() shows it")
        return head_sheet(self.maps, **options)

    def animation(self, path: str | Path, seconds: float = 0.9, **options: Any) -> None:
        """Write the walk through the words to a .gif, .webp or .apng; `options` are those of `maps.animation.frames`."""
        write_animation(path, frames(self.maps, **options), seconds)
