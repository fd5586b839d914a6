"""A perceptually even colour map, and the two themes of sheets and pages."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8

from captioner.errors import ArgumentError

ANCHORS = ("#1d0f45", "#4b1173", "#7f1f78", "#b33066", "#df4b49", "#f4772e", "#fba51f", "#f8d550", "#fcfcc0")
"""Night, violet, red, orange, straw: the hues of heat from nothing to most; the lightness between them rises evenly."""

_TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
)
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]]
)


@dataclass(frozen=True)
class Theme:
    """Colours as (red, green, blue), 0 to 255; a photo fades towards `veil` under a map, and towards `outside` where no map lies."""

    background: tuple[int, int, int]
    text: tuple[int, int, int]
    muted: tuple[int, int, int]
    line: tuple[int, int, int]
    accent: tuple[int, int, int]
    veil: tuple[int, int, int]
    outside: tuple[int, int, int]


THEMES = {
    "light": Theme((252, 252, 250), (28, 27, 34), (112, 110, 122), (226, 225, 222), (179, 48, 102), (30, 22, 46), (206, 205, 203)),
    "dark": Theme((19, 18, 24), (238, 236, 242), (154, 151, 166), (50, 48, 60), (251, 165, 31), (22, 16, 36), (58, 57, 64)),
}


def to_oklab(colours: Float[np.ndarray, "*lead 3"]) -> Float[np.ndarray, "*lead 3"]:
    """sRGB in 0 to 1 -> OKLab (lightness 0 to 1, a, b), where equal distances look about equal. Source: Ottosson 2020."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


def from_oklab(lab: Float[np.ndarray, "*lead 3"]) -> Float[np.ndarray, "*lead 3"]:
    """OKLab -> sRGB in 0 to 1, clipped to what a screen can show."""
    linear = (lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


@cache
def heat_colours() -> UInt8[np.ndarray, "256 3"]:
    """The colour map: 256 even steps of lightness from the first anchor to the last; hue and chroma are interpolated."""
    anchors = to_oklab(np.array([[int(text[start : start + 2], 16) / 255 for start in (1, 3, 5)] for text in ANCHORS]))
    lightness = np.linspace(anchors[0, 0], anchors[-1, 0], 256)
    tints = [np.interp(lightness, anchors[:, 0], anchors[:, axis]) for axis in (1, 2)]
    smooth = [np.convolve(np.pad(tint, 12, mode="edge"), np.ones(25) / 25, mode="valid") for tint in tints]
    return np.round(from_oklab(np.stack([lightness, *smooth], axis=1)) * 255).astype(np.uint8)


def find_theme(name: str) -> Theme:
    """Raises: ArgumentError, no such theme."""
    if name not in THEMES:
        raise ArgumentError("theme", f"is one of {', '.join(THEMES)}, not {name!r}")
    return THEMES[name]
