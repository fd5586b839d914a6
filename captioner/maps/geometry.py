"""From cells of a grid to pixels of the original image, exact to below one pixel.

A grid of rows x cols equal cells covers `box` = (left, top, right, bottom) in original pixels, where pixel x spans [x, x + 1].
Cell (r, c) has its centre at left + (c + 1/2) (right - left) / cols, top + (r + 1/2) (bottom - top) / rows.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32

from captioner.box import Box


def heat_maps(alphas: Float[np.ndarray, "words rows cols"], box: Box, size: tuple[int, int]) -> Float32[np.ndarray, "words height width"]:
    """Interpolate maps over the pixels of an image of `size` (width, height), in the unit of alphas; zero outside the box.

        heat(x, y) = sum_rc  k(v - r) k(u - c) alphas_rc,    u = cols (x - left) / (right - left) - 1/2, v likewise

    with x, y at pixel centres and k the cubic B-spline: smooth, never negative, never above the largest alpha; a uniform map stays flat and
    a single cell peaks at its centre. It smooths: a single inner cell of weight 1 peaks at (2/3)^2. Beyond the centres of the
    outermost cells the value stays; up to there the grid counts as mirrored about them. Raises: ValueError, an empty grid, box or image.
    """
    width, height = size
    left, top, right, bottom = box
    down = axis_weights(top, bottom, alphas.shape[1], height)
    across = axis_weights(left, right, alphas.shape[2], width)
    return np.matmul(np.matmul(down, alphas.astype(np.float32)), across.T)


def inside_box(box: Box, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """True for the pixels of an image of `size` (width, height) whose centres lie in the box: those that the model saw."""
    width, height = size
    left, top, right, bottom = box
    return np.logical_and.outer(_inside(top, bottom, height), _inside(left, right, width))


def axis_weights(low: float, high: float, cells: int, pixels: int) -> Float32[np.ndarray, "pixels cells"]:
    """The weight of each of `cells` cells, which lie between `low` and `high`, at each pixel of a line.

    Rows sum to one inside the box and to zero outside it.
    """
    if cells < 1 or pixels < 1 or not high > low:
        raise ValueError(
            f"{cells} cells from {low} to {high} pixels cannot be drawn on a line of {pixels} pixels: none of them may be empty"
        )
    position = (np.arange(pixels) + 0.5 - low) / (high - low) * cells - 0.5
    position = np.clip(position, 0, cells - 1)
    taps = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)
    weights = np.zeros((pixels, cells), np.float32)
    np.add.at(weights, (np.arange(pixels)[:, None], _mirrored(taps, cells)), _cubic_b_spline(position[:, None] - taps))
    return weights * _inside(low, high, pixels)[:, None].astype(np.float32)


def _inside(low: float, high: float, pixels: int) -> Bool[np.ndarray, " pixels"]:
    centres = np.arange(pixels) + 0.5
    return (centres >= low) & (centres <= high)


def _mirrored(taps: np.ndarray, cells: int) -> np.ndarray:
    """Indices of cells beyond the border, mirrored about the border cells' centres: -1 is 1."""
    period = max(2 * (cells - 1), 1)
    folded = np.abs(taps) % period
    return np.minimum(folded, period - folded) if cells > 1 else np.zeros_like(folded)


def _cubic_b_spline(distance: np.ndarray) -> np.ndarray:
    far = np.abs(distance)
    near = 2 / 3 - far**2 + far**3 / 2
    return np.where(far < 1, near, np.clip(2 - far, 0, None) ** 3 / 6).astype(np.float32)
