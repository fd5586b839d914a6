"""The contact sheet: the photo, then a panel for each word, in reading order, with the map over the original pixels."""

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw

from captioner.box import Box
from captioner.caption import WordMaps
from captioner.maps.colours import Theme, find_theme, heat_colours
from captioner.maps.lettering import direction, shorten, width_of, wrap, write
from captioner.maps.panels import HeatPanels


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
    maps: WordMaps,
    *,
    panels: HeatPanels | None = None,
    theme: str = "light",
    panel_width: int = 240,
    title: str | None = None,
    legend: tuple[str, str] = ("looks less", "more"),
) -> Image.Image:
    """Draw the sheet. `panels` are those of `maps`, where other drawings share them; `title` is the words where it is None;
    `legend` says what the ends of the colour scale mean.

    The photo comes first. A caption that is written from right to left has its photo at the upper right, and its rows and labels
    are read from right to left, too; the pictures themselves are not mirrored. A panel's colours run from zero to the map's peak,
    or to FULL_SCALE times a uniform map's weight where the map is flatter; pixels outside the box are grey. Panels are
    `panel_width` pixels wide: wider for panoramas, narrower for tall photos. Raises: ArgumentError, an unknown theme.
    """
    colours = find_theme(theme)
    numbers = {name: values for name in ("probabilities", "gate", "sentinel") if (values := getattr(maps, name)) is not None}
    text = " ".join(maps.words)
    notes = tuple(name for name in numbers if name != "probabilities")
    layout = _layout(maps.image.size, len(maps.words), text if title is None else title, panel_width, notes, direction(text) == "rtl")
    sheet = Image.new("RGB", layout.size, colours.background)
    canvas = ImageDraw.Draw(sheet)
    _draw_title(canvas, layout, colours)
    for number, picture in enumerate((panels or HeatPanels(maps)).at(layout.panel, theme)):
        left, top = layout.corner(number)
        inset, radius = left + (layout.cell[0] - layout.panel[0]) // 2, round(6 * layout.unit)
        sheet.paste(picture, (inset, top), _rounded_mask(layout.panel, radius))
        canvas.rounded_rectangle((inset, top, inset + layout.panel[0] - 1, top + layout.panel[1] - 1), radius, outline=colours.line)
        corner = left, top + layout.panel[1]
        if number == 0:
            _draw_scale(sheet, canvas, corner, layout, colours, legend)
        else:
            of_word = {name: float(values[number - 1]) for name, values in numbers.items()}
            _draw_label(canvas, corner, layout, maps.words[number - 1], of_word, colours)
    return sheet


def word_images(
    maps: WordMaps, *, panels: HeatPanels | None = None, theme: str = "light", longest_side: int = 1024
) -> list[tuple[str, Image.Image]]:
    """One picture per word with its file name ("01_a.png"), of the photo's own size brought between 256 and `longest_side` pixels."""
    longest = max(maps.image.size)
    scale = min(max(256 / longest, 1), longest_side / longest)
    size = max(round(maps.image.width * scale), 1), max(round(maps.image.height * scale), 1)
    digits = max(2, len(str(len(maps.words))))
    names = [f"{number:0{digits}d}_{file_name_part(word)}.png" for number, word in enumerate(maps.words, 1)]
    return list(zip(names, (panels or HeatPanels(maps)).at(size, theme)[1:], strict=True))


def file_name_part(word: str) -> str:
    """A word as part of a file name on any system: letters with their marks, digits, dots and hyphens; "word" where nothing is left."""
    text = "".join(letter if unicodedata.category(letter)[0] in "LMN" or letter in "_.-" else " " for letter in word)
    return re.sub(r"\s+", "-", text).strip("-._")[:40] or "word"


def _draw_title(canvas: ImageDraw.ImageDraw, layout: Layout, colours: Theme) -> None:
    """The title's lines, from the side from which they are read."""
    begin, anchor = (layout.size[0] - layout.margin, "rs") if layout.mirrored else (layout.margin, "ls")
    for line, text in enumerate(layout.title):
        baseline = layout.margin + layout.title_size * (0.95 + 1.3 * line)
        write(canvas, (begin, baseline), text, layout.title_size, colours.text, anchor)


def _layout(size: tuple[int, int], words: int, title: str, panel_width: int, notes: tuple[str, ...], mirrored: bool = False) -> Layout:
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
    heading = tuple(wrap(title, title_size, across, 4)) if title else ()
    return Layout(panel, cell, columns, math.ceil((words + 1) / columns), gap, margin, unit, heading, title_size, lines, mirrored)


@cache
def _rounded_mask(size: tuple[int, int], radius: int) -> Image.Image:
    """A mask with rounded corners, smooth-edged."""
    mask = Image.new("L", (size[0] * 4, size[1] * 4))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] * 4 - 1, size[1] * 4 - 1), min(radius, *size) * 4, fill=255)
    return mask.resize(size, Image.Resampling.BOX)


def _draw_label(
    canvas: ImageDraw.ImageDraw, at: tuple[int, int], layout: Layout, word: str, numbers: dict[str, float], colours: Theme
) -> None:
    """The word, its probability as a number and as a bar, then gate and sentinel."""
    left, top = at
    right, unit = left + layout.cell[0], layout.unit
    (begin, anchor), (end, end_anchor) = ((right, "rs"), (left, "ls")) if layout.mirrored else ((left, "ls"), (right, "rs"))
    size, small = round(17 * unit), round(13 * unit)
    width = float(layout.cell[0])
    if "probabilities" in numbers:
        number = percent(numbers["probabilities"])
        write(canvas, (end, top + 23 * unit), number, small, colours.muted, end_anchor)
        width -= width_of(number, small) + 8 * unit
        _draw_bar(canvas, (left, top + 31 * unit, right, top + 34 * unit), numbers["probabilities"], colours, layout.mirrored)
    while size > small and width_of(word, size) > width:
        size -= 1
    write(canvas, (begin, top + 23 * unit), shorten(word, size, width), size, colours.text, anchor)
    for line, names in enumerate(layout.notes):
        text = "   ".join(f"{name} {numbers[name]:.2f}" for name in names)
        write(canvas, (begin, top + (51 + 18 * line) * unit), shorten(text, small, layout.cell[0]), small, colours.muted, anchor)


def percent(share: float) -> str:
    """0.874 -> "87 %"; what rounds to none or all of it says so with < and >."""
    if math.isnan(share):
        return "?"
    whole = round(100 * share)
    return "<1 %" if whole < 1 else ">99 %" if whole > 99 and share < 1 else f"{whole} %"


def _draw_bar(canvas: ImageDraw.ImageDraw, area: Box, share: float, colours: Theme, mirrored: bool) -> None:
    left, top, right, bottom = (round(side) for side in area)
    canvas.rectangle((left, top, right - 1, max(bottom - 1, top)), colours.line)
    if share > 0:
        length = max(round((right - left) * min(share, 1.0)), 1)
        begin = right - length if mirrored else left
        canvas.rectangle((begin, top, begin + length - 1, max(bottom - 1, top)), colours.accent)


def _draw_scale(
    sheet: Image.Image, canvas: ImageDraw.ImageDraw, at: tuple[int, int], layout: Layout, colours: Theme, legend: tuple[str, str]
) -> None:
    """Beneath the photo: what the colours mean."""
    left, top = at
    unit, small = layout.unit, round(13 * layout.unit)
    write(canvas, (left, top + 23 * unit), legend[0], small, colours.muted)
    write(canvas, (left + layout.cell[0], top + 23 * unit), legend[1], small, colours.muted, "rs")
    strip = Image.fromarray(heat_colours()[None]).resize((layout.cell[0], max(round(5 * unit), 2)), Image.Resampling.BILINEAR)
    sheet.paste(strip, (left, round(top + 30 * unit)))
