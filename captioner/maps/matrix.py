"""The alignment matrix: one row per word and one column per region, regions in reading order of the grid.

Source: Bahdanau et al. 2015, figure 3; there a column is a word of the other sentence and lightness is the weight itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from captioner.box import Box
from captioner.caption import WordMaps
from captioner.maps.colours import Theme, find_theme, heat_colours
from captioner.maps.lettering import shorten, width_of, write
from captioner.maps.panels import FULL_SCALE
from captioner.maps.sheet import percent

CELL = (20, 24)
"""Width and height of a region's cell in pixels; narrower where the grid has many regions."""
WIDEST = 1400
"""Columns become narrower until all of them fit this many pixels, down to 3 pixels per region."""
TEXT, SMALL, MARGIN, SPACE = 16, 13, 24, 12
"""Pixels: sizes of letters, the border, and what lies between columns."""


@dataclass(frozen=True)
class Table:
    """Lengths in pixels. A block holds the columns of one row of the grid; words stand left of `left`, pictures above `top`."""

    cell: tuple[int, int]
    block: int
    """From the beginning of a block to that of the next one: its cells and the line between blocks."""
    left: int
    top: int
    thumbnail: tuple[int, int]


def alignment_matrix(maps: WordMaps, *, theme: str = "light") -> Image.Image:
    """Draw the matrix. Above each row of the grid stands what the model saw, with that row lit; beside it each word's numbers.

    Colours are those of the contact sheet: from zero to the word's own highest weight, or to FULL_SCALE times a uniform map's
    weight where its map is flatter. Raises: ArgumentError, an unknown theme.
    """
    colours = find_theme(theme)
    words, sentinel, probabilities = maps.words, maps.sentinel, maps.probabilities
    rows, cols = maps.alphas.shape[1:]
    table = _table(words, rows, cols, maps.box)
    steps = cell_steps(maps.alphas)
    right = table.left + rows * table.block + (SPACE + round(width_of("sentinel", SMALL)) if sentinel is not None else 0)
    extra = SPACE + round(width_of("<1 %", SMALL)) + 8 if probabilities is not None else 0
    legend = round(width_of("less", SMALL)) + 8 + 98 + round(width_of(_legend(cols), SMALL))
    size = max(right + extra, table.left + legend) + MARGIN, table.top + len(words) * table.cell[1] + 3 * SPACE + SMALL
    page = Image.new("RGB", size, colours.background)
    canvas = ImageDraw.Draw(page)
    _draw_pictures(page, canvas, _lit_rows(maps.image, maps.box, rows, table.thumbnail, colours), table, len(words), colours)
    for number, word in enumerate(words):
        down = table.top + number * table.cell[1]
        for row in range(rows):
            _draw_cells(page, steps[number, row * cols : (row + 1) * cols], (table.left + row * table.block, down), table.cell)
        line = down + table.cell[1] - 7
        if sentinel is not None:
            write(canvas, (right, line), f"{sentinel[number]:.2f}", SMALL, colours.muted, "rs")
        write(canvas, (table.left - SPACE, line), shorten(word, TEXT, table.left - SPACE - MARGIN), TEXT, colours.text, "rs")
        if probabilities is not None:
            write(canvas, (right + extra, line), percent(probabilities[number]), SMALL, colours.muted, "rs")
    if sentinel is not None:
        write(canvas, (right, table.top - SPACE // 2), "sentinel", SMALL, colours.muted, "rs")
    _draw_legend(page, canvas, (table.left, page.height - SPACE - 4), cols, colours)
    return page


def _draw_pictures(
    page: Image.Image, canvas: ImageDraw.ImageDraw, pictures: Sequence[Image.Image], table: Table, words: int, colours: Theme
) -> None:
    """What the model saw above each block of columns, and lines between the blocks."""
    for row, picture in enumerate(pictures):
        spare = table.block - 2 - picture.width
        page.paste(picture, (table.left + row * table.block + spare // 2, table.top - SPACE // 2 - picture.height))
        if row:
            edge = table.left + row * table.block
            canvas.rectangle((edge - 2, table.top, edge - 1, table.top + words * table.cell[1] - 2), colours.muted)


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
    """What the model saw, one picture per row of the grid, in which all but that row is faded."""
    whole = image.convert("RGB").resize(size, Image.Resampling.LANCZOS, box, reducing_gap=2.0)
    faded = Image.blend(whole.convert("L").convert("RGB"), Image.new("RGB", size, colours.outside), 0.7)
    pictures = []
    for row in range(rows):
        top, bottom = round(row * size[1] / rows), max(round((row + 1) * size[1] / rows), round(row * size[1] / rows) + 1)
        picture = faded.copy()
        picture.paste(whole.crop((0, top, size[0], bottom)), (0, top))
        ImageDraw.Draw(picture).rectangle((0, top, size[0] - 1, bottom - 1), outline=colours.accent)
        pictures.append(picture)
    return pictures


def _draw_cells(page: Image.Image, steps: UInt8[np.ndarray, " columns"], at: tuple[int, int], cell: tuple[int, int]) -> None:
    """Cells side by side, with one pixel between them and those of the next word."""
    strip = np.repeat(np.repeat(heat_colours()[steps][None], cell[1] - 1, axis=0), cell[0], axis=1)
    page.paste(Image.fromarray(strip), at)


def _draw_legend(page: Image.Image, canvas: ImageDraw.ImageDraw, at: tuple[int, int], cols: int, colours: Theme) -> None:
    """What the colours and the columns mean, below the matrix."""
    left, line = at
    write(canvas, (left, line), "less", SMALL, colours.muted)
    left += round(width_of("less", SMALL)) + 8
    page.paste(Image.fromarray(heat_colours()[None]).resize((90, 8), Image.Resampling.BILINEAR), (left, line - 8))
    write(canvas, (left + 98, line), _legend(cols), SMALL, colours.muted)


def _legend(cols: int) -> str:
    return f"more, of each word's own;   {cols} regions a row of the grid, lit above"
