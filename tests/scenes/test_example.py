"""One example of the drawn data set: its captions differ, or there is none."""

import random

import numpy as np

from captioner.scenes.example import write_captions
from captioner.scenes.layout import Scene, SceneObject


def test_a_scene_of_which_too_little_can_be_said_is_given_up() -> None:
    stars = [
        SceneObject("star", "red", "large", at, at, 23.0, 0.0) for at in (20.0, 48.0, 76.0)
    ]  # alike, and on a slant that no relation names
    scene = Scene(stars, np.zeros((3, 96, 96), bool), [])
    assert write_captions(random.Random(0), scene, 96) is None
