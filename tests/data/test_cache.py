"""The feature store: what it holds, and when it is not believed."""

import errno
import json
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from captioner.data.cache import FeatureStore, open_or_build, weights_hash
from captioner.data.captions import CaptionSet
from captioner.data.transforms import Transform
from captioner.errors import InputError
from captioner.records import Regions

CELLS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 0.0], [2.0, 1.0]])


class Encode:
    """Six regions of three features, and a count of the images it was asked about."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, pixels: Tensor) -> Regions:
        assert not torch.is_grad_enabled()
        self.images += len(pixels)
        return Regions(torch.nn.functional.avg_pool2d(pixels, 2).flatten(2).transpose(1, 2).contiguous(), CELLS)


@pytest.fixture
def captions(tmp_path: Path) -> CaptionSet:
    for number in range(5):
        Image.new("RGB", (4, 6), (number * 40, 10, 20)).save(tmp_path / f"{number}.png")
    return CaptionSet(tmp_path, [f"{number}.png" for number in range(5)], range(5), [["x"]] * 5)


def build(folder: Path, captions: CaptionSet, **changes: object) -> tuple[FeatureStore, int]:
    """The store, and how many images were encoded for it."""
    encode = Encode()
    options = {"transform": Transform((6, 4)), "encoder": {"kind": "pool"}, "weights": "abc", "views": 1, "batch_size": 2, **changes}
    return open_or_build(folder, captions, encode=lambda pixels: encode(pixels), **options), encode.images


def test_what_was_stored_is_what_the_encoder_gives(captions: CaptionSet, tmp_path: Path) -> None:
    store, encoded = build(tmp_path / "store", captions)
    assert encoded == len(store) == 5
    assert store.features == 3
    with torch.no_grad():
        expected = [Encode()(Transform((6, 4)).prepare(Image.open(captions.path(image)))[0][None]).features[0] for image in (4, 0)]
    regions = store.regions(np.array([4, 0])).check()
    assert torch.allclose(regions.features, torch.stack(expected), atol=2e-3)
    assert torch.equal(regions.cells, CELLS)
    assert np.load(tmp_path / "store" / "features.npy", mmap_mode="r").dtype == np.float16


def test_a_store_that_fits_is_opened_and_nothing_is_encoded(captions: CaptionSet, tmp_path: Path) -> None:
    build(tmp_path / "store", captions)
    assert build(tmp_path / "store", captions)[1] == 0
    assert build(tmp_path / "store", captions, transform=Transform((6, 4), augment=True, flip=0.1))[1] == 0  # the still view is the same


CHANGES = [
    {"encoder": {"kind": "other"}},
    {"weights": "abd"},
    {"transform": Transform((6, 4), "squash")},
    {"transform": Transform((6, 4), mean=(0, 0, 0))},
    {"views": 2},
]


@pytest.mark.parametrize("changes", CHANGES)
def test_a_store_of_something_else_is_built_again_with_the_reason(
    captions: CaptionSet, tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, object]
) -> None:
    build(tmp_path / "store", captions)
    with caplog.at_level(logging.WARNING):
        assert build(tmp_path / "store", captions, **changes)[1] >= 5
    assert f"computed again: {next(iter(changes))} changed" in caplog.text


@pytest.mark.parametrize("changes", CHANGES)
def test_a_store_of_something_else_can_be_refused(captions: CaptionSet, tmp_path: Path, changes: dict[str, object]) -> None:
    build(tmp_path / "store", captions)
    with pytest.raises(InputError, match=f"does not fit: {next(iter(changes))} changed"):
        build(tmp_path / "store", captions, stale="error", **changes)


def test_other_images_under_the_same_names_are_noticed(captions: CaptionSet, tmp_path: Path) -> None:
    build(tmp_path / "store", captions)
    Image.effect_noise((4, 6), 90).convert("RGB").save(captions.path(3))
    assert build(tmp_path / "store", captions)[1] == 5
    assert build(tmp_path / "store", captions.select([1, 0]))[1] == 2


def test_photos_that_swap_their_contents_are_noticed_though_names_sizes_and_times_stay(captions: CaptionSet, tmp_path: Path) -> None:
    one, other = (tmp_path / f"{name}.bmp" for name in "ab")
    for path, colour in ((one, "red"), (other, "blue")):
        Image.new("RGB", (4, 6), colour).save(path)
        os.utime(path, ns=(10**18, 10**18))
    pair = CaptionSet(tmp_path, ["a.bmp", "b.bmp"], [1, 2], [["x"], ["y"]])
    before, encoded = build(tmp_path / "store", pair)
    red = before.regions(np.array([0])).features.clone()
    assert encoded == 2
    first, second = one.read_bytes(), other.read_bytes()
    for path, content in ((one, second), (other, first)):
        path.write_bytes(content)
        os.utime(path, ns=(10**18, 10**18))
    after, encoded = build(tmp_path / "store", pair)
    assert encoded == 2
    assert torch.equal(after.regions(np.array([1])).features, red)


def test_the_second_view_is_of_mirrored_images(captions: CaptionSet, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 4, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(captions.path(1))
    store, encoded = build(tmp_path / "store", captions, views=2)
    assert encoded == 10
    plain = store.regions(np.array([1, 1])).features
    mixed = store.regions(np.array([1, 1]), np.array([False, True])).features
    assert torch.equal(mixed[0], plain[0])
    assert torch.allclose(mixed[1].unflatten(0, (3, 2)), plain[1].unflatten(0, (3, 2)).flip(1), atol=2e-3)


def test_a_mirrored_view_that_is_not_there_is_refused(captions: CaptionSet, tmp_path: Path) -> None:
    store, _ = build(tmp_path / "store", captions)
    with pytest.raises(ValueError, match="holds one view"):
        store.regions(np.array([1]), np.array([True]))


def test_a_store_is_whole_or_not_there(captions: CaptionSet, tmp_path: Path) -> None:
    captions.path(4).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"4\.png"):
        build(tmp_path / "store", captions)
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.glob(".store*"))


def test_a_failed_rebuild_keeps_the_old_store(captions: CaptionSet, tmp_path: Path) -> None:
    build(tmp_path / "store", captions)
    before = (tmp_path / "store" / "features.npy").read_bytes()
    captions.path(4).write_bytes(b"broken")
    with pytest.raises(InputError, match=r"4\.png"):
        build(tmp_path / "store", captions)
    assert (tmp_path / "store" / "features.npy").read_bytes() == before


@pytest.mark.parametrize("damage", ["truncate", "remove", "fingerprint"])
def test_a_damaged_store_is_one_clear_line_and_built_again(captions: CaptionSet, tmp_path: Path, damage: str) -> None:
    build(tmp_path / "store", captions)
    features = tmp_path / "store" / "features.npy"
    if damage == "truncate":
        features.write_bytes(features.read_bytes()[:150])
    elif damage == "remove":
        features.unlink()
    else:
        (tmp_path / "store" / "fingerprint.json").write_text(json.dumps({"views": "many"}))
    with pytest.raises(InputError, match="feature store is damaged"):
        FeatureStore(tmp_path / "store")
    assert build(tmp_path / "store", captions)[1] == 5


def test_a_folder_of_something_else_is_never_replaced(captions: CaptionSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not empty and no feature store"):
        build(tmp_path, captions)
    assert captions.path(0).exists()


def test_features_beyond_half_precision_are_refused(captions: CaptionSet, tmp_path: Path) -> None:
    def huge(pixels: Tensor) -> Regions:
        return Regions(torch.full((len(pixels), 6, 3), 1e6), CELLS)

    with pytest.raises(InputError, match="beyond half precision"):
        open_or_build(tmp_path / "store", captions, Transform(6), huge, {}, "", batch_size=2)


def test_any_change_of_weights_changes_their_hash() -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.ones(5)}
    changed = [
        {"a": torch.zeros(3, 2), "b": torch.ones(5)},
        {"a": torch.zeros(2, 3), "c": torch.ones(5)},
        {"a": torch.zeros(2, 3), "b": torch.ones(5).double()},
        {"a": torch.zeros(2, 3), "b": torch.tensor([1, 1, 1, 1, 1.0001])},
        {"a": torch.zeros(2, 3)},
    ]
    assert len({weights_hash(one) for one in (weights, *changed)}) == 6
    assert weights_hash(dict(reversed(weights.items()))) == weights_hash(weights)


def test_two_processes_that_want_the_same_regions_compute_them_once(captions: CaptionSet, tmp_path: Path) -> None:
    def child() -> int:
        pid = os.fork()
        if pid == 0:
            monkey = Encode.__call__
            Encode.__call__ = lambda self, pixels: time.sleep(0.2) or monkey(self, pixels)  # type: ignore[method-assign]
            _, encoded = build(tmp_path / "below" / "store", captions)
            os._exit(encoded)
        return pid

    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in [child(), child()]]
    assert sorted(codes) == [0, 5]
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["store"]


def test_a_disk_without_room_for_the_regions_is_told_before_they_are_computed(
    captions: CaptionSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"store: cannot be written, for the disk of .* is full"):
        build(tmp_path / "below" / "store", captions)
    assert list((tmp_path / "below").iterdir()) == []
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"data\.cache_folder: .*below/store cannot be written to"):
        build(tmp_path / "below" / "store", captions)
