"""Batches of images with all their captions."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from kinds import CONF
from PIL import Image
from torch.utils.data import DataLoader

from captioner.data.cache import FeatureStore, open_or_build
from captioner.data.captions import CaptionSet
from captioner.data.dataset import CaptionDataset, collate
from captioner.data.transforms import Transform
from captioner.errors import InputError
from captioner.records import Batch, Regions
from captioner.tokenizer import tokenize
from captioner.vocabulary import Vocabulary

SAID = [["A red dog .", "The dog"], ["One cat sits on a mat ."], ["A bird", "Two birds", "Birds fly ."], [], ["x"]]


@pytest.fixture
def captions(tmp_path: Path) -> CaptionSet:
    random = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(random.integers(0, 255, (9, 11 + number, 3)).astype(np.uint8)).save(tmp_path / f"{number}.png")
    return CaptionSet(tmp_path, [f"{number}.png" for number in range(5)], [50, 40, 30, 20, 10], SAID)


def vocabulary(captions: CaptionSet) -> Vocabulary:
    return Vocabulary.count(captions.tokens(), 1)


def dataset(captions: CaptionSet, transform: Transform | None = None, **options: object) -> CaptionDataset:
    return CaptionDataset(captions, vocabulary(captions), transform or Transform((6, 8)), **options)


def said(batch: Batch, words: Vocabulary) -> list[list[list[str]]]:
    """Per image its captions, rows of nothing but padding left out."""
    for row in batch.captions.flatten(0, 1).tolist():
        length = row.index(words.end) + 1 if words.end in row else 0
        assert row[length:] == [words.pad] * (len(row) - length)
        assert length == 0 or (row[0] == words.start and words.pad not in row[:length])
    return [[words.decode(row) for row in image.tolist() if row[0] == words.start] for image in batch.captions]


def same(one: Batch, other: Batch) -> bool:
    return torch.equal(one.images, other.images) and torch.equal(one.captions, other.captions) and torch.equal(one.indices, other.indices)


def test_a_batch_holds_the_images_asked_for_with_all_their_captions(captions: CaptionSet) -> None:
    items = dataset(captions)
    batch = items.__getitems__([2, 0, 3])
    assert tuple(batch.images.shape) == (3, 3, 6, 8)
    assert batch.indices.tolist() == [2, 0, 3]
    assert tuple(batch.captions.shape) == (3, 3, 5)  # three captions at most; a red dog, <start> and <end>
    assert said(batch, items.vocabulary) == [[tokenize(caption) for caption in SAID[image]] for image in (2, 0, 3)]
    for row, image in zip(batch.images, (2, 0, 3), strict=True):
        assert torch.equal(row, items.transform.prepare(Image.open(captions.path(image)))[0])


def test_a_batch_is_its_items_joined(captions: CaptionSet) -> None:
    items = dataset(captions)
    assert same(collate([items[image] for image in range(5)]), items.__getitems__(range(5)))


@pytest.mark.parametrize("train", [False, True])
def test_holding_in_memory_changes_nothing_but_the_time(captions: CaptionSet, train: bool) -> None:
    held, read = dataset(captions, train=train, hold_in_memory=True), dataset(captions, train=train)
    for images in ([1, 3], [3, 3, 0], [0, 1, 2, 3, 4]):
        assert same(held.__getitems__(images), read.__getitems__(images))
    for number in range(5):
        captions.path(number).unlink()
    assert held.__getitems__([4, 2]).indices.tolist() == [4, 2]  # the files are not asked for again


def test_held_images_are_mirrored_anew_each_time(captions: CaptionSet) -> None:
    torch.manual_seed(0)
    transform = Transform((6, 8), augment=True, flip=0.5, crop_scale=(1, 1))
    items = dataset(captions, transform, train=True, hold_in_memory=True)
    plain = dataset(captions, transform).__getitems__([0]).images
    seen = [items.__getitems__([0]).images for _ in range(20)]
    assert any(torch.equal(view, plain) for view in seen)
    assert any(torch.equal(view, plain.flip(-1)) for view in seen)
    assert all(torch.equal(view, plain) or torch.equal(view, plain.flip(-1)) for view in seen)


def test_long_captions_are_cut_before_their_end(captions: CaptionSet) -> None:
    items = dataset(captions, max_words=2)
    assert said(items.__getitems__([1, 0]), items.vocabulary) == [[["one", "cat"]], [["a", "red"], ["the", "dog"]]]


def test_what_is_cut_is_said_with_the_longest_caption_s_image(captions: CaptionSet, caplog: pytest.LogCaptureFixture) -> None:
    dataset(captions, max_words=6)
    assert not caplog.records
    dataset(captions, max_words=2)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    expected = "2 of 7 captions have more than data.max_words=2 words and are cut there; the longest, of 6, is one of 1.png"
    assert record.message == expected


def test_a_caption_of_5000_words_does_not_make_batches_of_5000_steps_unless_asked(tmp_path: Path) -> None:
    said = [["a dog " * 2500], ["a dog"]]
    captions = CaptionSet(tmp_path, ["0.png", "1.png"], [1, 2], said)
    default = yaml.safe_load((CONF / "train.yaml").read_text())["data"]["max_words"]
    items, whole = (CaptionDataset(captions, vocabulary(captions), Transform(6), max_words=words) for words in (default, None))
    widths = [each._gather(*each._rows(np.array([0, 1]))).shape[2] for each in (items, whole)]
    assert widths == [258, 5002]


def test_fewer_captions_are_the_first_ones_or_drawn_anew_in_training(captions: CaptionSet) -> None:
    torch.manual_seed(0)
    still, train = dataset(captions, captions_per_image=2), dataset(captions, captions_per_image=2, train=True)
    assert said(still.__getitems__([2]), still.vocabulary) == [[["a", "bird"], ["two", "birds"]]]
    drawn = [said(train.__getitems__([2, 0, 3]), train.vocabulary) for _ in range(30)]
    assert {tuple(map(tuple, batch[0])) for batch in drawn} == {
        (("a", "bird"), ("two", "birds")),
        (("a", "bird"), ("birds", "fly")),
        (("two", "birds"), ("birds", "fly")),
    }
    assert all(batch[1:] == [[["a", "red", "dog"], ["the", "dog"]], []] for batch in drawn)


def test_a_set_without_any_caption_can_be_predicted_on(captions: CaptionSet) -> None:
    bare = CaptionSet(captions.root, list(captions.names), captions.image_ids, [[] for _ in range(5)])
    batch = CaptionDataset(bare, Vocabulary(["a"]), Transform(5)).__getitems__([0, 1])
    assert batch.captions.shape[:2] == (2, 1)
    assert not batch.captions.any()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_every_image_once(captions: CaptionSet, workers: int) -> None:
    loader = DataLoader(dataset(captions), 2, shuffle=True, collate_fn=collate, num_workers=workers)
    assert sorted(index for batch in loader for index in batch.indices.tolist()) == [0, 1, 2, 3, 4]


def test_unknown_words_stand_as_such(captions: CaptionSet) -> None:
    items = CaptionDataset(captions, Vocabulary(["dog"]), Transform(5))
    assert items[0].captions.tolist() == [[[1, 3, 3, 4, 2], [1, 3, 4, 2, 0]]]


@pytest.mark.parametrize(("argument", "value"), [("captions_per_image", 0), ("max_words", 0)])
def test_bad_values_are_refused_by_name(captions: CaptionSet, argument: str, value: int) -> None:
    with pytest.raises(ValueError, match=argument):
        dataset(captions, **{argument: value})


def means(pixels: torch.Tensor) -> Regions:
    """Two regions an image: its left and right halves' mean colours."""
    return Regions(pixels.unflatten(-1, (2, -1)).mean((-3, -1)).transpose(1, 2).float(), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def store(captions: CaptionSet, folder: Path, views: int, transform: Transform) -> FeatureStore:
    return open_or_build(folder, captions, transform, lambda pixels: means(pixels), {"kind": "means"}, "none", views, batch_size=2)


def test_features_stand_for_images(captions: CaptionSet, tmp_path: Path) -> None:
    transform = Transform((6, 8))
    items = dataset(captions, transform, features=store(captions, tmp_path / "store", 1, transform), train=True)
    batch, pictures = items.__getitems__([3, 1]), dataset(captions, transform).__getitems__([3, 1])
    assert torch.allclose(batch.images.check().features, means(pictures.images).features, atol=2e-3)
    assert torch.equal(batch.captions, pictures.captions)
    joined = collate([items[3], items[1]])
    assert torch.equal(joined.images.features, batch.images.features)


def test_the_mirrored_view_is_what_the_encoder_makes_of_mirrored_images(captions: CaptionSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    transform = Transform((6, 8), augment=True, flip=0.5)
    items = dataset(captions, transform, features=store(captions, tmp_path / "store", 2, transform), train=True)
    pixels = dataset(captions, transform).__getitems__([2]).images
    views = [means(pixels).features, means(pixels.flip(-1)).features]
    seen = [items.__getitems__([2]).images.features for _ in range(20)]
    told = {tuple(torch.allclose(features, view, atol=2e-3) for view in views) for features in seen}
    assert told == {(True, False), (False, True)}


def test_features_of_other_images_are_refused(captions: CaptionSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="features holds 5 images, captions 2"):
        dataset(captions.select([0, 1]), features=store(captions, tmp_path / "store", 1, Transform((6, 8))))


def test_held_images_of_scene_size_load_much_faster_than_a_small_network_trains(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), (10, 20, 30)).save(tmp_path / "a.png")
    for number in range(256):
        (tmp_path / f"{number}.png").symlink_to(tmp_path / "a.png")
    said = [["a large red square is above a small blue circle"] * 5] * 256
    captions = CaptionSet(tmp_path, [f"{number}.png" for number in range(256)], range(256), said)
    items = CaptionDataset(captions, vocabulary(captions), Transform(96), train=True, hold_in_memory=True)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        for batch in DataLoader(items, 64, shuffle=True, collate_fn=collate):
            assert len(batch.indices) == 64
        seconds.append(time.process_time() - start)
    assert 256 / min(seconds) > 2000  # images a second of the processor; 14,000 without the shape checks of the tests


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_an_image_that_cannot_be_read_is_left_out_of_its_batch(captions: CaptionSet, held: bool, train: bool) -> None:
    items = dataset(captions, hold_in_memory=held, train=train)
    expected = dataset(captions, train=train).__getitems__([0, 2, 4, 0])
    captions.path(1).write_bytes(captions.path(1).read_bytes()[:-60])
    captions.path(3).unlink()
    for _ in range(2):
        assert same(items.__getitems__([0, 1, 2, 3, 4, 0]), expected)
    with pytest.raises(InputError, match=r"1\.png: none of the 2 images of a batch can be read any longer"):
        items.__getitems__([1, 3])
