"""The record of a caption, and the maps of its words that drawings take."""

import math

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from PIL import Image

from captioner.box import scaled_box
from captioner.caption import Caption, WordMaps

ALPHAS = np.full((2, 3, 5), 1 / 15, np.float32)
PHOTO = Image.new("RGB", (40, 30))


def caption(**changes):
    fields = {"text": "a dog", "words": ["a", "dog"], "log_prob": -1.75, "log_probs": [-0.5, -1.0], "end_log_prob": -0.25, "score": -0.6}
    return Caption(**{**fields, "alphas": ALPHAS, "box": (20.0, 0.0, 60.0, 60.0), "width": 80, "height": 60, "image": PHOTO, **changes})


@pytest.mark.parametrize("name", ["alphas", "probabilities", "gate", "sentinel", "heads"])
@pytest.mark.parametrize("entries", [1, 3])
def test_what_does_not_hold_one_entry_per_word_is_refused_by_name(name, entries):
    """While tests run, jaxtyping refuses an array sooner, by its annotation."""
    wrong = {"alphas": np.zeros((entries, 3, 5)), "heads": np.zeros((entries, 4, 3, 5))}.get(name, [0.5] * entries)
    with pytest.raises((ValueError, TypeCheckError), match=name):
        WordMaps(PHOTO, ["a", "dog"], box=(0.0, 0.0, 40.0, 30.0), **{"alphas": ALPHAS, name: wrong})


def test_the_maps_of_another_explanation_keep_the_words_and_leave_out_what_is_attention_s():
    maps = WordMaps(PHOTO, ["a", "dog"], ALPHAS, (0.0, 0.0, 40.0, 30.0), [0.5, 0.25], [0.1, 0.2], [0.3, 0.4], ALPHAS[:, None])
    other = maps.with_alphas(np.zeros((2, 7, 7)))
    assert other.alphas.shape == (2, 7, 7)
    assert (other.image, other.words, other.box, other.probabilities) == (maps.image, maps.words, maps.box, maps.probabilities)
    assert other.gate is other.sentinel is other.heads is None


def test_a_caption_s_maps_lie_on_its_image_where_that_is_kept_at_a_smaller_scale():
    maps = caption().maps
    assert maps.box == (10.0, 0.0, 30.0, 30.0) == scaled_box((20.0, 0.0, 60.0, 60.0), (80, 60), (40, 30))
    assert maps.probabilities == pytest.approx([math.exp(-0.5), math.exp(-1.0)])


def test_a_caption_without_its_image_has_probabilities_but_no_maps_to_draw():
    bare = caption(image=None)
    assert bare.probabilities == pytest.approx([math.exp(-0.5), math.exp(-1.0)])
    with pytest.raises(ValueError, match="made without its image"):
        _ = bare.maps
