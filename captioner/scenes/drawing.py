"""A scene's pixels: a muted, textured background; shaded shapes with a darker rim and a soft shadow."""

import colorsys
import random
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from captioner.scenes.layout import Scene, SceneObject, drawing_square, overlap
from captioner.scenes.shapes import coverage

COLOUR_VALUES = {
    "red": (214, 34, 40),
    "orange": (255, 136, 20),
    "yellow": (255, 226, 40),
    "green": (40, 160, 62),
    "blue": (36, 88, 214),
    "purple": (140, 56, 178),
    "white": (248, 248, 246),
    "black": (26, 26, 30),
}
"""RGB, 0 to 255; an object's shade differs from it by a few steps."""

SHADE, RIM, RIM_DARKNESS, SHADOW = 9, 0.84, 0.7, 0.3
"""The largest change of an object's shade (of 255); the share of its side that is its face; the rim's brightness; the shadow's strength."""

TEXTURES = ("noise", "stripes", "checks", "gradient", "dots", "weave")


def draw_scene(scene: Scene, rng: random.Random, image_size: int) -> UInt8[np.ndarray, "height width 3"]:
    pixels = background(rng, image_size)
    for item in scene.objects:
        _draw_object(pixels, item, rng)
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def _draw_object(pixels: Float[np.ndarray, "height width 3"], item: SceneObject, rng: random.Random) -> None:
    left, top, side = drawing_square(item, pixels.shape[0])
    whole = coverage(item.kind, side, item.x - left, item.y - top, item.side, item.tilt)
    face = coverage(item.kind, side, item.x - left, item.y - top, item.side * RIM, item.tilt)
    colour = np.array(COLOUR_VALUES[item.colour], np.float32) + rng.uniform(-SHADE, SHADE)
    light = (RIM_DARKNESS + (1.02 - RIM_DARKNESS) * face) * _lighting(side)
    on_image, on_patch = overlap(pixels.shape[0], side, left, top)
    shadow = np.zeros_like(whole)
    shadow[2:, 1:] = SHADOW * whole[:-2, :-1]
    part, alpha = pixels[on_image], whole[on_patch][..., None]
    part *= 1 - shadow[on_patch][..., None]
    part += alpha * (colour * light[on_patch][..., None] - part)


@cache
def _lighting(side: int) -> Float[np.ndarray, "rows cols"]:
    """Light from the upper left: a few percent brighter there, and darker on the opposite side."""
    line = np.linspace(0.04, -0.04, side, dtype=np.float32)
    return 1 + line[:, None] + line[None]


def background(rng: random.Random, image_size: int) -> Float[np.ndarray, "height width 3"]:
    """Two tones of one muted hue in a random texture, with a fine grain; luminance between black's and white's."""
    hue, saturation, middle, contrast = rng.random(), rng.uniform(0.04, 0.2), rng.uniform(0.48, 0.66), rng.uniform(0.03, 0.09)
    dark, bright = (
        np.array(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, middle + sign * contrast), np.float32) * 255
        for sign, turn in ((-1, 0.0), (1, rng.uniform(-0.08, 0.08)))
    )
    noise = np.random.default_rng(rng.getrandbits(63))
    pattern = _pattern(rng.choice(TEXTURES), rng, noise, image_size)
    grain = noise.integers(-4, 5, (image_size, image_size), np.int8)
    return dark + pattern[..., None] * (bright - dark) + grain[..., None]


@cache
def _axes(image_size: int) -> tuple[Float[np.ndarray, "rows cols"], Float[np.ndarray, "rows cols"]]:
    rows, columns = np.mgrid[:image_size, :image_size].astype(np.float32)
    return columns, rows


def _pattern(texture: str, rng: random.Random, noise: np.random.Generator, size: int) -> Float[np.ndarray, "height width"]:
    """The share of the bright tone, 0 to 1."""
    if texture == "noise":
        return 0.65 * _clouds(noise, rng.randint(4, 7), size) + 0.35 * _clouds(noise, rng.randint(14, 22), size)
    across, down = _axes(size)
    cos, sin = np.float32(np.cos(angle := rng.uniform(0, np.pi))), np.float32(np.sin(angle))
    u, v = cos * across + sin * down, cos * down - sin * across
    if texture == "gradient":
        return (u - u.min()) / np.ptp(u)
    period = rng.uniform(7, 17)
    wave = np.float32(2 * np.pi / period)
    if texture == "stripes":
        return np.clip(0.5 + 1.6 * np.sin(wave * u + rng.uniform(0, 6)), 0, 1)
    if texture == "checks":
        return np.clip(0.5 + 2.5 * np.sin(wave / 1.5 * u) * np.sin(wave / 1.5 * v), 0, 1)
    if texture == "dots":
        return np.clip(1.5 * (np.cos(wave * u) + np.cos(wave * v)) - 1.2, 0, 1)
    return 0.5 + 0.25 * (np.sin(wave * u) + np.sin(wave * v))


def _clouds(noise: np.random.Generator, cells: int, size: int) -> Float[np.ndarray, "height width"]:
    coarse = Image.fromarray(noise.random((cells, cells), np.float32))
    return np.clip(np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)
