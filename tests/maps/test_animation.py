"""Animations: one frame per word after the photo, of one size, in three formats."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from captioner.caption import WordMaps
from captioner.maps.animation import FORMATS, encode_animation, frames, write_animation
from captioner.maps.colours import THEMES

WORDS = ["a", "dog", "runs", "along", "the", "beach"]
ALPHAS = np.random.default_rng(0).dirichlet(np.full(35, 0.2), len(WORDS)).reshape(-1, 5, 7).astype(np.float32)


def drawn(size=(90, 70), words=6, probabilities=None, **options):
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    photo = Image.effect_noise(size, 80).convert("RGB")
    return frames(WordMaps(photo, WORDS[:words], ALPHAS[:words], box, probabilities), longest_side=120, **options)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_holds_one_frame_per_word_after_the_photo_and_repeats_for_ever(kind, tmp_path):
    path = tmp_path / f"a.{kind}"
    pictures = drawn(probabilities=[0.2] * 6)
    write_animation(path, pictures, seconds=0.5)
    with Image.open(path) as read:
        assert read.n_frames == 7
        assert read.info["loop"] == 0
        stored = [(one.convert("RGB"), one.info["duration"]) for one in ImageSequence.Iterator(read)]
    assert [round(duration) for _, duration in stored] == [1000, 500, 500, 500, 500, 500, 1000]
    for (frame, _), expected in zip(stored, pictures, strict=True):
        assert frame.size == expected.size
        assert np.abs(np.asarray(frame, int) - np.asarray(expected, int)).mean() < 12


def test_frames_that_are_alike_stay_apart():
    picture = drawn()[0]
    for kind in FORMATS:
        assert encode_animation([picture, picture, drawn()[2]], kind)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", [(200, 1000), (4000, 300), (17, 13)])
def test_frames_have_one_size_and_the_current_word_alone_is_marked(size, theme):
    pictures = drawn(size, probabilities=[0.5] * 6, theme=theme)
    assert len({one.size for one in pictures}) == 1
    assert min(one.width for one in pictures) >= 280
    places = []
    for number, picture in enumerate(pictures):
        text = np.asarray(picture)[round(max(size[1] * 120 / max(size), 1)) :]
        marked = (text == THEMES[theme].accent).all(-1)
        assert marked.any() == (number > 0)
        places.append(tuple(np.argwhere(marked).mean(0).tolist()) if number else None)
    assert len(set(places)) == len(places), "the mark moves on"


def test_what_cannot_be_drawn_is_refused_by_name():
    with pytest.raises(ValueError, match="probabilities"):
        drawn(probabilities=[0.5])
    with pytest.raises(ValueError, match="theme"):
        drawn(theme="pink")
    with pytest.raises(ValueError, match="alphas"):
        WordMaps(Image.new("RGB", (9, 9)), WORDS[:2], ALPHAS, (0.0, 0.0, 9.0, 9.0))
    with pytest.raises(ValueError, match="mp4"):
        encode_animation(drawn(words=1), "mp4")
    with pytest.raises(ValueError, match="0 and"):
        encode_animation([], "gif")
    with pytest.raises(ValueError, match="longest_side"):
        frames(WordMaps(Image.new("RGB", (9, 9)), [], ALPHAS[:0], (0.0, 0.0, 9.0, 9.0)), longest_side=0)
