"""Outlines of the kinds of objects, and how much of each pixel they cover."""

import math
from functools import cache, lru_cache

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from captioner.errors import ArgumentError

OVERSAMPLING = 4
"""Sub-pixels per pixel and axis, for smooth edges."""


def patch_side(side: float) -> int:
    """The side in pixels of a square that holds an object of `side` pixels at any allowed tilt, and its shadow."""
    return math.ceil(side * 1.25) + 6


@cache
def outline(kind: str) -> tuple[tuple[float, float], ...]:
    """Corners of the upright shape in a box from -0.5 to 0.5, y downwards.

    Raises: ArgumentError, unknown kind.
    """
    if kind == "circle":
        return tuple(_polar_point(0.5, 360 * i / 40) for i in range(40))
    if kind == "square":
        return ((-0.46, -0.46), (0.46, -0.46), (0.46, 0.46), (-0.46, 0.46))
    if kind == "triangle":
        return ((0.0, -0.5), (0.5, 0.46), (-0.5, 0.46))
    if kind == "star":
        return tuple(_polar_point(0.53 if i % 2 == 0 else 0.235, 36 * i - 90) for i in range(10))
    if kind == "heart":
        return _fit_to_box([_heart_point(2 * math.pi * i / 48) for i in range(48)])
    if kind == "cross":
        a, b = 0.5, 0.17
        return ((-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b))
    raise ArgumentError("kind", f"is one of the drawn shapes, not {kind!r}")


def _polar_point(radius: float, degrees: float) -> tuple[float, float]:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _heart_point(angle: float) -> tuple[float, float]:
    x = 16 * math.sin(angle) ** 3
    y = -(13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle))
    return x, y


def _fit_to_box(points: list[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Stretch to the box from -0.5 to 0.5."""
    corners = np.array(points)
    low, high = corners.min(0), corners.max(0)
    return tuple((float(x), float(y)) for x, y in (corners - low) / (high - low) - 0.5)


@lru_cache(16)  # a scene needs each twice: for the masks and for the picture
def coverage(kind: str, patch: int, x: float, y: float, side: float, tilt: float) -> Float[np.ndarray, "rows cols"]:
    """Share of each pixel of a `patch` x `patch` square that the shape covers, 0 to 1; centre, side in pixels, tilt in degrees."""
    canvas = Image.new("L", (patch * OVERSAMPLING,) * 2)
    cos, sin = math.cos(math.radians(tilt)) * side, math.sin(math.radians(tilt)) * side
    corners = [((x + cos * u - sin * v) * OVERSAMPLING, (y + sin * u + cos * v) * OVERSAMPLING) for u, v in outline(kind)]
    ImageDraw.Draw(canvas).polygon(corners, fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING), np.float32) / 255
