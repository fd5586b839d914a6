"""Head by head: a row a word, a column a head, beside the mean that the contact sheet shows."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from captioner.errors import ArgumentError
from captioner.maps.colours import theme_named
from captioner.maps.geometry import Box, scaled_box
from captioner.maps.lettering import shortened, width_of, write
from captioner.maps.sheet import check_counts, heat_panels, percent

TEXT, SMALL, MARGIN, GAP = 16, 13, 24, 8


def head_sheet(
    image: Image.Image,
    words: Sequence[str],
    head_alphas: Float[np.ndarray, "words heads rows cols"],
    box: Box,
    *,
    probabilities: Sequence[float] | None = None,
    theme: str = "light",
    panel_width: int = 132,
) -> Image.Image:
    """Draw the sheet; the first column is the mean of the heads. Panels keep the photo's shape within a square of `panel_width` pixels.

    Raises: ArgumentError, words, maps and numbers that do not count the same, no head, an unknown theme.
    """
    colours = theme_named(theme)
    heads = head_alphas.shape[1]
    check_counts(len(words), head_alphas=head_alphas, probabilities=probabilities)
    if heads < 1:
        raise ArgumentError("head_alphas", "hold no head")
    scale = panel_width / max(image.size)
    panel = max(round(image.width * scale), 16), max(round(image.height * scale), 16)
    photo = image.convert("RGB").resize(panel, Image.Resampling.LANCZOS, reducing_gap=2.0)
    across, down = max(panel[0], 64) + GAP, max(panel[1], 2 * TEXT + GAP) + GAP
    left = MARGIN + math.ceil(max([panel[0], 80.0, *(min(width_of(word, TEXT), 180) for word in words)])) + 2 * GAP
    top = MARGIN + max(panel[1], SMALL + GAP) + GAP
    page = Image.new("RGB", (left + (heads + 1) * across + MARGIN - GAP, top + len(words) * down + MARGIN - GAP), colours.paper)
    canvas = ImageDraw.Draw(page)
    page.paste(photo, (MARGIN, MARGIN))
    shown = np.concatenate([head_alphas.mean(1, keepdims=True), head_alphas], axis=1)
    for column in range(heads + 1):
        begin = left + column * across
        write(canvas, (begin, top - GAP), "mean" if column == 0 else f"head {column}", SMALL, colours.quiet)
        for number, picture in enumerate(heat_panels(photo, shown[:, column], scaled_box(box, image.size, panel), len(words), theme)):
            page.paste(picture, (begin, top + number * down))
    for number, word in enumerate(words):
        line = top + number * down + TEXT
        write(canvas, (MARGIN, line), shortened(word, TEXT, left - MARGIN - GAP), TEXT, colours.ink)
        if probabilities is not None:
            write(canvas, (MARGIN, line + 20), percent(probabilities[number]), SMALL, colours.quiet)
    return page
