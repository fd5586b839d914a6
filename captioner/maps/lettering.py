"""Text on pictures: Pillow's built-in font, and the system's where a script needs one; shortened or wrapped to a width."""

import logging
import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, ImageDraw, ImageFont

log = logging.getLogger(__name__)

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

FALLBACKS = (
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf"),
    *("WenQuanYi Zen Hei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "FreeSans.ttf", "Arial Unicode.ttf", "PingFang.ttc"),
    *("AppleSDGothicNeo.ttc", "segoeui.ttf", "msyh.ttc", "malgun.ttf", "meiryo.ttc", "Nirmala.ttc", "arial.ttf", "seguiemj.ttf"),
)
"""Fonts that are tried first, in this order, when the built-in font lacks a letter; then any other font of this machine."""
SPECIAL = re.compile(r"bold|italic|oblique|mono|light|thin|black|condensed|serif|emoji|symbol", re.IGNORECASE)
"""Fonts whose names say so are tried last."""


def direction(text: str) -> str:
    """ "rtl" where the first letter that has a direction is of a script written from right to left, else "ltr".

    Source: Unicode's bidirectional algorithm (UAX 9), rules P2 and P3, by which browsers lay out a paragraph, too.
    """
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def font_for(text: str, size: int) -> Font:
    """The built-in font at `size` pixels where it holds every letter of `text`; otherwise the system font that holds most."""
    letters = frozenset() if text.isascii() else frozenset(letter for letter in text if not letter.isspace())
    return _font(letters, max(size, 6))


def width_of(text: str, size: int) -> float:
    font = font_for(text, size)
    ordered, options = order_letters(replace_missing_letters(text, size), font)
    return font.getlength(ordered, **options)


def shorten(text: str, size: int, width: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if width_of(text, size) <= width:
        return text
    end = len(text)
    while end > 1 and width_of(text[:end] + "…", size) > width:
        end -= 1
    return text[:end] + "…"


def wrap(text: str, size: int, width: float, lines: int) -> list[str]:
    """Break at spaces into lines of at most `width` pixels; what does not fit in `lines` lines ends in an ellipsis."""
    result: list[str] = []
    words = text.split()
    while words and len(result) < lines:
        count = len(words)
        while len(result) < lines - 1 and count > 1 and width_of(" ".join(words[:count]), size) > width:
            count -= 1
        result.append(shorten(" ".join(words[:count]), size, width))
        words = words[count:]
    return result


def write(
    canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: tuple[int, int, int], anchor: str = "ls"
) -> None:
    """Draw one line; `anchor` is Pillow's: "ls" left on the baseline, "rs" right."""
    font = font_for(text, size)
    ordered, options = order_letters(replace_missing_letters(text, size), font)
    canvas.text(at, ordered, fill=colour, font=font, anchor=anchor, **options)


def order_letters(text: str, font: Font) -> tuple[str, dict[str, Any]]:
    """The letters and the options that Pillow needs so that a line reads in its own direction.

    Raqm orders the letters and joins them. Without it (it needs the library fribidi) letters are drawn in the order that they have:
    a line from right to left is passed backwards, marks behind their letters; its letters are not joined, which the log says.
    """
    if getattr(font, "layout_engine", None) == ImageFont.Layout.RAQM:
        return text, {"direction": direction(text)}
    if direction(text) == "ltr":
        return text, {}
    _warn_of_unjoined_letters()
    clusters: list[str] = []
    for letter in text:
        if clusters and unicodedata.combining(letter):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return "".join(reversed(clusters)), {}


@cache
def _warn_of_unjoined_letters() -> None:
    """Once."""
    log.warning("Pillow has no Raqm here (the library fribidi is missing): letters that join, as in Arabic, are drawn apart in pictures")


def replace_missing_letters(text: str, size: int) -> str:
    """`text` with letters that no font here holds replaced by what they are composed of: an accent is lost sooner than its letter."""
    font = font_for(text, size)
    held = {letter for letter in set(text) if letter.isascii() or _count_held(font, frozenset(letter))}
    return "".join(letter if letter in held else unicodedata.normalize("NFKD", letter)[0] for letter in text)


@cache
def _font(letters: frozenset[str], size: int) -> Font:
    font: Font = ImageFont.load_default(size)
    held = _count_held(font, letters)
    for name in _candidates(letters) if held < len(letters) else ():
        candidate = _open_font(name, size)
        if candidate is not None and (count := _count_held(candidate, letters)) > held:
            font, held = candidate, count
        if held == len(letters):
            break
    for letter in letters if held < len(letters) else ():
        if not letter.isascii() and not _count_held(font, frozenset(letter)):
            _warn_of_missing_script(unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0])
    return font


def _candidates(letters: frozenset[str]) -> Iterator[str]:
    """FALLBACKS, then for each letter that is not of the Latin alphabet the first font of this machine that holds it."""
    yield from FALLBACKS
    foreign = sorted(letter for letter in letters if not letter.isascii() and unicodedata.category(letter)[0] == "L")
    yield from dict.fromkeys(font for letter in foreign if (font := _font_with(letter)))


@cache
def _font_with(letter: str) -> str | None:
    """The first of this machine's fonts that holds a letter."""
    fonts = ((path, _open_font(path, 12)) for path in system_fonts())
    return next((path for path, font in fonts if font is not None and _count_held(font, frozenset(letter))), None)


@cache
def system_fonts() -> tuple[str, ...]:
    """Paths of fonts that are installed where Pillow looks for them, upright ones of usual weight first."""
    home = Path.home()
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [home / ".local/share/fonts", home / ".fonts", *(Path(folder) / "fonts" for folder in shared.split(":"))]
    folders += [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    folders += [Path(os.environ[name]) / "Fonts" for name in ("WINDIR",) if name in os.environ]
    paths = {str(path) for folder in folders if folder.is_dir() for path in folder.rglob("*.[to]t[fc]")}
    return tuple(sorted(paths, key=lambda path: (bool(SPECIAL.search(Path(path).stem)), path)))


@cache
def _open_font(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ValueError):  # not there, or damaged
        return None


@cache
def _warn_of_missing_script(script: str) -> None:
    """Once for each script."""
    log.warning("no font of this machine holds the letters %s; pictures show boxes instead (Noto fonts hold them)", script)


def _count_held(font: Font, letters: frozenset[str]) -> int:
    """How many of `letters` the font has a picture for, other than the box that it draws for a missing letter."""
    missing = _picture(font, "\U0010fffe")
    return sum(letter.isspace() or _picture(font, letter) != missing for letter in letters)


def _picture(font: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    box = font.getbbox(letter)
    size = (max(int(box[2]), 1) + 2, max(int(box[3]), 1) + 2)
    image = Image.new("L", size)
    ImageDraw.Draw(image).text((0, 0), letter, fill=255, font=font)
    return size, image.tobytes()
