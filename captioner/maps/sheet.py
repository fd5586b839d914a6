"""The contact sheet: the photo, then a panel a word in reading order with the map over the original pixels."""

import math
import re
import unicodedata
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw

from captioner.errors import ArgumentError
from captioner.maps.colours import Theme, heat_colours, theme_named
from captioner.maps.geometry import Box, heats, scaled_box, seen
from captioner.maps.lettering import direction, shortened, width_of, wrapped, write

FULL_SCALE = 4.0
"""The colour scale of a map ends at its peak, but never below this many times an even look's weight, so that an even map looks even."""
OPACITY = (0.10, 0.70)
"""How much of the heat's colour covers the faded photo, at nothing and at the end of the scale."""
FADE = (0.55, 0.66)
"""What is left of the photo's colour, and of its light, beneath a map."""


@dataclass(frozen=True)
class Layout:
    """Lengths in pixels; a cell is a panel with its label and has the panel in its middle."""

    panel: tuple[int, int]
    cell: tuple[int, int]
    columns: int
    rows: int
    gap: int
    margin: int
    unit: float
    title: tuple[str, ...]
    title_size: int
    notes: tuple[tuple[str, ...], ...]
    """What stands beneath the probability: the names of numbers, a line each."""
    mirrored: bool
    """Whether the sheet is read from right to left."""

    @property
    def top(self) -> int:
        return self.margin + (round(len(self.title) * self.title_size * 1.3) + self.gap if self.title else 0)

    @property
    def size(self) -> tuple[int, int]:
        across, down = self.cell
        wide = 2 * self.margin + self.columns * across + (self.columns - 1) * self.gap
        return wide, self.top + self.rows * down + (self.rows - 1) * self.gap + self.margin

    def corner(self, number: int) -> tuple[int, int]:
        row, column = divmod(number, self.columns)
        column = self.columns - 1 - column if self.mirrored else column
        return self.margin + column * (self.cell[0] + self.gap), self.top + row * (self.cell[1] + self.gap)


def contact_sheet(
    image: Image.Image,
    words: Sequence[str],
    alphas: Float[np.ndarray, "words rows cols"],
    box: Box,
    *,
    probabilities: Sequence[float] | None = None,
    gate: Sequence[float] | Float[np.ndarray, " words"] | None = None,
    sentinel: Sequence[float] | Float[np.ndarray, " words"] | None = None,
    theme: str = "light",
    panel_width: int = 240,
    title: str | None = None,
    legend: tuple[str, str] = ("looks less", "more"),
) -> Image.Image:
    """Draw the sheet. `probabilities`, `gate` and `sentinel` are a number in 0 to 1 a word; `title` is the words where left out,
    `legend` what the ends of the colour scale mean.

    Panels stand in reading order, the photo first: of a caption written from right to left the photo is at the upper right, and rows
    and labels are read from right to left, too; the pictures themselves are not mirrored.
    A panel's colours run from zero to the map's peak, or to FULL_SCALE times an even look where the map is flatter than that; greyed pixels
    lay outside `box`. Panels are `panel_width` pixels wide; wider for panoramas, narrower for tall photos. Raises: ArgumentError, words and
    numbers that do not count the same, an unknown theme.
    """
    colours = theme_named(theme)
    numbers = {"probabilities": probabilities, "gate": gate, "sentinel": sentinel}
    check_counts(len(words), **numbers)
    plan = _plan(
        image.size,
        len(words),
        " ".join(words) if title is None else title,
        panel_width,
        tuple(name for name in ("gate", "sentinel") if numbers[name] is not None),
        direction(" ".join(words)) == "rtl",
    )
    photo = _shown(image, plan.panel)
    sheet = Image.new("RGB", plan.size, colours.paper)
    canvas = ImageDraw.Draw(sheet)
    _head(canvas, plan, colours)
    for number, picture in enumerate([photo, *heat_panels(photo, alphas, scaled_box(box, image.size, plan.panel), len(words), theme)]):
        left, top = plan.corner(number)
        inset, radius = left + (plan.cell[0] - plan.panel[0]) // 2, round(6 * plan.unit)
        sheet.paste(picture, (inset, top), _rounded(plan.panel, radius))
        canvas.rounded_rectangle((inset, top, inset + plan.panel[0] - 1, top + plan.panel[1] - 1), radius, outline=colours.rule)
        if number == 0:
            _scale(sheet, canvas, (left, top + plan.panel[1]), plan, colours, legend)
        else:
            said = {name: float(values[number - 1]) for name, values in numbers.items() if values is not None}
            _label(canvas, (left, top + plan.panel[1]), plan, words[number - 1], said, colours)
    return sheet


def _head(canvas: ImageDraw.ImageDraw, plan: Layout, colours: Theme) -> None:
    """The title's lines, from the side where they are read from."""
    begin, anchor = (plan.size[0] - plan.margin, "rs") if plan.mirrored else (plan.margin, "ls")
    for line, text in enumerate(plan.title):
        write(canvas, (begin, plan.margin + plan.title_size * (0.95 + 1.3 * line)), text, plan.title_size, colours.ink, anchor)


def check_counts(words: int, **given: Sized | None) -> None:
    """Raise ValueError, by name, unless each that is given has an entry a word."""
    for name, values in given.items():
        if values is not None and len(values) != words:
            raise ArgumentError(name, f"hold {len(values)} entries for {words} words")


def word_images(
    image: Image.Image,
    words: Sequence[str],
    alphas: Float[np.ndarray, "words rows cols"],
    box: Box,
    *,
    theme: str = "light",
    longest_side: int = 1024,
) -> list[tuple[str, Image.Image]]:
    """A picture a word, with its file name: ("01_a.png", ...). The photo's own size, brought between 256 and `longest_side` pixels."""
    scale = min(max(256 / max(image.size), 1), longest_side / max(image.size))
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    photo = _shown(image, size)
    digits = max(2, len(str(len(words))))
    names = [f"{number:0{digits}d}_{file_word(word)}.png" for number, word in enumerate(words, 1)]
    panels = (
        heat_panels(photo, alphas[number : number + 1], scaled_box(box, image.size, size), 1, theme)[0] for number in range(len(words))
    )
    return list(zip(names, panels, strict=True))


def file_word(word: str) -> str:
    """A word as part of a file name on any system: letters with their marks, digits, dots and hyphens; "word" where nothing is left."""
    kept = "".join(letter if unicodedata.category(letter)[0] in "LMN" or letter in "_.-" else " " for letter in word)
    return re.sub(r"\s+", "-", kept).strip("-._")[:40] or "word"


def strengths(
    found: Float[np.ndarray, "words height width"], alphas: Float[np.ndarray, "words rows cols"]
) -> UInt8[np.ndarray, "words height width"]:
    """Interpolated maps as steps 0 to 255 of the colour scale, each by its own peak but no steeper than FULL_SCALE allows."""
    even = 1 / (alphas.shape[1] * alphas.shape[2])
    peaks = found.max(axis=(1, 2), initial=0.0)
    return np.clip(found * (255 / np.maximum(peaks, FULL_SCALE * even))[:, None, None] + 0.5, 0, 255).astype(np.uint8)


def heat_panels(
    photo: Image.Image, alphas: Float[np.ndarray, "words rows cols"], box: Box, words: int, theme: str = "light"
) -> list[Image.Image]:
    """`photo` under each map; `box` in the photo's own pixels. Raises: ArgumentError, not as many maps as words."""
    if len(alphas) != words:
        raise ArgumentError("alphas", f"hold {len(alphas)} maps for {words} words")
    colours = theme_named(theme)
    covered, tints = _tables()
    faded, margins = _faded(photo, colours, seen(box, photo.size))
    steps = strengths(heats(alphas, box, photo.size), alphas)
    panels = []
    for step in steps:
        panel = faded * covered[step][..., None]
        panel += tints[step]
        if margins is not None:
            np.copyto(panel, margins[0], where=margins[1])
        panels.append(Image.fromarray(panel.astype(np.uint8)))
    return panels


def _faded(
    photo: Image.Image, colours: Theme, inside: Bool[np.ndarray, "height width"]
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """The photo as it lies beneath a map, and the greyed margins with where they are (None where the model saw everything)."""
    pixels = np.asarray(photo, np.float32)
    grey = pixels @ np.array([0.299, 0.587, 0.114], np.float32)
    colour, light = FADE
    faded = (pixels * colour + (grey * (1 - colour))[..., None]) * light + np.array(colours.veil, np.float32) * (1 - light)
    if inside.all():
        return faded, None
    margin = (grey * 0.22)[..., None] + np.array(colours.unseen, np.float32) * 0.78
    return faded, (margin, ~inside[..., None])


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """For each step of the scale: the share of the photo left, and the heat's colour times its opacity (with the half for rounding)."""
    opacity = np.linspace(*OPACITY, 256).astype(np.float32)
    return 1 - opacity, heat_colours().astype(np.float32) * opacity[:, None] + 0.5


def _plan(size: tuple[int, int], words: int, title: str, panel_width: int, notes: tuple[str, ...], mirrored: bool = False) -> Layout:
    """Panels of the photo's shape within bounds, in as many columns as make the sheet about half as wide again as high."""
    unit = panel_width / 240
    aspect = size[0] / size[1]
    width = panel_width * min(max(aspect / 2, 1), 3)
    height = min(width / aspect, 1.4 * panel_width)
    panel = (max(round(height * aspect), 12), max(round(height), 12))
    across = max(panel[0], round(120 * unit))
    lines = (notes,) if across >= 180 * unit and notes else tuple((name,) for name in notes)
    cell = (across, panel[1] + round((40 + 18 * len(lines)) * unit))
    gap, margin = round(16 * unit), round(24 * unit)
    title_size = round(21 * unit)

    def shape(columns: int) -> float:
        rows = math.ceil((words + 1) / columns)
        spare = rows * columns - words - 1
        across = 2 * margin + columns * (cell[0] + gap) - gap
        return abs(math.log(across / (rows * (cell[1] + gap) + 3 * margin) / 1.5)) + 1.5 * spare / (rows * columns)

    columns = min(range(min(2, words + 1), words + 2), key=shape)
    across = columns * (cell[0] + gap) - gap
    heading = tuple(wrapped(title, title_size, across, 4)) if title else ()
    return Layout(panel, cell, columns, math.ceil((words + 1) / columns), gap, margin, unit, heading, title_size, lines, mirrored)


def _shown(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    photo = image if image.mode == "RGB" else image.convert("RGB")
    if photo.size == size:
        return photo
    return photo.resize(size, Image.Resampling.BICUBIC if photo.width < size[0] else Image.Resampling.LANCZOS, reducing_gap=2.0)


@cache
def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    """A mask with rounded corners, smooth-edged."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 4 - 1, size[1] * 4 - 1), min(radius, *size) * 4, fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def _label(canvas: ImageDraw.ImageDraw, at: tuple[int, int], plan: Layout, word: str, said: dict[str, float], colours: Theme) -> None:
    """The word, its probability as a number and as a bar, then gate and sentinel."""
    left, top = at
    right, unit = left + plan.cell[0], plan.unit
    ahead, behind = ((right, "rs"), (left, "ls")) if plan.mirrored else ((left, "ls"), (right, "rs"))
    size, small = round(17 * unit), round(13 * unit)
    room = float(plan.cell[0])
    if "probabilities" in said:
        number = percent(said["probabilities"])
        write(canvas, (behind[0], top + 23 * unit), number, small, colours.quiet, behind[1])
        room -= width_of(number, small) + 8 * unit
        _bar(canvas, (left, top + 31 * unit, right, top + 34 * unit), said["probabilities"], colours, plan.mirrored)
    while size > small and width_of(word, size) > room:
        size -= 1
    write(canvas, (ahead[0], top + 23 * unit), shortened(word, size, room), size, colours.ink, ahead[1])
    for line, names in enumerate(plan.notes):
        text = "   ".join(f"{name} {said[name]:.2f}" for name in names)
        write(canvas, (ahead[0], top + (51 + 18 * line) * unit), shortened(text, small, plan.cell[0]), small, colours.quiet, ahead[1])


def percent(share: float) -> str:
    """0.874 -> "87 %"; what rounds to none or all of it says so with < and >."""
    if math.isnan(share):
        return "?"
    whole = round(100 * share)
    return "<1 %" if whole < 1 else ">99 %" if whole > 99 and share < 1 else f"{whole} %"


def _bar(canvas: ImageDraw.ImageDraw, area: tuple[float, float, float, float], share: float, colours: Theme, mirrored: bool) -> None:
    left, top, right, bottom = (round(side) for side in area)
    canvas.rectangle((left, top, right - 1, max(bottom - 1, top)), colours.rule)
    if share > 0:
        length = max(round((right - left) * min(share, 1.0)), 1)
        begin = right - length if mirrored else left
        canvas.rectangle((begin, top, begin + length - 1, max(bottom - 1, top)), colours.accent)


def _scale(
    sheet: Image.Image, canvas: ImageDraw.ImageDraw, at: tuple[int, int], plan: Layout, colours: Theme, legend: tuple[str, str]
) -> None:
    """Beneath the photo: what the colours mean."""
    left, top = at
    unit, small = plan.unit, round(13 * plan.unit)
    write(canvas, (left, top + 23 * unit), legend[0], small, colours.quiet)
    write(canvas, (left + plan.cell[0], top + 23 * unit), legend[1], small, colours.quiet, "rs")
    strip = Image.fromarray(heat_colours()[None]).resize((plan.cell[0], max(round(5 * unit), 2)), Image.Resampling.BILINEAR)
    sheet.paste(strip, (left, round(top + 30 * unit)))
