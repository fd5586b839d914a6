"""The caption as an animation: first the photo, then one frame per word, with its map over the photo and the word marked below."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from captioner.atomic_files import write_atomically
from captioner.caption import WordMaps
from captioner.errors import ArgumentError
from captioner.maps.colours import Theme, find_theme
from captioner.maps.lettering import direction, shorten, width_of, write
from captioner.maps.panels import HeatPanels
from captioner.maps.sheet import percent

FORMATS: dict[str, dict[str, Any]] = {
    "gif": {"format": "GIF", "disposal": 1, "optimize": False},
    "webp": {"format": "WEBP", "quality": 82, "method": 2},
    "apng": {"format": "PNG", "compress_level": 3},
}
"""Pillow's options by the ending of the file. GIF has 256 colours per frame, WebP is the smallest, APNG is exact."""
MINIMUM_WIDTH = 280
"""Of frames, in pixels, so that a caption can be read."""


class PlacedWord(NamedTuple):
    """A word with the left end of its baseline, in pixels from the upper left corner of the text."""

    text: str
    across: float
    down: float


def frames(maps: WordMaps, *, panels: HeatPanels | None = None, theme: str = "light", longest_side: int = 480) -> list[Image.Image]:
    """The photo with the whole caption, then one frame per word, all of one size. `longest_side` is of the photo, in pixels;
    `panels` are those of `maps`, where other drawings share them.

    Raises: ArgumentError, an unknown theme, `longest_side` not positive.
    """
    colours = find_theme(theme)
    if longest_side < 1:
        raise ArgumentError("longest_side", f"is in pixels and positive, not {longest_side}")
    image, words = maps.image, maps.words
    scale = longest_side / max(image.size)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    text = max(round(longest_side / 26), 14)
    width = max(size[0], MINIMUM_WIDTH)
    placed = _place_words(words, text, width - text)
    depth = max([float(text), *(word.down for word in placed)])
    height = size[1] + round(depth + 1.1 * text + (0 if maps.probabilities is None else 1.2 * text))
    pictures = (panels or HeatPanels(maps)).at(size, theme, enlarge=Image.Resampling.LANCZOS)
    drawn = []
    for current, picture in enumerate(pictures, -1):
        frame = Image.new("RGB", (width, height), colours.background)
        frame.paste(picture, ((width - size[0]) // 2, 0))
        canvas = ImageDraw.Draw(frame)
        _draw_words(canvas, placed, size[1] + text, current, text, colours)
        if maps.probabilities is not None and current >= 0:
            note = f"word {current + 1} of {len(words)}, {percent(maps.probabilities[current])} sure"
            write(canvas, (text // 2, height - text // 2), note, round(0.8 * text), colours.muted)
        drawn.append(frame)
    return drawn


def encode_animation(pictures: Sequence[Image.Image], kind: str = "gif", seconds: float = 0.9) -> bytes:
    """The bytes of a file that repeats the frames for ever; the first and the last one stay twice as long as `seconds`.

    Raises: ValueError, a kind that is not in FORMATS, no frame, `seconds` not positive.
    """
    if kind not in FORMATS:
        raise ArgumentError("kind", f"is one of {', '.join(FORMATS)}, not {kind!r}")
    if not pictures or not seconds > 0:
        raise ValueError(f"an animation needs frames and a positive number of seconds for each, not {len(pictures)} and {seconds}")
    durations = [round(1000 * seconds)] * len(pictures)
    durations[0] = durations[-1] = 2 * durations[0]
    first, *others = [one.quantize(256, Image.Quantize.FASTOCTREE) for one in pictures] if kind == "gif" else pictures
    target = io.BytesIO()
    first.save(target, save_all=True, append_images=others, duration=durations, loop=0, **FORMATS[kind])
    return target.getvalue()


def write_animation(path: Path | str, pictures: Sequence[Image.Image], seconds: float = 0.9) -> None:
    """Write the file, whole or not at all, as its ending says: .gif, .webp or .apng. Raises: ValueError, see `encode_animation`."""
    write_atomically(Path(path), encode_animation(pictures, Path(path).suffix[1:].lower(), seconds), durable=False)


def _place_words(words: Sequence[str], size: int, width: float) -> list[PlacedWord]:
    """Each word, shortened to `width`, with the left end of its baseline, in lines that are read in the caption's direction."""
    mirrored = direction(" ".join(words)) == "rtl"
    across, down, space = 0.0, float(size), width_of(" ", size) + 6
    placed = []
    for word in words:
        word_width = min(width_of(word, size), width)
        if across and across + word_width > width:
            across, down = 0.0, down + 1.6 * size
        placed.append(PlacedWord(shorten(word, size, width), width - across - word_width if mirrored else across, down))
        across += word_width + space
    return placed


def _draw_words(canvas: ImageDraw.ImageDraw, words: Sequence[PlacedWord], top: float, current: int, size: int, colours: Theme) -> None:
    """The caption with its current word on a coloured field; later words are muted. With the photo alone, no word is."""
    for number, (word, across, down) in enumerate(words):
        left, line = across + size / 2, top + down - size / 2
        if number == current:
            field = (left - 4, line - 1.02 * size, left + width_of(word, size) + 4, line + 0.36 * size)
            canvas.rounded_rectangle(field, 4, fill=colours.accent)
        colour = colours.background if number == current else colours.muted if 0 <= current < number else colours.text
        write(canvas, (left, line), word, size, colour)
