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

Face: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

FALLBACKS = (
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf"),
    *("WenQuanYi Zen Hei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "FreeSans.ttf", "Arial Unicode.ttf", "PingFang.ttc"),
    *("AppleSDGothicNeo.ttc", "segoeui.ttf", "msyh.ttc", "malgun.ttf", "meiryo.ttc", "Nirmala.ttc", "arial.ttf", "seguiemj.ttf"),
)
"""Asked for by name, in this order, when the built-in font lacks a letter, before any other font of this machine."""
SPECIAL = re.compile(r"bold|italic|oblique|mono|light|thin|black|condensed|serif|emoji|symbol", re.IGNORECASE)
"""Of fonts, what makes one the second choice."""


def direction(text: str) -> str:
    """ "rtl" where the first letter that has a direction is of a script written from right to left, else "ltr".

    Source: Unicode's bidirectional algorithm (UAX 9), rules P2 and P3, by which browsers lay out a paragraph, too.
    """
    kinds = (unicodedata.bidirectional(letter) for letter in text)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def face_for(text: str, size: int) -> Face:
    """The built-in font at `size` pixels where it holds every letter of `text`; otherwise the system font that holds most."""
    beyond = frozenset(letter for letter in text if not letter.isascii())
    return _face(frozenset(letter for letter in text if not letter.isspace()) if beyond else beyond, max(size, 6))


def width_of(text: str, size: int) -> float:
    face = face_for(text, size)
    shown, layout = laid_out(drawable(text, size), face)
    return face.getlength(shown, **layout)


def shortened(text: str, size: int, width: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if width_of(text, size) <= width:
        return text
    keep = len(text)
    while keep > 1 and width_of(text[:keep] + "…", size) > width:
        keep -= 1
    return text[:keep] + "…"


def wrapped(text: str, size: int, width: float, lines: int) -> list[str]:
    """Break at spaces into lines of at most `width` pixels; what does not fit `lines` lines ends in an ellipsis."""
    done: list[str] = []
    words = text.split()
    while words and len(done) < lines:
        taken = len(words)
        if len(done) < lines - 1:
            while taken > 1 and width_of(" ".join(words[:taken]), size) > width:
                taken -= 1
        done.append(shortened(" ".join(words[:taken]), size, width))
        words = words[taken:]
    return done


def write(
    canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: tuple[int, int, int], anchor: str = "ls"
) -> None:
    """Draw one line; `anchor` is Pillow's: "ls" left on the baseline, "rs" right."""
    face = face_for(text, size)
    shown, layout = laid_out(drawable(text, size), face)
    canvas.text(at, shown, fill=colour, font=face, anchor=anchor, **layout)


def laid_out(text: str, face: Face) -> tuple[str, dict[str, Any]]:
    """What Pillow is given so that a line reads in its own direction, and the options for it.

    Raqm orders the letters and joins them. Without it (it needs the library fribidi) letters are drawn in the order that they have, so a
    line from right to left is given backwards, marks behind their letters; its letters are not joined, which the log says.
    """
    if getattr(face, "layout_engine", None) == ImageFont.Layout.RAQM:
        return text, {"direction": direction(text)}
    if direction(text) == "ltr":
        return text, {}
    say_unjoined()
    clusters: list[str] = []
    for letter in text:
        if clusters and unicodedata.combining(letter):
            clusters[-1] += letter
        else:
            clusters.append(letter)
    return "".join(reversed(clusters)), {}


@cache
def say_unjoined() -> None:
    """Once."""
    log.warning("Pillow has no Raqm here (the library fribidi is missing): letters that join, as in Arabic, are drawn apart in pictures")


def drawable(text: str, size: int) -> str:
    """`text` with letters that no font here holds replaced by what they are made of: an accent is lost sooner than its letter."""
    face = face_for(text, size)
    held = {letter for letter in set(text) if letter.isascii() or _held(face, frozenset(letter))}
    return "".join(letter if letter in held else unicodedata.normalize("NFKD", letter)[0] for letter in text)


@cache
def _face(letters: frozenset[str], size: int) -> Face:
    built_in = ImageFont.load_default(size)
    best, held = built_in, _held(built_in, letters)
    for name in _names(letters) if held < len(letters) else ():
        face = _opened(name, size)
        if face is not None and _held(face, letters) > held:
            best, held = face, _held(face, letters)
        if held == len(letters):
            break
    for letter in letters if held < len(letters) else ():
        if not letter.isascii() and not _held(best, frozenset(letter)):
            _say_missing(unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0])
    return best


def _names(letters: frozenset[str]) -> Iterator[str]:
    """Fonts to try: those known by name, then those of this machine, found by the first letter that is not of the Latin alphabet."""
    yield from FALLBACKS
    beyond = sorted(letter for letter in letters if not letter.isascii() and unicodedata.category(letter)[0] == "L")
    found = dict.fromkeys(font for letter in beyond if (font := _font_with(letter)))
    yield from found


@cache
def _font_with(letter: str) -> str | None:
    """The first of this machine's fonts that holds a letter."""
    faces = ((path, _opened(path, 12)) for path in system_fonts())
    return next((path for path, face in faces if face is not None and _held(face, frozenset(letter))), None)


@cache
def system_fonts() -> tuple[str, ...]:
    """Paths of fonts that are installed where Pillow looks for them, upright ones of usual weight first."""
    home = Path.home()
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    folders = [home / ".local/share/fonts", home / ".fonts", *(Path(folder) / "fonts" for folder in shared.split(":"))]
    folders += [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    folders += [Path(os.environ[name]) / "Fonts" for name in ("WINDIR",) if name in os.environ]
    found = {str(path) for folder in folders if folder.is_dir() for path in folder.rglob("*.[to]t[fc]")}
    return tuple(sorted(found, key=lambda path: (bool(SPECIAL.search(Path(path).stem)), path)))


@cache
def _opened(name: str, size: int) -> Face | None:
    try:
        return ImageFont.truetype(name, size)
    except (OSError, ValueError):  # not there, or damaged
        return None


@cache
def _say_missing(script: str) -> None:
    """Once for each script."""
    log.warning("no font of this machine holds the letters %s; pictures show boxes instead (Noto fonts hold them)", script)


def _held(face: Face, letters: frozenset[str]) -> int:
    """How many of `letters` the font has a picture for, other than the box it draws for what it lacks."""
    missing = _picture(face, "\U0010fffe")
    return sum(letter.isspace() or _picture(face, letter) != missing for letter in letters)


def _picture(face: Face, letter: str) -> tuple[tuple[int, int], bytes]:
    box = face.getbbox(letter)
    size = (max(int(box[2]), 1) + 2, max(int(box[3]), 1) + 2)
    paper = Image.new("L", size)
    ImageDraw.Draw(paper).text((0, 0), letter, fill=255, font=face)
    return size, paper.tobytes()
