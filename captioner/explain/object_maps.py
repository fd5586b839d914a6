"""Object words of captions with the maps of these words: what `grounding` scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from captioner.data.object_words import PhraseFinder
from captioner.explain.explanation import Explanation
from captioner.explain.grounding import Place, Word
from captioner.maps.pointing import inside
from captioner.model import Captioner
from captioner.records import AttentionMode, grid_size
from captioner.vocabulary import Vocabulary

NOTHING = "naming nothing in the image"
OUTSIDE = "of objects outside what the model sees"
UNKNOWN = "unknown to the model"

Phrase = tuple[int, int, str, tuple[int, ...]]
"""(first word, the word after the last, category, objects)."""


class NamedPhrases(NamedTuple):
    """A caption of one image, and the phrases in it that can be scored."""

    image: Any
    tokens: list[str]
    phrases: list[Phrase]


def find_phrases(
    image: Any, tokens: list[str], place: Place, names: PhraseFinder, vocabulary: Vocabulary, left_out: Counter[str]
) -> NamedPhrases:
    """Phrases whose noun the model knows and whose objects it sees; the others are counted in `left_out` by the reason."""
    kept = []
    for first, stop, category, objects in names(image, tokens):
        if not objects:
            left_out[NOTHING] += 1
        elif not visible(place, objects):
            left_out[OUTSIDE] += 1
        elif tokens[stop - 1] not in vocabulary:
            left_out[UNKNOWN] += 1
        else:
            kept.append((first, stop, category, tuple(objects)))
    return NamedPhrases(image, tokens, kept)


def visible(place: Place, objects: Sequence[int]) -> bool:
    """Whether a pixel that the model sees lies in one of the boxes."""
    left, top, right, bottom = (round(edge) for edge in place.box)
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
    return bool(inside(x, y, [place.things[index].box for index in objects]).any())


def words_with_maps(caption: NamedPhrases, maps: Float32[np.ndarray, "words rows cols"]) -> list[Word]:
    return [Word(caption.image, category, objects, maps[first:stop].copy()) for first, stop, category, objects in caption.phrases]


@torch.no_grad()
def attention_maps(
    captioner: Captioner, prepared: Float[Tensor, "images 3 height width"], captions: Sequence[Sequence[Sequence[str]]]
) -> list[list[Float32[np.ndarray, "_ rows cols"]]]:
    """Of each caption (a list of tokens) of each image, all in one pass: a map a word, where the model looks when made to say it."""
    regions = captioner.encode(prepared.to(captioner.device))
    ids_of_captions = [[captioner.vocabulary.encode(tokens) for tokens in of_image] for of_image in captions]
    ids = torch.zeros(
        len(ids_of_captions),
        max(map(len, ids_of_captions)),
        max(len(row) for of_image in ids_of_captions for row in of_image),
        dtype=torch.long,
    )
    for image, of_image in enumerate(ids_of_captions):
        for caption, row in enumerate(of_image):
            ids[image, caption, : len(row)] = torch.tensor(row)
    ids = ids.to(captioner.device)
    alphas = captioner.decoder.rollout(regions, ids, torch.full_like(ids[..., 0], AttentionMode.SAMPLE)).record.alphas
    grids = alphas.unflatten(-1, grid_size(regions.cells)).float().cpu().numpy()
    return [[grids[i, k, : len(row) - 2] for k, row in enumerate(of_image)] for i, of_image in enumerate(ids_of_captions)]


def maps_of_explanation(
    explanation: Explanation, captioner: Captioner, image: Float[Tensor, "3 height width"], tokens: Sequence[str]
) -> Float32[np.ndarray, "_ rows cols"]:
    return explanation.maps(captioner, image, torch.tensor(captioner.vocabulary.encode(tokens)))


def object_words(
    captioner: Captioner,
    prepared: Float[Tensor, "images 3 height width"],
    captions: Sequence[Sequence[NamedPhrases]],
    explanations: Mapping[str, Explanation],
) -> dict[str, list[list[Word]]]:
    """By the explanation's name, each image's words. `attention` is worked out for all captions at once."""
    with_phrases = [[caption for caption in of_image if caption.phrases] for of_image in captions]
    if not any(with_phrases):
        return {name: [[] for _ in with_phrases] for name in explanations}
    captioner.eval()
    found = {}
    for name, explanation in explanations.items():
        if name == "attention":
            maps = attention_maps(captioner, prepared, [[caption.tokens for caption in of_image] for of_image in with_phrases])
        else:
            pairs = zip(prepared, with_phrases, strict=True)
            maps = [
                [maps_of_explanation(explanation, captioner, image, caption.tokens) for caption in of_image] for image, of_image in pairs
            ]
        both = zip(with_phrases, maps, strict=True)
        found[name] = [
            [word for s, m in zip(of_image, of_maps, strict=True) for word in words_with_maps(s, m)] for of_image, of_maps in both
        ]
    return found
