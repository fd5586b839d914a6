"""Image files of every format and mode, cut, flipped, misnamed; and what is no file at all."""

import io
import os
import random
from pathlib import Path

from driver import Case
from mutations import change_bytes, several, typed
from PIL import Image
from world import World

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B")
FORMATS = (
    "PNG",
    "JPEG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "PPM",
    "ICO",
    "TGA",
    "PCX",
    "SGI",
    "JPEG2000",
    "AVIF",
    "DDS",
    "MSP",
    "EPS",
    "PDF",
    "XBM",
)
ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".bmp",
    ".tif",
    ".webp",
    ".ppm",
    ".JPG",
    ".avif",
    ".svg",
    ".txt",
    "",
    ".jpg.png",
    ".mpo",
    ".heic",
)
NAMES = (
    "photo",
    "a b",
    "é",
    "猫",
    "x" * 120,
    "#1",
    "100%",
    "[a]",
    "*",
    "a\tb",
    "a'b",
    'a"b',
    "-",
    "--out",
    ".hidden",
    "\udcff",
    "a=b",
    "${x}",
    "\u202etxt",
)
TEXTS = (
    b"",
    b"\n",
    b"GIF89a",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe0",
    b"RIFF\x00\x00\x00\x00WEBP",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"%PDF-1.4",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) (w) file",
    b"P6 99999 99999 255\n",
    b"P3 2 2 255\n1 2",
    b"BM" + b"\0" * 60,
)


def make(rng: random.Random, world: World, folder: Path) -> Case:
    world.copy("run", folder)
    (folder / "in").mkdir()
    made = [path for _ in range(rng.randrange(1, 5)) if (path := make_one(rng, folder / "in"))]
    places = {os.path.realpath(path): os.path.relpath(path, folder) for path in made}  # links to one place are captioned once
    names = sorted(places.values())
    if rng.random() < 0.5:
        images, words = names, ["--", *names]
    else:
        images, words = [], ["in", "--recursive"]
    more = rng.choices(
        ([], ["--out", "out"], ["--out", "out", "--save", "words,arrays"], ["--out", "out", "--explain", "attention,gradcam"]), (6, 2, 1, 1)
    )[0]
    return Case(["predict", "--model", "run", *more, *words], images=[shown(name) for name in images])


def shown(name: str) -> str:
    """As predict prints a name that is no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()


def make_one(rng: random.Random, folder: Path) -> str | None:
    """A file, or something else with a file's name; None where the format does not take the mode."""
    name = rng.choice(NAMES) if rng.random() < 0.4 else f"image{rng.randrange(99)}"
    path = os.path.join(folder, typed(name) + rng.choice(ENDINGS))
    if os.path.lexists(path):
        return None
    kind = rng.choices(("image", "changed", "text", "pipe", "folder", "link", "loop", "sparse"), (45, 45, 8, 1, 2, 2, 1, 1))[0]
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "link":
        os.symlink(rng.choice(("nothing.png", "..", "/dev/null", "/dev/zero")), path)
    elif kind == "loop":
        os.symlink(path, path)
    else:
        data = rng.choice(TEXTS) if kind == "text" else encode(rng)
        if not data and kind != "text":
            return None
        with open(path, "wb") as file:
            file.write(several(rng, change_bytes, data) if kind == "changed" else data)
            if kind == "sparse":
                file.truncate(2**33)
    return path


def encode(rng: random.Random) -> bytes:
    """An image of a random size, mode and format with what formats can hold beside pixels; nothing where they do not fit each other."""
    mode, size = rng.choice(MODES), (rng.choice((1, 2, 7, 33, 300)), rng.choice((1, 3, 31, 200)))
    try:
        image = Image.effect_noise(size, 80).convert(mode) if rng.random() < 0.8 else Image.new(mode, size)
        options: dict[str, object] = {}
        if rng.random() < 0.2:
            exif = Image.Exif()
            exif[0x0112] = rng.choice((0, 1, 3, 6, 8, 9, 2**16 - 1))
            options["exif"] = exif.tobytes() if rng.random() < 0.7 else rng.randbytes(40)
        if rng.random() < 0.1:
            options |= {"save_all": True, "append_images": [image.copy() for _ in range(2)]}
        if rng.random() < 0.1:
            options["transparency"] = rng.choice((0, 255, b"\x00\x80", (1, 2, 3), 300))
        if rng.random() < 0.1:
            options["icc_profile"] = rng.randbytes(130)
        file, form = io.BytesIO(), rng.choice(FORMATS)
        image.save(file, form, **({} if form == "AVIF" else options))  # libavif crashes on some of these when it writes
    except Exception:  # this format does not hold such an image, or this Pillow cannot write it
        return b""
    return file.getvalue()
