"""Text on pictures: Pillow's built-in font, and the system's where a script needs one; shortened or wrapped to a width."""

import logging
import unicodedata
from functools import cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

log = logging.getLogger(__name__)

Face: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

FALLBACKS = (
    *("NotoSans-Regular.ttf", "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSansArabic-Regular.ttf", "NotoSansDevanagari-Regular.ttf"),
    *("WenQuanYi Zen Hei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "FreeSans.ttf", "Arial Unicode.ttf", "PingFang.ttc"),
    *("AppleSDGothicNeo.ttc", "segoeui.ttf", "msyh.ttc", "malgun.ttf", "meiryo.ttc", "Nirmala.ttc", "arial.ttf", "seguiemj.ttf"),
)
"""Asked for by name, in this order, when the built-in font lacks a letter; a missing file is passed over."""


def face_for(text: str, size: int) -> Face:
    """The built-in font at `size` pixels where it holds every letter of `text`; otherwise the system font that holds most."""
    return _face(frozenset(letter for letter in text if not letter.isascii()), max(size, 6))


def width_of(text: str, size: int) -> float:
    return face_for(text, size).getlength(drawable(text, size))


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
    canvas.text(at, drawable(text, size), fill=colour, font=face_for(text, size), anchor=anchor)


def drawable(text: str, size: int) -> str:
    """`text` with letters that no font here holds replaced by what they are made of: an accent is lost sooner than its letter."""
    face = face_for(text, size)
    held = {letter for letter in set(text) if letter.isascii() or _held(face, frozenset(letter))}
    return "".join(letter if letter in held else unicodedata.normalize("NFKD", letter)[0] for letter in text)


@cache
def _face(letters: frozenset[str], size: int) -> Face:
    built_in = ImageFont.load_default(size)
    best, held = built_in, _held(built_in, letters)
    for name in FALLBACKS if held < len(letters) else ():
        try:
            face = ImageFont.truetype(name, size)
        except OSError:
            continue
        if _held(face, letters) > held:
            best, held = face, _held(face, letters)
        if held == len(letters):
            break
    if held < len(letters):
        log.warning("no font here holds all of %s; they are drawn as boxes", " ".join(sorted(letters)))
    return best


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
