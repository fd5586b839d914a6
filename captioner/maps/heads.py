"""Head by head: one row per word and one column per head, after a column with the mean that the contact sheet shows."""

import math

import numpy as np
from PIL import Image, ImageDraw

from captioner.box import scaled_box
from captioner.caption import WordMaps
from captioner.errors import ArgumentError
from captioner.maps.colours import find_theme
from captioner.maps.lettering import shorten, width_of, write
from captioner.maps.panels import heat_panels, resized_photo
from captioner.maps.sheet import percent

TEXT, SMALL, MARGIN, GAP = 16, 13, 24, 8


def head_sheet(maps: WordMaps, *, theme: str = "light", panel_width: int = 132) -> Image.Image:
    """Draw the sheet. Panels keep the photo's shape within a square of `panel_width` pixels.

    Raises: ArgumentError, the maps have no heads, an unknown theme.
    """
    colours = find_theme(theme)
    if maps.heads is None or not maps.heads.shape[1]:
        raise ArgumentError("maps", "have no heads: attention has one head, which the contact sheet shows")
    image, words, columns = maps.image, maps.words, 1 + maps.heads.shape[1]
    scale = panel_width / max(image.size)
    panel = max(round(image.width * scale), 16), max(round(image.height * scale), 16)
    photo = resized_photo(image, panel, Image.Resampling.LANCZOS)
    across, down = max(panel[0], 64) + GAP, max(panel[1], 2 * TEXT + GAP) + GAP
    left = MARGIN + math.ceil(max([panel[0], 80.0, *(min(width_of(word, TEXT), 180) for word in words)])) + 2 * GAP
    top = MARGIN + max(panel[1], SMALL + GAP) + GAP
    page = Image.new("RGB", (left + columns * across + MARGIN - GAP, top + len(words) * down + MARGIN - GAP), colours.background)
    canvas = ImageDraw.Draw(page)
    page.paste(photo, (MARGIN, MARGIN))
    for column in range(columns):
        write(canvas, (left + column * across, top - GAP), f"head {column}" if column else "mean", SMALL, colours.muted)
    alphas = np.concatenate([maps.heads.mean(1, keepdims=True), maps.heads], axis=1)  # (words, 1 + heads, rows, cols)
    panels = heat_panels(photo, alphas.reshape(-1, *alphas.shape[2:]), scaled_box(maps.box, image.size, panel), theme)
    for number, picture in enumerate(panels):
        row, column = divmod(number, columns)
        page.paste(picture, (left + column * across, top + row * down))
    for row, word in enumerate(words):
        baseline = top + row * down + TEXT
        write(canvas, (MARGIN, baseline), shorten(word, TEXT, left - MARGIN - GAP), TEXT, colours.text)
        if maps.probabilities is not None:
            write(canvas, (MARGIN, baseline + 20), percent(maps.probabilities[row]), SMALL, colours.muted)
    return page
