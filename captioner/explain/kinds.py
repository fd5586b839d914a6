"""Every explanation by its name, and the maps of several explanations for one image."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image

from captioner.data.pixels import to_rgb
from captioner.errors import ArgumentError, InputError
from captioner.explain.explanation import Explanation
from captioner.explain.names import EXPLANATIONS
from captioner.model import Captioner
from captioner.tokenizer import tokenize

KINDS: Mapping[str, Callable[[], Explanation]] = {
    name: getattr(import_module(path.rpartition(".")[0]), path.rpartition(".")[2]) for name, path in EXPLANATIONS.items()
}


def explain(
    captioner: Captioner,
    image: Image.Image,
    caption: str | Sequence[str],
    kinds: Sequence[str | tuple[str, Explanation]] = ("attention", "gradcam", "jacobian"),
) -> dict[str, Float32[np.ndarray, "words rows cols"]]:
    """Maps of each word of a caption (a sentence, or words as they are), by the explanation's name.

    Each covers the box that `captioner.transform.box(*image.size)` names, on its own grid; a map's sum is one, or zero where nothing
    supports the word. `kinds` are names, or pairs of a name and an explanation.
    Raises: InputError, no words; ArgumentError, an unknown kind.
    """
    words = tokenize(caption) if isinstance(caption, str) else list(caption)
    if not words:
        raise InputError(f"the caption {caption!r} holds no word to explain")
    chosen = dict(named_explanation(kind) for kind in kinds)
    prepared = captioner.transform.prepare(to_rgb(image))[0]
    ids = torch.tensor(captioner.vocabulary.encode(words))
    return {name: explanation.maps(captioner, prepared, ids) for name, explanation in chosen.items()}


def named_explanation(kind: str | tuple[str, Explanation]) -> tuple[str, Explanation]:
    if isinstance(kind, tuple):
        return kind
    if kind not in KINDS:
        raise ArgumentError("kinds", f"are among {', '.join(KINDS)}, not {kind!r}")
    return kind, KINDS[kind]()
