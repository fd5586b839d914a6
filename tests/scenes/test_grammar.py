"""Sentences about scenes; that all of them are true is a law of tests/scenes/test_truth.py."""

import random

from captioner.scenes.grammar import write_caption
from captioner.scenes.layout import sample_scene, unseen_combinations
from captioner.tokenizer import tokenize


def test_captions_of_a_larger_image_are_drawn_too() -> None:
    rng = random.Random(5)
    scene = sample_scene(rng, "val", unseen_combinations(0), 160)
    assert scene.masks.shape == (len(scene.objects), 160, 160)
    assert 5 <= len(tokenize(write_caption(rng, scene, 160))) <= 16
