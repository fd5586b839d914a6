"""What a captioner and an ensemble share, and the captions that draw themselves."""

import numpy as np
import pytest
from PIL import Image
from test_model import photos, small

from captioner import Captioner, Ensemble
from captioner.captioning import FAMILIAR, BaseCaptioner, DrawableCaption, batches

ALPHAS = np.full((2, 3, 5), 1 / 15, np.float32)


def caption(**changes):
    fields = {"text": "a dog", "words": ["a", "dog"], "log_prob": -1.75, "log_probs": [-0.5, -1.0], "end_log_prob": -0.25, "score": -0.6}
    image = {"alphas": ALPHAS, "box": (0.0, 0.0, 40.0, 30.0), "width": 40, "height": 30, "image": Image.new("RGB", (40, 30))}
    return DrawableCaption(**{**fields, **image, **changes})


def test_a_captioner_and_an_ensemble_share_one_base():
    shared = ("caption", "align", "generate", "to_caption", "set_attention_mode")
    for kind in (Captioner, Ensemble):
        assert issubclass(kind, BaseCaptioner)
        assert not kind.__abstractmethods__
        assert not vars(kind).keys() & set(shared)


def test_a_caption_without_its_image_has_no_pictures():
    bare = caption(image=None)
    for draw in (bare.overlay, bare.matrix, lambda: bare.animation("a.gif")):
        with pytest.raises(ValueError, match="made without its image"):
            draw()


def test_a_caption_and_its_alternatives_draw_themselves(tmp_path):
    whole = caption(alternatives=[caption(words=["a"], log_probs=[-0.5], alphas=ALPHAS[:1])])
    for one in (whole, *whole.alternatives):
        assert min(one.overlay(panel_width=60).size) > 60
        assert min(one.matrix().size) > 60
        one.animation(tmp_path / "a.gif", longest_side=40)
        with Image.open(tmp_path / "a.gif") as animation:
            assert animation.n_frames == 1 + len(one.words)
    with pytest.raises(ValueError, match="one head"):
        whole.heads()
    two_heads = caption(head_alphas=np.stack([ALPHAS, ALPHAS], 1))
    assert min(two_heads.heads().size) > 60


def test_the_last_batch_is_shorter_and_a_size_below_one_is_refused():
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batches("", 2)) == []
    with pytest.raises(ValueError, match="batch_size"):
        list(batches("abc", 0))


def test_a_caption_whose_words_are_less_probable_than_usual_is_marked():
    model = small()
    assert [caption.familiar for caption in model.caption(photos())] == [None] * 3
    means = sorted(caption.mean_log_prob for caption in model.caption(photos()))
    model.config[FAMILIAR] = means[1]
    found = model.caption(photos())
    assert [caption.familiar for caption in found] == [caption.mean_log_prob >= means[1] for caption in found]
    assert sum(not caption.familiar for caption in found) == 1
    caption = found[0]
    assert caption.mean_log_prob == pytest.approx((sum(caption.log_probs) + caption.end_log_prob) / (len(caption.words) + 1))
