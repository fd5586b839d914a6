"""Order and random crops depend only on seed and epoch, in whichever process batches are built."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioner.data.captions import CaptionSet
from captioner.data.transforms import Transform
from captioner.records import Batch
from captioner.training import data as data_module
from captioner.training.data import CaptioningData, EpochSampler
from captioner.vocabulary import Vocabulary

IMAGES = 7


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> CaptionSet:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for image in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (31, 23, 3), dtype=np.uint8)).save(folder / f"{image}.png")
    return CaptionSet(folder, [f"{image}.png" for image in range(IMAGES)], list(range(50, 50 + IMAGES)), [["a b c", "c b", "a"]] * IMAGES)


def make_data(captions: CaptionSet, **options: object) -> CaptioningData:
    transform = Transform(size=16, augment=True, crop_scale=(0.3, 0.9))
    return CaptioningData(
        {"train": captions, "val": captions}, Vocabulary(list("abc")), transform, batch_size=3, captions_per_image=2, **options
    )


def epoch_batches(data: CaptioningData, number: int) -> list[Batch]:
    return list(data.loader("train", train=True, epoch=number))


def equal_batches(one: list[Batch], other: list[Batch]) -> bool:
    batches = zip(one, other, strict=True)
    pairs = [pair for left, right in batches for pair in zip(left[:3], right[:3], strict=True)]
    return all(left.shape == right.shape and torch.equal(left, right) for left, right in pairs)


def test_an_epoch_is_the_same_whatever_was_sampled_before_and_in_other_processes(captions: CaptionSet) -> None:
    first = epoch_batches(make_data(captions, num_workers=0), 2)
    torch.rand(5)
    assert equal_batches(first, epoch_batches(make_data(captions, num_workers=0), 2))
    assert equal_batches(first, epoch_batches(make_data(captions, num_workers=2), 2))


def test_epochs_and_seeds_differ(captions: CaptionSet) -> None:
    first = epoch_batches(make_data(captions, num_workers=0), 2)
    assert not equal_batches(first, epoch_batches(make_data(captions, num_workers=0), 3))
    assert not equal_batches(first, epoch_batches(make_data(captions, num_workers=0, seed=1), 2))


def test_loading_leaves_the_random_numbers_of_the_model_as_they_are(captions: CaptionSet) -> None:
    state = torch.get_rng_state()
    epoch_batches(make_data(captions, num_workers=0), 0)
    assert torch.equal(state, torch.get_rng_state())


def test_every_image_occurs_once_per_epoch_and_validation_keeps_the_order(captions: CaptionSet) -> None:
    data = make_data(captions)
    images = [image for batch in epoch_batches(data, 1) for image in batch.indices.tolist()]
    assert sorted(images) == list(range(7)) != images
    assert [image for batch in data.val_dataloader() for image in batch.indices.tolist()] == list(range(7))
    few = make_data(captions, validation_images=4, evaluation_batch_size=3)
    assert [batch.indices.tolist() for batch in few.val_dataloader()] == [[0, 1, 2], [3]]


@given(items=st.integers(1, 40), processes=st.integers(1, 5), number=st.integers(0, 3), shuffle=st.booleans())
def test_processes_share_an_epoch_and_repeat_only_to_be_equal(items: int, processes: int, number: int, shuffle: bool) -> None:
    shares = []
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(processes):
            patch.setattr(data_module, "_rank_and_world_size", lambda rank=rank: (rank, processes))
            sampler = EpochSampler(items, seed=5, shuffle=shuffle)
            sampler.set_epoch(number)
            shares.append(list(sampler))
            assert len(sampler) == len(shares[-1])
    tickets = [ticket for share in shares for ticket in share]
    assert {divmod(ticket, items)[0] for ticket in tickets} == {number}
    assert {ticket % items for ticket in tickets} == set(range(items))
    assert len({len(share) for share in shares}) == 1
    assert len(tickets) - items < processes


@pytest.mark.parametrize("values", [{"num_workers": -1}, {"evaluation_batch_size": 0}, {"validation_images": 0}])
def test_sizes_out_of_range_are_refused_by_name(values: dict[str, int], captions: CaptionSet) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        make_data(captions, **values)
