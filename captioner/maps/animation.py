"""The caption as moving pictures: first the photo, then a frame a word, its map over the photo and the word marked below."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from captioner.errors import ArgumentError
from captioner.files import write_whole
from captioner.maps.colours import Theme, theme_named
from captioner.maps.geometry import Box, scaled_box
from captioner.maps.lettering import direction, shortened, width_of, write
from captioner.maps.sheet import check_counts, heat_panels, percent

FORMATS: dict[str, dict[str, Any]] = {
    "gif": {"format": "GIF", "disposal": 1, "optimize": False},
    "webp": {"format": "WEBP", "quality": 82, "method": 2},
    "apng": {"format": "PNG", "compress_level": 3},
}
"""What Pillow is told, by the file's ending. GIF has 256 colours a frame, WebP is the smallest, APNG exact."""
LEAST = 280
"""Frames are no narrower than this many pixels, so that a caption can be read."""


def frames(
    image: Image.Image,
    words: Sequence[str],
    alphas: Float[np.ndarray, "words rows cols"],
    box: Box,
    *,
    probabilities: Sequence[float] | None = None,
    theme: str = "light",
    longest_side: int = 480,
) -> list[Image.Image]:
    """The photo with the whole caption, then a frame a word, all of one size. `longest_side`: of the photo, in pixels.

    Raises: ValueError, words, maps and numbers that do not count the same, an unknown theme, `longest_side` not positive.
    """
    colours = theme_named(theme)
    if longest_side < 1:
        raise ArgumentError("longest_side", f"is in pixels and positive, not {longest_side}")
    check_counts(len(words), probabilities=probabilities)
    scale = longest_side / max(image.size)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    photo = image.convert("RGB").resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    text = max(round(longest_side / 26), 14)
    width = max(size[0], LEAST)
    places, depth = _set(words, text, width - text)
    height = size[1] + round(depth + 1.1 * text + (0 if probabilities is None else 1.2 * text))
    panels = heat_panels(photo, alphas, scaled_box(box, image.size, size), len(words), theme)
    drawn = []
    for current, picture in enumerate([photo, *panels], -1):
        frame = Image.new("RGB", (width, height), colours.paper)
        frame.paste(picture, ((width - size[0]) // 2, 0))
        canvas = ImageDraw.Draw(frame)
        _say(canvas, words, places, size[1] + text, current, text, width - text, colours)
        if probabilities is not None and current >= 0:
            note = f"word {current + 1} of {len(words)}, {percent(probabilities[current])} sure"
            write(canvas, (text // 2, height - text // 2), note, round(0.8 * text), colours.quiet)
        drawn.append(frame)
    return drawn


def animated(pictures: Sequence[Image.Image], kind: str = "gif", seconds: float = 0.9) -> bytes:
    """Frames as a file's bytes, for ever from the beginning; the first and the last stay twice as long.

    Raises: ValueError, a kind that is not in FORMATS, no frame, `seconds` a frame not positive.
    """
    if kind not in FORMATS:
        raise ArgumentError("kind", f"is one of {', '.join(FORMATS)}, not {kind!r}")
    if not pictures or not seconds > 0:
        raise ValueError(f"an animation needs frames and a positive number of seconds for each, not {len(pictures)} and {seconds}")
    lasting = [round(1000 * seconds)] * len(pictures)
    lasting[0] = lasting[-1] = 2 * lasting[0]
    shown = [one.quantize(256, Image.Quantize.FASTOCTREE) for one in pictures] if kind == "gif" else list(pictures)
    target = io.BytesIO()
    shown[0].save(target, save_all=True, append_images=shown[1:], duration=lasting, loop=0, **FORMATS[kind])
    return target.getvalue()


def write_animation(path: Path | str, pictures: Sequence[Image.Image], seconds: float = 0.9) -> None:
    """Write the file, whole or not at all, as its ending says: .gif, .webp or .apng. Raises: ValueError, see `animated`."""
    path = Path(path)
    content = animated(pictures, path.suffix[1:].lower(), seconds)
    write_whole(path, content, durable=False)


def _set(words: Sequence[str], size: int, width: float) -> tuple[list[tuple[float, float]], float]:
    """Where each word's left end is, (across, down) on its baseline, broken into lines that are read in the caption's direction; and the
    height of them all."""
    mirrored = direction(" ".join(words)) == "rtl"
    across, down, space = 0.0, float(size), width_of(" ", size) + 6
    places = []
    for word in words:
        wide = min(width_of(word, size), width)
        if across and across + wide > width:
            across, down = 0.0, down + 1.6 * size
        places.append((width - across - wide if mirrored else across, down))
        across += wide + space
    return places, down


def _say(
    canvas: ImageDraw.ImageDraw,
    words: Sequence[str],
    places: Sequence[tuple[float, float]],
    top: int,
    current: int,
    size: int,
    width: float,
    colours: Theme,
) -> None:
    """The caption, its current word on a field of colour; words that are still to come are quiet. Before the first, all are said."""
    for number, (word, (across, down)) in enumerate(zip(words, places, strict=True)):
        left, line = across + size / 2, top + down - size / 2
        text = shortened(word, size, width)
        if number == current:
            field = (left - 4, line - 1.02 * size, left + width_of(text, size) + 4, line + 0.36 * size)
            canvas.rounded_rectangle(field, 4, fill=colours.accent)
        colour = colours.paper if number == current else colours.quiet if 0 <= current < number else colours.ink
        write(canvas, (left, line), text, size, colour)
