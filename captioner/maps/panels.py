"""Heat panels: the photo under the map of each word."""

from functools import cache
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from captioner.box import Box, scaled_box
from captioner.caption import WordMaps
from captioner.maps.colours import Theme, find_theme, heat_colours
from captioner.maps.geometry import heat_maps, inside_box

FULL_SCALE = 4.0
"""A map's colour scale ends at its peak, but never below this many times the weight of a uniform map, which so stays dark."""
OPACITY = (0.10, 0.70)
"""How much of the heat's colour covers the faded photo, at nothing and at the end of the scale."""
FADE = (0.55, 0.66)
"""What is left of the photo's colour, and of its light, under a map."""
GROUP_PIXELS = 2**18
"""Pixels of maps that are interpolated at a time, which bounds the memory."""
Size: TypeAlias = tuple[int, int]
"""(width, height) in pixels."""


class HeatPanels:
    """The panels of one caption, which several drawings may share: each size is computed once."""

    def __init__(self, maps: WordMaps) -> None:
        self.maps = maps
        self._computed: dict[tuple[Size, str, Image.Resampling], list[Image.Image]] = {}

    def at(self, size: Size, theme: str = "light", enlarge: Image.Resampling = Image.Resampling.BICUBIC) -> list[Image.Image]:
        """The photo at `size`, then the photo under the map of each word. `enlarge` is the filter where the photo is smaller."""
        image = self.maps.image
        resampling = enlarge if image.width < size[0] else Image.Resampling.LANCZOS
        key = size, theme, resampling
        if key not in self._computed:
            photo = resized_photo(image, size, resampling)
            panels = heat_panels(photo, self.maps.alphas, scaled_box(self.maps.box, image.size, size), theme)
            self._computed[key] = [photo, *panels]
        return self._computed[key]


def resized_photo(image: Image.Image, size: Size, resampling: Image.Resampling) -> Image.Image:
    photo = image if image.mode == "RGB" else image.convert("RGB")
    return photo if photo.size == size else photo.resize(size, resampling, reducing_gap=2.0)


def heat_panels(photo: Image.Image, alphas: Float[np.ndarray, "words rows cols"], box: Box, theme: str = "light") -> list[Image.Image]:
    """The photo under each map; `box` is in the photo's own pixels. Raises: ArgumentError, an unknown theme."""
    covered, tints = _blending_tables()
    faded, outside = _faded_photo(photo, find_theme(theme), inside_box(box, photo.size))
    group = max(GROUP_PIXELS // (photo.width * photo.height), 1)
    panels = []
    for first in range(0, len(alphas), group):
        maps = alphas[first : first + group]
        for steps in colour_steps(heat_maps(maps, box, photo.size), maps.shape[1] * maps.shape[2]):
            panel = faded * covered[steps][..., None]
            panel += tints[steps]
            if outside is not None:
                np.copyto(panel, outside[0], where=outside[1])
            panels.append(Image.fromarray(panel.astype(np.uint8)))
    return panels


def colour_steps(maps: Float[np.ndarray, "words height width"], regions: int) -> UInt8[np.ndarray, "words height width"]:
    """Interpolated maps as steps 0 to 255 of the colour scale: each by its own peak, but no steeper than FULL_SCALE allows."""
    peaks = maps.max(axis=(1, 2), initial=0.0)
    return np.clip(maps * (255 / np.maximum(peaks, FULL_SCALE / regions))[:, None, None] + 0.5, 0, 255).astype(np.uint8)


def _faded_photo(
    photo: Image.Image, colours: Theme, inside: Bool[np.ndarray, "height width"]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """The photo as it lies under a map; and the grey pixels outside the box with their mask, or None where the box covers all."""
    pixels = np.asarray(photo, np.float32)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    colour, light = FADE
    faded = (pixels * colour + (grey * (1 - colour))[..., None]) * light + np.array(colours.veil, np.float32) * (1 - light)
    if inside.all():
        return faded, None
    outside = (grey * 0.22)[..., None] + np.array(colours.outside, np.float32) * 0.78
    return faded, (outside, ~inside[..., None])


@cache
def _blending_tables() -> tuple[np.ndarray, np.ndarray]:
    """For each step of the scale: the share of the photo that is left, and the heat's colour times its opacity (plus 1/2 for rounding)."""
    opacity = np.linspace(*OPACITY, 256).astype(np.float32)
    return 1 - opacity, heat_colours().astype(np.float32) * opacity[:, None] + 0.5
