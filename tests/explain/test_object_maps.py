"""Object words and their maps: all captions at once as one at a time, and what is left out by its reason."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from stand_ins import WORDS, small

from captioner.data.instances import Instance
from captioner.data.object_words import category_phrases
from captioner.explain.explanation import Attention
from captioner.explain.gradcam import GradCam
from captioner.explain.grounding import Place
from captioner.explain.object_maps import NOTHING, OUTSIDE, UNKNOWN, NamedPhrases, attention_maps, find_phrases, object_words

CAPTIONS = [[["a", "red", "dog", "runs"], ["dog"]], [["a", "ball", "on", "a", "red", "dog"]], []]


def pictures():
    noise = np.random.default_rng(3)
    return [Image.fromarray(noise.integers(0, 255, (16, 24, 3), dtype=np.uint8)) for _ in CAPTIONS]


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_the_maps_of_many_captions_at_once_are_those_of_each_alone(kind):
    model = small(kind)
    prepared = torch.stack([model.transform.prepare(image)[0] for image in pictures()])
    together = attention_maps(model, prepared, CAPTIONS)
    assert [len(of_image) for of_image in together] == [2, 1, 0]
    for image, captions, maps in zip(pictures(), CAPTIONS, together, strict=True):
        for tokens, found in zip(captions, maps, strict=True):
            assert found == pytest.approx(model.align(image, " ".join(tokens)).alphas, abs=1e-6)


def test_words_are_cut_out_of_the_maps_that_their_explanation_gives():
    model = small()
    prepared = torch.stack([model.transform.prepare(image)[0] for image in pictures()])
    tokens = CAPTIONS[1][0]
    captions = [[NamedPhrases(7, ["a", "on"], [])], [NamedPhrases(9, tokens, [(1, 2, "cup", (0,)), (4, 6, "dog", (1, 2))])], []]
    found = object_words(model, prepared, captions, {"attention": Attention(), "gradcam": GradCam()})
    for name, explanation in (("attention", Attention()), ("gradcam", GradCam())):
        assert [len(words) for words in found[name]] == [0, 2, 0]
        ball, dog = found[name][1]
        maps = explanation.maps(model, prepared[1], torch.tensor(WORDS.encode(tokens)))
        assert (ball.image, ball.category, ball.objects, dog.objects) == (9, "cup", (0,), (1, 2))
        assert ball.maps == pytest.approx(maps[1:2], abs=1e-6)
        assert dog.maps == pytest.approx(maps[4:6], abs=1e-6)
    nothing = object_words(model, prepared, [[], [], []], {"attention": Attention()})
    assert nothing == {"attention": [[], [], []]}


def test_phrases_that_cannot_be_scored_are_counted_by_their_reason():
    things = [Instance("dog", (0.0, 0.0, 5.0, 5.0), False, None), Instance("cat", (5.0, 0.0, 9.0, 9.0), False, None)]
    place = Place(24, 16, (6.0, 0.0, 24.0, 16.0), things)
    left_out = Counter()
    tokens = ["dog", "horse", "cats", "cat", "person"]
    vocabulary = type(WORDS)(["dog", "cat", "person"])
    found = find_phrases(1, tokens, place, category_phrases({1: things}), vocabulary, left_out)
    assert found.phrases == [(3, 4, "cat", (1,))]
    assert left_out == {OUTSIDE: 1, NOTHING: 2, UNKNOWN: 1}
