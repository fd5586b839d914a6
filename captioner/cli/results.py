"""What `predict --out` writes: JSON lines as they come, sheets, word images, arrays, the gallery, COCO results."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from captioner.cli.references import References
from captioner.errors import InputError
from captioner.files import check_writable, unwritable, whole_file, write_whole
from captioner.locks import alone
from captioner.maps.animation import frames, write_animation
from captioner.maps.gallery import NAMES, Entry, Gallery
from captioner.maps.geometry import Box, scaled_box
from captioner.maps.heads import head_sheet
from captioner.maps.matrix import alignment_matrix
from captioner.maps.sheet import contact_sheet, word_images

log = logging.getLogger(__name__)

KINDS = ("overlay", "words", "heads", "matrix", "animation", "arrays", "gallery")
PICTURES = {"overlay": ".png", "heads": "_heads.png", "matrix": "_matrix.png", "animation": ".gif"}
"""What the names of an image's pictures end in."""
ATTENTION = "attention"

TOLD = ("text", "words", "log_prob", "score", "satisfied")
"""What a line says of an alternative; that it is satisfied goes without saying, as for the caption."""

Maps = Mapping[str, np.ndarray]
"""(words, rows, cols) by the explanation's name, each on a grid of its own over the caption's box."""


@runtime_checkable
class Said(Protocol):
    """What is read of a `Caption`."""

    text: str
    words: list[str]
    log_prob: float
    log_probs: list[float]
    end_log_prob: float
    score: float
    alphas: np.ndarray
    gate: np.ndarray | None
    sentinel: np.ndarray | None
    head_alphas: np.ndarray | None
    box: tuple[float, float, float, float]
    width: int
    height: int
    alternatives: list[dict[str, Any]]
    satisfied: bool


class Results:
    """A context: `add` each caption as it comes; on leaving, also by an interruption, all that was added is in place."""

    def __init__(self, folder: Path, save: frozenset[str], references: References | None, title: str) -> None:
        self.folder = folder
        self.save = save
        self.references = references
        self.gallery = Gallery(folder, title) if "gallery" in save else None
        self.coco: list[dict[str, Any]] = []
        self.count = 0
        self.headless = False
        self._open, self._listed = ExitStack(), ExitStack()

    def __enter__(self) -> "Results":
        """Raises: InputError, the folder cannot be made or written to, or another process writes there."""
        with self._open:  # what was opened is closed again where the rest cannot be
            check_writable(self.folder, "--out")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(alone(self.folder, f"--out {self.folder}"))
            temporary = self._listed.enter_context(whole_file(self.folder / "captions.jsonl"))
            self._lines = temporary.open("ab", buffering=0)
            self._open = self._open.pop_all()
        return self

    def add(self, path: str, name: str, image: Image.Image, caption: Said, maps: Maps | None = None) -> None:
        """`maps`: explanations by name, those of attention being the caption's own and all there are where None.

        Raises: InputError, `path` is not in the annotations (everything but results.json is written).
        """
        maps = {ATTENTION: caption.alphas} if maps is None else maps
        stem = self.folder / name
        written: dict[str, Any] = {"arrays": None, "overlay": None}
        if "arrays" in self.save:
            with whole_file(stem.with_name(stem.name + ".npz"), durable=False) as temporary:
                np.savez(temporary, **arrays(caption, maps))
            written["arrays"] = f"{name}.npz"
        if "overlay" in self.save:
            for kind, found in maps.items():
                with whole_file(self.folder / f"{explained(name, kind)}.png", durable=False) as temporary:
                    overlay(image, caption, kind, found).save(temporary, compress_level=1)
            sheets = {kind: f"{explained(name, kind)}.png" for kind in maps}
            written["overlay"] = sheets.pop(ATTENTION, None)
            written |= {"overlays": sheets} if sheets else {}
        written |= self._pictures(name, image, caption, maps)
        if "words" in self.save:
            for kind, found in maps.items():
                for file_name, picture in word_images(image, caption.words, found, shown_box(image, caption)):
                    with whole_file(self.folder / explained(name, kind) / file_name, durable=False) as temporary:
                        picture.save(temporary, compress_level=1)
        try:
            self._lines.write(line(path, caption, written))
        except OSError as error:
            raise unwritable(self.folder / "captions.jsonl", error) from error
        self.count += 1
        if self.gallery is not None:
            self.gallery.add(entry(path, image, caption, maps, self.references))
        if self.references is not None:
            image_id = self.references.image_id(path)
            if image_id is None:
                raise InputError(f"{path}: captioned, but {self.references.why_not(path)}, so results.json leaves it out")
            self.coco.append({"image_id": image_id, "caption": caption.text})

    def _pictures(self, name: str, image: Image.Image, caption: Said, maps: Maps) -> dict[str, str]:
        """Head by head (once a run said to be missing where there is one head), matrices and animations; the names of attention's."""
        sure = [math.exp(log_prob) for log_prob in caption.log_probs]
        written = {}
        if "heads" in self.save and caption.head_alphas is not None:
            written["heads"] = name + PICTURES["heads"]
            with whole_file(self.folder / written["heads"], durable=False) as temporary:
                sheet = head_sheet(image, caption.words, caption.head_alphas, shown_box(image, caption), probabilities=sure)
                sheet.save(temporary, compress_level=1)
        elif "heads" in self.save and not self.headless:
            self.headless = True
            log.warning("--save heads: attention has one head here, which the contact sheet shows; nothing is written")
        for kind, found in maps.items():
            said = (image, caption.words, found, shown_box(image, caption))
            own = kind == ATTENTION
            if "matrix" in self.save:
                written |= {"matrix": name + PICTURES["matrix"]} if own else {}
                with whole_file(self.folder / f"{explained(name, kind)}{PICTURES['matrix']}", durable=False) as temporary:
                    drawn = alignment_matrix(*said, probabilities=sure, sentinel=caption.sentinel if own else None)
                    drawn.save(temporary, compress_level=1)
            if "animation" in self.save:
                written |= {"animation": name + PICTURES["animation"]} if own else {}
                write_animation(self.folder / f"{explained(name, kind)}{PICTURES['animation']}", frames(*said, probabilities=sure))
        return written

    def __exit__(self, *_: object) -> None:
        with self._open:
            self._lines.close()
            self._listed.close()  # captions.jsonl is there, whatever becomes of the rest
            self._finish()

    def _finish(self) -> None:
        if self.references is not None:
            write_whole(self.folder / "results.json", json.dumps(self.coco, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        if self.gallery is not None and len(self.gallery):
            self.gallery.write()


def overwritten(inputs: list[str], names: list[str], folder: Path, save: frozenset[str], kinds: Sequence[str] = (ATTENTION,)) -> str | None:
    """The first input that a result would overwrite, or None."""
    taken = {os.path.realpath(path): path for path in inputs}  # unlike Path.resolve, it stands links that lead in a circle
    endings = [f"{explained('', kind)}{end}" for kind in kinds for picture, end in PICTURES.items() if picture in save]
    endings += [".npz"] * ("arrays" in save)
    root = os.path.realpath(folder)
    results = (os.path.realpath(os.path.join(root, f"{name}{ending}")) for name in names for ending in endings)
    return next((taken[result] for result in results if result in taken), None)


def written_twice(names: list[str], kinds: Sequence[str], save: frozenset[str] = frozenset()) -> str | None:
    """The first name that a picture of another image would take (`a_gradcam` or `a_matrix`, beside `a`), or None."""
    taken = {name.casefold() for name in names}
    added = [explained("", kind) for kind in kinds if kind != ATTENTION] + ["_heads"] * ("heads" in save)
    added += [f"{explained('', kind)}_matrix" for kind in kinds if "matrix" in save]
    return next((name + end for name in names for end in added if (name + end).casefold() in taken), None)


def explained(name: str, kind: str) -> str:
    """The stem of the files that show one explanation."""
    return name if kind == ATTENTION else f"{name}_{kind}"


def arrays(caption: Said, maps: Maps) -> dict[str, Any]:
    """What `NAME.npz` holds: the sheet and the page can be drawn again from it without the model."""
    found = {
        "words": np.array(caption.words, dtype=np.str_),
        "alphas": np.asarray(caption.alphas, np.float32),
        "box": np.array(caption.box, np.float64),
        "log_probs": np.array(caption.log_probs, np.float32),
    }
    for name in ("sentinel", "gate", "head_alphas"):
        values = getattr(caption, name)
        if values is not None:
            found[name] = np.asarray(values, np.float32)
    return found | {kind: np.asarray(values, np.float32) for kind, values in maps.items() if kind != ATTENTION}


def overlay(image: Image.Image, caption: Said, kind: str, found: np.ndarray) -> Image.Image:
    own: dict[str, Any] = {"gate": caption.gate, "sentinel": caption.sentinel, "title": caption.text}
    other = {"title": f"{caption.text} ({NAMES.get(kind, kind.replace('_', ' '))})", "legend": ("matters less", "more")}
    sure = [math.exp(log_prob) for log_prob in caption.log_probs]
    box = shown_box(image, caption)
    return contact_sheet(image, caption.words, found, box, probabilities=sure, **(own if kind == ATTENTION else other))


def shown_box(image: Image.Image, caption: Said) -> Box:
    """The caption's box on the picture at hand: a large photo is kept at a smaller scale, while the box is in its own pixels."""
    return scaled_box(caption.box, (caption.width, caption.height), image.size)


def line(path: str, caption: Said, written: Mapping[str, Any]) -> bytes:
    """A line of `captions.jsonl`. File names that are no UTF-8 keep their bytes as JSON escapes; what is not finite becomes null."""
    record = {
        "image": path,
        "caption": caption.text,
        "words": list(caption.words),
        "log_prob": caption.log_prob,
        "log_probs": list(caption.log_probs),
        "end_log_prob": caption.end_log_prob,
        "score": caption.score,
        "alternatives": [{name: other[name] for name in TOLD if other.get(name, True) is not True} for other in caption.alternatives],
        "width": caption.width,
        "height": caption.height,
        **written,
    }
    if not caption.satisfied:
        record["satisfied"] = False
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def entry(path: str, image: Image.Image, caption: Said, maps: Maps, references: References | None) -> Entry:
    return Entry(
        path=path,
        image=image,
        caption=caption.text,
        words=caption.words,
        maps={**maps, **heads(caption.head_alphas)},
        box=shown_box(image, caption),
        probabilities=[math.exp(log_prob) for log_prob in caption.log_probs],
        gate=caption.gate,
        sentinel=caption.sentinel,
        alternatives=[alternative(other) for other in caption.alternatives],
        references=references.captions(path) if references else (),
        scores={**(references.scores(path, caption.text) if references else {}), "log p": caption.log_prob, "score": caption.score},
    )


def heads(alphas: np.ndarray | None) -> Maps:
    """Each head's maps, of (words, heads, rows, cols)."""
    return {} if alphas is None else {f"head {number}": alphas[:, number - 1] for number in range(1, alphas.shape[1] + 1)}


def alternative(other: Mapping[str, Any]) -> dict[str, Any]:
    """What the gallery takes: the maps of attention, so that it can be looked at as the caption itself."""
    shown = {name: other.get(name) for name in ("text", "words", "log_prob", "gate", "sentinel")}
    if other.get("alphas") is None:
        return shown
    return {**shown, "maps": {ATTENTION: other["alphas"]}, "probabilities": [math.exp(log_prob) for log_prob in other["log_probs"]]}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
