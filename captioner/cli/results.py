"""What `predict --out` writes: JSON lines as captions come, sheets, word images, arrays, the gallery, COCO results."""

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioner.atomic_files import atomic_file, check_writable, unwritable_error, write_atomically
from captioner.caption import Caption, WordMaps
from captioner.cli.references import References
from captioner.errors import InputError
from captioner.locks import locked_folder
from captioner.maps.animation import frames, write_animation
from captioner.maps.gallery import ATTENTION, NAMES, Entry, Gallery
from captioner.maps.heads import head_sheet
from captioner.maps.matrix import alignment_matrix
from captioner.maps.panels import HeatPanels
from captioner.maps.sheet import contact_sheet, word_images

log = logging.getLogger(__name__)

SAVE_KINDS = ("overlay", "words", "heads", "matrix", "animation", "arrays", "gallery")
PICTURE_ENDINGS = {"overlay": ".png", "heads": "_heads.png", "matrix": "_matrix.png", "animation": ".gif"}
"""How the names of an image's pictures end."""

Explanations = Mapping[str, np.ndarray]
"""(words, rows, cols) by the explanation's name, each on a grid of its own over the caption's box."""


class Results:
    """A context: `add` writes each caption as it comes; on leaving, also by an interruption, all that was added is in place."""

    def __init__(self, folder: Path, save: frozenset[str], references: References | None, title: str) -> None:
        self.folder = folder
        self.save = save
        self.references = references
        self.gallery = Gallery(folder, title) if "gallery" in save else None
        self.coco: list[dict[str, Any]] = []
        self.count = 0
        self._warned_of_heads = False
        self._open, self._whole = ExitStack(), ExitStack()

    def __enter__(self) -> "Results":
        """Raises: InputError, the folder cannot be made or written to, or another process writes there."""
        with self._open:  # what was opened is closed again where the rest cannot be
            check_writable(self.folder, "--out")
            self.folder.mkdir(parents=True, exist_ok=True)
            self._open.enter_context(locked_folder(self.folder, f"--out {self.folder}"))
            temporary = self._whole.enter_context(atomic_file(self.folder / "captions.jsonl"))
            self._lines = temporary.open("ab", buffering=0)
            self._open = self._open.pop_all()
        return self

    def add(self, path: str, name: str, caption: Caption, explanations: Explanations | None = None) -> None:
        """`explanations`: maps by name, `attention` being the caption's own; None is attention alone.

        Raises: InputError, `path` is not in the annotations (everything but results.json is written).
        """
        explanations = {ATTENTION: caption.alphas} if explanations is None else explanations
        files: dict[str, Any] = {"arrays": None, "overlay": None}
        if "arrays" in self.save:
            files["arrays"] = f"{name}.npz"
            with atomic_file(self.folder / files["arrays"], durable=False) as temporary:
                np.savez(temporary, **saved_arrays(caption, explanations))
        files |= self._draw(name, caption.text, caption.maps, explanations)
        try:
            self._lines.write(json_line(path, caption, files))
        except OSError as error:
            raise unwritable_error(self.folder / "captions.jsonl", error) from error
        self.count += 1
        if self.gallery is not None:
            self.gallery.add(gallery_entry(path, caption, explanations, self.references))
        if self.references is not None:
            image_id = self.references.image_id(path)
            if image_id is None:
                raise InputError(f"{path}: captioned, but {self.references.why_not(path)}, so results.json leaves it out")
            self.coco.append({"image_id": image_id, "caption": caption.text})

    def _draw(self, name: str, text: str, maps: WordMaps, explanations: Explanations) -> dict[str, Any]:
        """Draw what `save` names; return the names of the pictures as a line of captions.jsonl has them."""
        drawn = [picture for picture in PICTURE_ENDINGS if picture in self.save and (ATTENTION in explanations or picture == "heads")]
        if "heads" in drawn and not self._draw_heads(name, maps):
            drawn.remove("heads")
        for kind, alphas in explanations.items():
            self._draw_explanation(name, text, kind, maps if kind == ATTENTION else maps.with_alphas(alphas))
        files: dict[str, Any] = {picture: name + PICTURE_ENDINGS[picture] for picture in drawn}
        others = {kind: f"{picture_stem(name, kind)}.png" for kind in explanations if kind != ATTENTION}
        overlays = {"overlays": others} if others and "overlay" in self.save else {}
        return {"overlay": files.pop("overlay", None), **overlays, **files}

    def _draw_heads(self, name: str, maps: WordMaps) -> bool:
        """Whether there are heads to draw; the log says once that there are none."""
        if maps.heads is not None:
            self._save(name + PICTURE_ENDINGS["heads"], head_sheet(maps))
            return True
        if not self._warned_of_heads:
            self._warned_of_heads = True
            log.warning("--save heads: attention has one head here, which the contact sheet shows; nothing is written")
        return False

    def _draw_explanation(self, name: str, text: str, kind: str, maps: WordMaps) -> None:
        """The pictures of one explanation, which share its heat panels."""
        stem, panels = picture_stem(name, kind), HeatPanels(maps)
        if "overlay" in self.save:
            self._save(stem + PICTURE_ENDINGS["overlay"], contact_sheet(maps, panels=panels, **sheet_texts(text, kind)))
        if "matrix" in self.save:
            self._save(stem + PICTURE_ENDINGS["matrix"], alignment_matrix(maps))
        if "animation" in self.save:
            write_animation(self.folder / (stem + PICTURE_ENDINGS["animation"]), frames(maps, panels=panels))
        if "words" in self.save:
            for file_name, picture in word_images(maps, panels=panels):
                self._save(f"{stem}/{file_name}", picture)

    def _save(self, name: str, picture: Image.Image) -> None:
        with atomic_file(self.folder / name, durable=False) as temporary:
            picture.save(temporary, compress_level=1)

    def __exit__(self, *_: object) -> None:
        with self._open:
            self._lines.close()
            self._whole.close()  # captions.jsonl is there, whatever becomes of the rest
            self._finish()

    def _finish(self) -> None:
        if self.references is not None:
            write_atomically(self.folder / "results.json", json.dumps(self.coco, ensure_ascii=False).encode("utf-8", "backslashreplace"))
        if self.gallery is not None and len(self.gallery):
            self.gallery.write()


def check_names(inputs: list[str], names: list[str], folder: Path, save: frozenset[str], kinds: Sequence[str] = (ATTENTION,)) -> None:
    """Raises: InputError, a result would overwrite an input, or a picture of another image (`a_gradcam` or `a_matrix`, beside `a`)."""
    originals = {os.path.realpath(path): path for path in inputs}  # unlike Path.resolve, it bears links that lead in a circle
    endings = [picture_stem("", kind) + end for kind in kinds for picture, end in PICTURE_ENDINGS.items() if picture in save]
    root, of_images = os.path.realpath(folder), {name.casefold() for name in names}
    stems = [picture_stem("", kind) for kind in kinds if kind != ATTENTION] + ["_heads"] * ("heads" in save)
    stems += [f"{picture_stem('', kind)}_matrix" for kind in kinds if "matrix" in save]
    for name in names:
        for ending in endings + [".npz"] * ("arrays" in save):
            if (victim := originals.get(os.path.realpath(os.path.join(root, name + ending)))) is not None:
                raise InputError(f"--out {folder} would overwrite the input {victim}; choose another folder")
    for name in names:
        for stem in stems:
            if (name + stem).casefold() in of_images:
                raise InputError(
                    f"--explain or --save would write {name}{stem}.png of two images; caption them one at a time, or rename one"
                )


def picture_stem(name: str, kind: str) -> str:
    """The stem of the files that show one explanation."""
    return name if kind == ATTENTION else f"{name}_{kind}"


def sheet_texts(caption: str, kind: str) -> dict[str, Any]:
    """The title of an explanation's sheet, and its legend where it is not attention's."""
    if kind == ATTENTION:
        return {"title": caption}
    return {"title": f"{caption} ({NAMES.get(kind, kind.replace('_', ' '))})", "legend": ("matters less", "more")}


def saved_arrays(caption: Caption, explanations: Explanations) -> dict[str, Any]:
    """What `NAME.npz` holds: the sheet and the page can be drawn again from it without the model."""
    values: dict[str, Any] = {
        "words": np.array(caption.words, dtype=np.str_),
        "alphas": np.asarray(caption.alphas, np.float32),
        "box": np.array(caption.box, np.float64),
        "log_probs": np.array(caption.log_probs, np.float32),
    }
    others = {name: getattr(caption, name) for name in ("sentinel", "gate", "head_alphas")}
    others |= {kind: alphas for kind, alphas in explanations.items() if kind != ATTENTION}
    return values | {name: np.asarray(other, np.float32) for name, other in others.items() if other is not None}


def json_line(path: str, caption: Caption, files: Mapping[str, Any]) -> bytes:
    """A line of `captions.jsonl`. File names that are no UTF-8 keep their bytes as JSON escapes; what is not finite becomes null."""
    record = {
        "image": path,
        "caption": caption.text,
        "words": list(caption.words),
        "log_prob": caption.log_prob,
        "log_probs": list(caption.log_probs),
        "end_log_prob": caption.end_log_prob,
        "score": caption.score,
        "alternatives": [alternative_record(other) for other in caption.alternatives],
        "width": caption.width,
        "height": caption.height,
        **files,
        **satisfied_field(caption),
        **({} if caption.familiar is None else {"familiar": caption.familiar}),
    }
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"


def alternative_record(caption: Caption) -> dict[str, Any]:
    record = {"text": caption.text, "words": list(caption.words), "log_prob": caption.log_prob, "score": caption.score}
    return {**record, **satisfied_field(caption)}


def satisfied_field(caption: Caption) -> dict[str, bool]:
    """Only a caption that does not meet its constraints is marked."""
    return {} if caption.satisfied else {"satisfied": False}


def gallery_entry(path: str, caption: Caption, explanations: Explanations, references: References | None) -> Entry:
    """What the gallery shows of an image: each head's maps, too, and where there are references, what the caption scores."""
    scores = references.scores(path, caption.text) if references else {}
    return Entry(
        path,
        caption,
        {**explanations, **head_maps(caption.head_alphas)},
        references.captions(path) if references else (),
        {**scores, "log p": caption.log_prob, "score": caption.score},
    )


def head_maps(alphas: np.ndarray | None) -> Explanations:
    """Each head's maps, of (words, heads, rows, cols)."""
    return {} if alphas is None else {f"head {number}": alphas[:, number - 1] for number in range(1, alphas.shape[1] + 1)}


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
