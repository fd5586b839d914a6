"""Boxes of words: those of the batch are those of its captions, in what the model sees."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.data.boxes import WordBoxes
from captioner.data.cache import open_or_build
from captioner.data.captions import CaptionSet
from captioner.data.dataset import CaptionDataset, collate
from captioner.data.instances import Instance
from captioner.data.object_words import category_phrases
from captioner.data.transforms import Transform
from captioner.encoders.encoder import as_regions
from captioner.errors import InputError
from captioner.vocabulary import Vocabulary

SAID = [["a dog", "a cat and two dogs"], ["nothing here"], ["the hot dog of a dog", "dogs", "a bird"], [], ["a dog"]]
SIZES = {10: (40, 20), 20: (10, 10), 30: (20, 20), 40: (10, 10)}
SQUASH = Transform((6, 8), fit="squash")


def thing(category, *box):
    return Instance(category, tuple(map(float, box)), False, None)


THINGS = {
    10: [thing("dog", 0, 0, 10, 10), thing("cat", 20, 5, 10, 10), thing("dog", 30, 10, 10, 10)],
    20: [thing("dog", 0, 0, 5, 5)],
    30: [thing("dog", 4, 2, 8, 16), thing("hot dog", 10, 10, 10, 10)],
    40: [],
}
"""Image 50 is not in the file."""


@pytest.fixture
def captions(tmp_path: Path) -> CaptionSet:
    for image in range(5):
        Image.new("RGB", SIZES.get(10 * (image + 1), (9, 9))).save(tmp_path / f"{image}.png")
    return CaptionSet(tmp_path, [f"{image}.png" for image in range(5)], [10, 20, 30, 40, 50], SAID)


def boxes(captions, transform=SQUASH, **options):
    return WordBoxes(captions, THINGS, SIZES, category_phrases(THINGS), transform, **options)


def listed(box_targets):
    """Rows as ((image, caption, step), box in hundredths), in order."""
    pairs = zip(box_targets.words.tolist(), (100 * box_targets.boxes).round().int().tolist(), strict=True)
    return sorted((tuple(words), tuple(box)) for words, box in pairs)


def dataset(captions, transform=SQUASH, max_words=None, **options):
    words = Vocabulary.count(captions.tokens(), 1)
    return CaptionDataset(captions, words, transform, boxes=boxes(captions, transform, max_words=max_words), max_words=max_words, **options)


EXPECTED = {
    10: {0: [(1, (0, 0, 25, 50)), (1, (75, 50, 100, 100))], 1: [(1, (50, 25, 75, 75)), (4, (0, 0, 25, 50)), (4, (75, 50, 100, 100))]},
    30: {0: [(1, (50, 50, 100, 100)), (2, (50, 50, 100, 100)), (5, (20, 10, 60, 90))], 1: [(0, (20, 10, 60, 90))]},
}


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [2, 4, 0], [3, 1], [0]])
def test_each_word_of_a_batch_has_the_boxes_of_all_that_its_phrase_may_name(captions, order):
    batch = dataset(captions).__getitems__(order)
    expected = []
    for place, image in enumerate(order):
        for caption, rows in EXPECTED.get(10 * (image + 1), {}).items():
            expected += [((place, caption, step), box) for step, box in rows]
    assert listed(batch.box_targets) == sorted(expected)
    steps = batch.captions.shape[2] - 1
    assert all(0 <= step < steps for (_, _, step), _ in listed(batch.box_targets))


def test_joined_batches_have_the_aims_of_the_whole(captions):
    items = dataset(captions)
    assert listed(collate([items[i] for i in range(5)]).box_targets) == listed(items.__getitems__(list(range(5))).box_targets)
    plain = CaptionDataset(captions, Vocabulary.count(captions.tokens(), 1), SQUASH)
    assert collate([plain[0], plain[2]]).box_targets is None


def test_captions_drawn_in_training_bring_their_own_aims(captions):
    items = dataset(captions, train=True, captions_per_image=1)
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        batch = items[0]
        words = [items.vocabulary.words[word] for word in batch.captions[0, 0].tolist()]
        chosen = 0 if len(words) == 4 else 1
        seen.add(chosen)
        assert listed(batch.box_targets) == sorted(((0, 0, step), box) for step, box in EXPECTED[10][chosen])
    assert seen == {0, 1}


def test_captions_cut_short_lose_the_aims_of_what_is_cut(captions):
    assert {step for (_, caption, step), _ in listed(dataset(captions, max_words=4)[0].box_targets) if caption == 1} == {1}


def test_boxes_are_shares_of_the_crop_that_the_model_sees(captions):
    """Of 40 x 20 pixels the square one is 10..30: one dog is outside, the other begins at its edge, the cat is whole."""
    found = listed(dataset(captions, Transform(8, fit="crop"))[0].box_targets)
    assert found == [((0, 1, 1), (50, 25, 100, 75))]


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("held", [False, True])
def test_boxes_follow_random_crops_and_mirrorings(tmp_path, fit, held):
    """A white rectangle is looked for in the pixels of the view, to a pixel of the model's 64; what cannot be seen has no box."""
    torch.manual_seed(0)
    drawn = Image.new("RGB", (150, 100))
    drawn.paste((255, 255, 255), (20, 30, 60, 90))
    drawn.save(tmp_path / "a.png")
    captions = CaptionSet(tmp_path, ["a.png"], [1], [["a dog"]])
    transform = Transform(64, fit=fit, mean=(0, 0, 0), std=(1, 1, 1), augment=True, crop_scale=(0.2, 1.0))
    things = {1: [thing("dog", 20, 30, 40, 60)]}
    of_words = WordBoxes(captions, things, {1: (150, 100)}, category_phrases(things), transform)
    data = CaptionDataset(captions, Vocabulary.count(captions.tokens(), 1), transform, train=True, boxes=of_words, hold_in_memory=held)
    mirrored = unseen = compared = 0
    for _ in range(60):
        batch = data[0]
        white = batch.images[0, 0] > 0.5
        if not len(batch.box_targets.boxes):
            unseen += 1
            assert white.sum() <= 64
            continue
        left, top, right, bottom = (64 * batch.box_targets.boxes[0].clamp(0, 1)).tolist()
        mirrored += left > 32
        if min(right - left, bottom - top) < 2:  # less than interpolation blurs
            continue
        rows, cols = (white.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
        seen = [min(cols), min(rows), max(cols) + 1, max(rows) + 1]
        assert seen == pytest.approx([left, top, right, bottom], abs=1.6)
        compared += 1
    assert mirrored > 5
    assert compared > 25


def test_boxes_are_mirrored_with_cached_regions_of_mirrored_images(captions, tmp_path):
    transform = Transform((6, 8), fit="squash", augment=True, flip=0.5, crop_scale=(1.0, 1.0))

    def encode(images):
        return as_regions(images.mean(1, keepdim=True))

    for image, name in enumerate(captions.names):  # dark on the left, so that the view can be told
        width, height = SIZES.get(10 * (image + 1), (9, 9))
        Image.linear_gradient("L").rotate(90).resize((width, height)).convert("RGB").save(captions.root / name)
    store = open_or_build(tmp_path / "store", captions, transform, encode, {}, "none", views=2)
    data = dataset(captions, transform, train=True, features=store)
    torch.manual_seed(1)
    for _ in range(10):
        batch = data.__getitems__([0, 2])
        first = batch.images.features[:, :, 0].unflatten(1, (6, 8))
        flipped = first[:, :, 0].mean(1) > first[:, :, -1].mean(1)
        flipped = flipped if store.regions(np.array([0])).features[0, 0, 0] < store.regions(np.array([0])).features[0, 7, 0] else ~flipped
        cat = [box for (image, caption, step), box in listed(batch.box_targets) if (image, caption, step) == (0, 1, 1)]
        assert cat == [(25, 25, 50, 75) if flipped[0] else (50, 25, 75, 75)]


def test_what_cannot_be_followed_is_refused(captions):
    sizes = {image: size for image, size in SIZES.items() if image != 30}
    with pytest.raises(InputError, match="no width and height of image 30"):
        WordBoxes(captions, THINGS, sizes, category_phrases(THINGS), SQUASH)


def test_a_photo_of_another_shape_than_the_file_says_guides_no_word_and_is_named(captions, caplog):
    """At half the size it is the same picture; squashed it is not."""
    with caplog.at_level("WARNING"):
        same = WordBoxes(captions, THINGS, {**SIZES, 30: (40, 40)}, category_phrases(THINGS), SQUASH)
    assert len(same.boxes) == len(boxes(captions).boxes)
    assert not caplog.messages
    with caplog.at_level("WARNING"):
        other = WordBoxes(captions, THINGS, {**SIZES, 30: (40, 20)}, category_phrases(THINGS), SQUASH)
    assert len(other.boxes) == len(boxes(captions).boxes) - len([row for rows in EXPECTED[30].values() for row in rows])
    assert "2.png: the photo has 20 x 20 pixels, and its objects were marked on one of 40 x 20" in caplog.text


def test_a_set_without_captions_has_no_aims(tmp_path):
    nothing = CaptionSet(tmp_path, ["a.png"], [10], [[]])
    found = boxes(nothing).box_targets(np.zeros((1, 1), np.int64), np.zeros((1, 1), bool))
    assert (tuple(found.words.shape), tuple(found.boxes.shape)) == ((0, 3), (0, 4))
