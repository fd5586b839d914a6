"""The gallery: `index.html`, one page that opens from `file://`, where pointing at a word shows where the model looked.

Up to INLINE images everything is inside the page; beyond, thumbnails stay inside and pictures and maps lie in `index_files/`, loaded by
`<img>` and `<script>`. No request leaves the page, which its Content-Security-Policy states too; every text is escaped.
"""

import base64
import hashlib
import html
import io
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from captioner.atomic_files import write_atomically
from captioner.caption import Caption, WordMaps
from captioner.errors import ArgumentError
from captioner.maps.colours import heat_colours
from captioner.maps.lettering import direction
from captioner.maps.panels import FULL_SCALE, OPACITY

INLINE = 50
"""The most images whose pictures and maps are put into the page itself."""
LONGEST_SIDE = 1280
THUMBNAIL = 280
"""Longest sides of pictures and thumbnails, in pixels."""
EARLY = 'let early = null; addEventListener("click", (event) => { early = event.target.closest(".card") ?? early; });'
"""Runs before the cards are there, and remembers the one that was clicked before the page's script could open it."""
ATTENTION = "attention"
"""The name of the explanation whose maps are the caption's own."""
NAMES = {"gradcam": "Grad-CAM", "smoothgrad": "SmoothGrad"}
"""What the page calls a kind of map, where that is not its name with a capital."""


@dataclass(frozen=True)
class Entry:
    """One image of the gallery. `explanations`: maps by name; None is attention alone, the caption's own maps."""

    path: str
    caption: Caption
    explanations: Mapping[str, Float[np.ndarray, "words rows cols"]] | None = None
    references: Sequence[str] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    """Numbers about the caption as a whole, by the name to show."""

    @cached_property
    def maps(self) -> WordMaps:
        return self.caption.maps


class Gallery:
    """A page that grows: `add` encodes an entry and keeps only that; `write` writes the page of the entries so far."""

    def __init__(self, folder: Path | str, title: str = "Captions") -> None:
        self.folder = Path(folder)
        self.title = title
        self._cards: list[str] = []
        self._aspects: list[float] = []
        self._waiting: list[tuple[dict[str, Any], bytes, str]] = []
        self._spilled = 0

    def __len__(self) -> int:
        return len(self._cards)

    def add(self, entry: Entry) -> None:
        """Raises: ValueError, a caption without its image; ArgumentError, not as many maps or numbers as words."""
        record, image = entry_record(entry), entry.maps.image
        picture, kind = encode_picture(image, LONGEST_SIDE, 88)
        thumbnail, thumbnail_kind = encode_picture(crop_to_thumbnail(image), THUMBNAIL, 74)
        self._cards.append(_card_html(entry, _data_uri(thumbnail, thumbnail_kind)))
        self._aspects.append(image.width / image.height)
        self._waiting.append((record, picture, kind))
        if len(self) > INLINE:
            self._spill()

    def write(self) -> Path:
        """Write `index.html`, whole or not at all; return its path."""
        inline = [{**record, "src": _data_uri(picture, kind)} for record, picture, kind in self._waiting]
        files = [_stem(number) for number in range(self._spilled)]
        aspect = min(max(statistics.median(self._aspects or [1.0]), 0.8), 1.6)
        page = index_page(self.title, self._cards, inline, files, aspect)
        path = self.folder / "index.html"
        write_atomically(path, page.encode("utf-8", "replace"))
        return path

    def _spill(self) -> None:
        """Move what waits to be put into the page to files beside it."""
        for record, picture, kind in self._waiting:
            stem = _stem(self._spilled)
            write_atomically(self.folder / "index_files" / f"{stem}.{kind}", picture, durable=False)
            text = json_for_script({**record, "src": f"index_files/{stem}.{kind}"})
            write_atomically(self.folder / "index_files" / f"{stem}.js", f"captionerEntry({self._spilled},{text});\n", durable=False)
            self._spilled += 1
        self._waiting.clear()


def write_gallery(folder: Path | str, entries: Iterable[Entry], title: str = "Captions") -> Path:
    """Write `index.html` (and `index_files/` beyond INLINE entries) to `folder`; return the page's path."""
    gallery = Gallery(folder, title)
    for entry in entries:
        gallery.add(entry)
    return gallery.write()


def entry_record(entry: Entry) -> dict[str, Any]:
    """What the page's script needs of an entry, except its picture: plain JSON values, maps as bytes with each word's peak."""
    caption, maps = entry.caption, entry.maps
    return {
        "path": entry.path,
        "width": maps.image.width,
        "height": maps.image.height,
        "box": [float(side) for side in maps.box],
        "alternatives": [caption_record(other, attention_maps(other), entry.path) for other in caption.alternatives],
        "references": [str(text) for text in entry.references],
        "facts": [[name, _format_number(value)] for name, value in entry.scores.items()],
        **caption_record(caption, attention_maps(caption) if entry.explanations is None else entry.explanations, entry.path),
    }


def attention_maps(caption: Caption) -> dict[str, Float[np.ndarray, "words rows cols"]]:
    """The caption's own maps; nothing where words have none, as of a caption that is only text."""
    return {ATTENTION: caption.alphas} if len(caption.alphas) or not caption.words else {}


def caption_record(caption: Caption, maps: Mapping[str, Float[np.ndarray, "_ rows cols"]], path: str) -> dict[str, Any]:
    """A caption with its maps and numbers. Raises: ArgumentError, not as many of them as words."""
    words = [str(word) for word in caption.words]
    numbers = {"sure": caption.probabilities, "gate": caption.gate, "sentinel": caption.sentinel}
    for name, values in numbers.items():
        if values is not None and len(values) != len(words):
            raise ArgumentError(name, f"of {path} holds {len(values)} numbers for {len(words)} words")
    return {
        "caption": caption.text,
        "direction": direction(" ".join(words)),
        "words": words,
        "note": f"log p {caption.log_prob:.2f}".replace("-", "\u2212"),
        "maps": [map_record(name, alphas, len(words)) for name, alphas in maps.items()],
        **{name: [_finite(float(value), 4) for value in values] for name, values in numbers.items() if values is not None},
    }


def map_record(name: str, alphas: Float[np.ndarray, "words rows cols"], words: int) -> dict[str, Any]:
    """Maps in 255 steps of each word's own peak. Raises: ArgumentError, not as many maps as words."""
    if len(alphas) != words:
        raise ArgumentError(name, f"holds {len(alphas)} maps for {words} words")
    weights = np.clip(np.nan_to_num(alphas.astype(np.float64)), 0, None)
    peaks = weights.max(axis=(1, 2), initial=0.0)
    steps = np.round(weights * (255 / np.where(peaks > 0, peaks, 1))[:, None, None]).astype(np.uint8)
    rows, cols = alphas.shape[1:]
    data = base64.b64encode(steps.tobytes()).decode()
    return {
        "name": NAMES.get(name, name[:1].upper() + name[1:].replace("_", " ")),
        "rows": rows,
        "cols": cols,
        "peaks": [float(f"{peak:.4g}") for peak in peaks],
        "data": data,
    }


def index_page(title: str, cards: Sequence[str], entries: Sequence[Mapping[str, Any]], files: Sequence[str], aspect: float) -> str:
    """The page from its parts; `files` are the stems of `index_files/` where entries are not in the page, `aspect` is the thumbnails'
    frame's width over its height."""
    parts = Path(__file__).parent
    style, script = ((parts / name).read_text(encoding="utf-8") for name in ("gallery.css", "gallery.js"))
    count = "1 image" if len(cards) == 1 else f"{len(cards):,} images"
    colours = base64.b64encode(heat_colours().tobytes()).decode()
    data = {"entries": list(entries), "files": list(files), "colours": colours, "full": FULL_SCALE, "opacity": OPACITY, "count": count}
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (EARLY, script)]
    filled = {
        "title": html.escape(title),
        "count": count,
        "aspect": f"{aspect:.3f}",
        "style": style,
        "cards": "\n".join(f"<li>{card}</li>" for card in cards),
        "data": json_for_script(data),
        "script": script,
        "early": EARLY,
        "hashes": " ".join(f"'sha256-{digest}'" for digest in digests),
        "also": " 'self' file:" if files else "",
    }
    template = (parts / "gallery.html").read_text(encoding="utf-8")
    return re.sub(r"<<(\w+)>>", lambda slot: filled[slot[1]], template)


def json_for_script(value: Any) -> str:
    """JSON that may stand inside a script element: no `<`, `>`, `&`, no line separators, no lone surrogates left bare."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def encode_picture(image: Image.Image, longest: int, quality: int) -> tuple[bytes, str]:
    """(bytes, ending) of a copy no longer than `longest` pixels: JPEG, or PNG for pictures of up to 256 pixels."""
    copy = image.convert("RGB")
    copy.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    if max(image.size) <= 256:
        copy.save(buffer, "PNG")
        return buffer.getvalue(), "png"
    copy.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue(), "jpg"


def crop_to_thumbnail(image: Image.Image) -> Image.Image:
    """The middle of a picture more than twice as long as wide: all that a thumbnail's frame shows."""
    width, height = min(image.width, 2 * image.height), min(image.height, 2 * image.width)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _card_html(entry: Entry, thumbnail: str) -> str:
    caption = html.escape(entry.caption.text) or "<em>(no words)</em>"
    path, also = html.escape(entry.path), html.escape(" ".join([entry.path, *entry.references]))
    scores = {name: _finite(float(value), 4) for name, value in entry.scores.items() if math.isfinite(value)}
    return (
        f'<button class="card" type="button" data-also="{also}" data-scores="{html.escape(json.dumps(scores))}">'
        f'<img src="{thumbnail}" alt="" decoding="async" loading="lazy">'
        f'<span class="said" dir="{direction(entry.caption.text)}">{caption}</span>'
        f'<span class="file" dir="auto" title="{path}">{html.escape(Path(entry.path).name)}</span></button>'
    )


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{'jpeg' if kind == 'jpg' else kind};base64,{base64.b64encode(data).decode()}"


def _stem(number: int) -> str:
    return f"{number + 1:04d}"


def _finite(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def _format_number(value: float) -> str:
    return f"{value:.3g}".replace("-", "\u2212") if isinstance(value, int) or abs(value) < 1e6 else f"{value:.3e}"
