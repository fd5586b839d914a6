import pytest
import torch

from captioner.records import Memory, Regions, StepRecord, map_tensors, select_images, stack_records


def memory(images=7, mask=None):
    keys, values = torch.randn(images, 5, 2), torch.randn(images, 5, 7)
    return Memory(keys, values, torch.randn(5, 2), mask)


@pytest.mark.parametrize("images", [torch.tensor([6, 0]), slice(2)])
def test_selected_images_keep_their_tensors_and_all_cells(images):
    one, extra = memory(mask=torch.rand(7, 5) > 0.5), torch.randn(7, 7)
    regions = Regions(one.values, one.cells)
    first, (second, listed), third = select_images((one, (regions, [extra, None]), extra), images)
    assert torch.equal(first.keys, one.keys[images])
    assert torch.equal(first.mask, one.mask[images])
    assert first.cells is one.cells
    assert second.cells is one.cells
    assert second.mask is None
    assert torch.equal(second.features, regions.features[images])
    assert torch.equal(listed[0], extra[images])
    assert listed[1] is None
    assert torch.equal(third, extra[images])


def test_a_function_reaches_every_tensor_and_the_record_stays_one():
    one = memory()
    doubled = map_tensors(lambda leaf: leaf * 2, (one, None))
    assert isinstance(doubled[0], Memory)
    assert doubled[1] is None
    assert all(torch.equal(leaf, 2 * own) for leaf, own in zip(doubled[0], one, strict=True) if own is not None)


def test_what_is_no_record_is_refused():
    with pytest.raises(TypeError, match="not str"):
        map_tensors(lambda leaf: leaf, ("word",))


def test_stacking_undoes_taking_apart():
    record = StepRecord(torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4))
    steps = [map_tensors(lambda leaf, step=step: leaf[:, :, step], record) for step in range(4)]
    again = stack_records(steps, 2)
    assert torch.equal(again.alphas, record.alphas)
    assert torch.equal(again.log_prob, record.log_prob)
    assert again.gate is None
