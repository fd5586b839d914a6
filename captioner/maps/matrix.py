"""The alignment matrix: a row a word, a column a region, regions in reading order of the grid.

Source: Bahdanau et al. 2015, figure 3; there a column is a word of the other sentence and lightness is the weight itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from captioner.maps.colours import Theme, heat_colours, theme_named
from captioner.maps.geometry import Box
from captioner.maps.lettering import shortened, width_of, write
from captioner.maps.sheet import FULL_SCALE, check_counts, percent

CELL = (20, 24)
"""Width and height of a region's cell in pixels; narrower where the grid has many regions."""
WIDEST = 1400
"""The regions' columns are made narrower until they fit this many pixels, down to 3 pixels a region."""
TEXT, SMALL, MARGIN, SPACE = 16, 13, 24, 12
"""Pixels: sizes of letters, the border, and what lies between columns."""


@dataclass(frozen=True)
class Table:
    """Lengths in pixels. A block holds the columns of one row of the grid; left of `left` stand words, above `top` pictures."""

    cell: tuple[int, int]
    block: int
    """From the beginning of a block to the next: its cells and the line between blocks."""
    left: int
    top: int
    thumbnail: tuple[int, int]


def alignment_matrix(
    image: Image.Image,
    words: Sequence[str],
    alphas: Float[np.ndarray, "words rows cols"],
    box: Box,
    *,
    probabilities: Sequence[float] | None = None,
    sentinel: Sequence[float] | Float[np.ndarray, " words"] | None = None,
    theme: str = "light",
) -> Image.Image:
    """Draw the matrix; above each row of the grid stands what the model saw, with that row lit.
    `probabilities` and `sentinel` are a number in 0 to 1 a word, written beside.

    Colours are those of the contact sheet: each word's from zero to its own highest weight, or to FULL_SCALE times an even look where
    its map is flatter. Raises: ValueError, words, maps and numbers that do not count the same, an unknown theme.
    """
    colours = theme_named(theme)
    check_counts(len(words), alphas=alphas, probabilities=probabilities, sentinel=sentinel)
    rows, cols = alphas.shape[1:]
    table = _table(words, rows, cols, box)
    steps = cell_steps(alphas)
    right = table.left + rows * table.block + (SPACE + round(width_of("sentinel", SMALL)) if sentinel is not None else 0)
    extra = SPACE + round(width_of("<1 %", SMALL)) + 8 if probabilities is not None else 0
    explained = round(width_of("less", SMALL)) + 8 + 98 + round(width_of(_meaning(cols), SMALL))
    size = max(right + extra, table.left + explained) + MARGIN, table.top + len(words) * table.cell[1] + 3 * SPACE + SMALL
    page = Image.new("RGB", size, colours.paper)
    canvas = ImageDraw.Draw(page)
    _pictures(page, canvas, _lit_rows(image, box, rows, table.thumbnail, colours), table, len(words), colours)
    for number, word in enumerate(words):
        down = table.top + number * table.cell[1]
        for row in range(rows):
            _cells(page, steps[number, row * cols : (row + 1) * cols], (table.left + row * table.block, down), table.cell)
        line = down + table.cell[1] - 7
        if sentinel is not None:
            write(canvas, (right, line), f"{sentinel[number]:.2f}", SMALL, colours.quiet, "rs")
        write(canvas, (table.left - SPACE, line), shortened(word, TEXT, table.left - SPACE - MARGIN), TEXT, colours.ink, "rs")
        if probabilities is not None:
            write(canvas, (right + extra, line), percent(probabilities[number]), SMALL, colours.quiet, "rs")
    if sentinel is not None:
        write(canvas, (right, table.top - SPACE // 2), "sentinel", SMALL, colours.quiet, "rs")
    _explain(page, canvas, (table.left, page.height - SPACE - 4), cols, colours)
    return page


def _pictures(
    page: Image.Image, canvas: ImageDraw.ImageDraw, pictures: Sequence[Image.Image], table: Table, words: int, colours: Theme
) -> None:
    """Above each block of columns what the model saw, and lines between the blocks."""
    for row, picture in enumerate(pictures):
        spare = table.block - 2 - picture.width
        page.paste(picture, (table.left + row * table.block + spare // 2, table.top - SPACE // 2 - picture.height))
        if row:
            edge = table.left + row * table.block
            canvas.rectangle((edge - 2, table.top, edge - 1, table.top + words * table.cell[1] - 2), colours.quiet)


def cell_steps(alphas: Float[np.ndarray, "words rows cols"]) -> UInt8[np.ndarray, "words regions"]:
    """Weights as steps 0 to 255 of the colour scale, regions in reading order."""
    regions = np.nan_to_num(alphas.reshape(len(alphas), -1))
    full = np.maximum(regions.max(axis=1, initial=0.0), FULL_SCALE / max(regions.shape[1], 1))[:, None]
    return np.clip(regions / full * 255 + 0.5, 0, 255).astype(np.uint8)


def _table(words: Sequence[str], rows: int, cols: int, box: Box) -> Table:
    across = min(max((WIDEST // rows - 2) // cols, 3), CELL[0])
    block = cols * across + 2
    aspect = (box[2] - box[0]) / (box[3] - box[1])
    height = min(max(round((block - 2) / aspect), 8), 160)
    thumbnail = (max(min(round(height * aspect), block - 2), 4), height)
    left = MARGIN + round(max([60.0, *(min(width_of(word, TEXT), 200) for word in words)])) + SPACE
    return Table((across, CELL[1]), block, left, MARGIN + height + SPACE // 2, thumbnail)


def _lit_rows(image: Image.Image, box: Box, rows: int, size: tuple[int, int], colours: Theme) -> list[Image.Image]:
    """What the model saw, once a row of the grid, all but that row faded."""
    whole = image.convert("RGB").resize(size, Image.Resampling.LANCZOS, box, reducing_gap=2.0)
    faded = Image.blend(whole.convert("L").convert("RGB"), Image.new("RGB", size, colours.unseen), 0.7)
    pictures = []
    for row in range(rows):
        top, bottom = round(row * size[1] / rows), max(round((row + 1) * size[1] / rows), round(row * size[1] / rows) + 1)
        picture = faded.copy()
        picture.paste(whole.crop((0, top, size[0], bottom)), (0, top))
        ImageDraw.Draw(picture).rectangle((0, top, size[0] - 1, bottom - 1), outline=colours.accent)
        pictures.append(picture)
    return pictures


def _cells(page: Image.Image, steps: UInt8[np.ndarray, " columns"], at: tuple[int, int], cell: tuple[int, int]) -> None:
    """Cells side by side, with a pixel between them and the next word's."""
    strip = np.repeat(np.repeat(heat_colours()[steps][None], cell[1] - 1, axis=0), cell[0], axis=1)
    page.paste(Image.fromarray(strip), at)


def _explain(page: Image.Image, canvas: ImageDraw.ImageDraw, at: tuple[int, int], cols: int, colours: Theme) -> None:
    """Beneath the matrix: what the colours and the columns mean."""
    left, line = at
    write(canvas, (left, line), "less", SMALL, colours.quiet)
    left += round(width_of("less", SMALL)) + 8
    page.paste(Image.fromarray(heat_colours()[None]).resize((90, 8), Image.Resampling.BILINEAR), (left, line - 8))
    write(canvas, (left + 98, line), _meaning(cols), SMALL, colours.quiet)


def _meaning(cols: int) -> str:
    return f"more, of each word's own;   {cols} regions a row of the grid, lit above"
