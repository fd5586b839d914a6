"""What the tests of decoders share: small grids, unequal captions, `step` repeated, draws that are the same every time."""

import pytest
import torch

from captioner.attention import readout
from captioner.records import AttentionMode, Regions, Rollout, map_tensors, stack_records


def grid(images=3, rows=2, cols=4, features=7, dtype=torch.float64, masked=False):
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).to(dtype)
    mask = None
    if masked:
        mask = torch.rand(images, rows * cols) < 0.6
        mask[:, 2] = True
    return Regions(torch.randn(images, rows * cols, features, dtype=dtype), cells, mask).check()


LENGTHS = [[2, 0, 3, 1], [5, None, 1, 4], [0, 4, 2, 3]]
"""The number of words of each caption of each image, without start and end; None where there is no
caption. Sorting captions or images by length twice does not give them back."""


def some_captions():
    captions = torch.zeros(3, 4, 7, dtype=torch.long)
    for i, row in enumerate(LENGTHS):
        for c, length in enumerate(row):
            if length is not None:
                captions[i, c, : length + 2] = torch.tensor([1, *torch.randint(3, 11, (length,)).tolist(), 2])
    return captions


def modes():
    """Every mode, also among the captions of one image."""
    return torch.tensor([AttentionMode.SAMPLE, AttentionMode.EXPECTATION, AttentionMode.ARGMAX]).repeat(4).view(3, 4)


def repeated_steps(decoder, regions, captions, mode):
    """The oracle: step after step, every caption to the end of the longest, then masked."""
    memory, state = decoder.start(regions)
    state = map_tensors(lambda leaf: leaf.expand(-1, captions.shape[1], *leaf.shape[2:]), state)
    state = state._replace(history=state.history._replace(mode=mode))
    log_probs, means, records = [], [], []
    for t in range(captions.shape[-1] - 1):
        scores, state, record = decoder.step(memory, state, captions[..., t])
        log_probs.append(scores.gather(-1, captions[..., t + 1, None])[..., 0])
        means.append(scores.mean(-1))
        records.append(record)
    mask = captions[..., 1:] != 0
    record = map_tensors(lambda leaf: leaf * mask.view(*mask.shape, *[1] * (leaf.dim() - 3)), stack_records(records, 2))
    return Rollout(torch.stack(log_probs, 2) * mask, torch.stack(means, 2) * mask, mask, mode, record)


def leaves(record, name="rollout"):
    """(name, tensor) of a nested record."""
    if isinstance(record, torch.Tensor):
        yield name, record
    elif record is not None:
        for field, leaf in zip(record._fields, record, strict=True):
            yield from leaves(leaf, f"{name}.{field}")


def assert_close(one, other, tolerance):
    mine, theirs = dict(leaves(one)), dict(leaves(other))
    assert mine.keys() == theirs.keys()
    for name, leaf in mine.items():
        assert torch.allclose(leaf.to(theirs[name].dtype), theirs[name], atol=tolerance, rtol=0), name


@pytest.fixture
def same_draws(monkeypatch):
    """Draws that depend on the weights alone: their median, and noise that depends on the index of a region."""

    def median(weights):
        return (weights.cumsum(-1) <= weights.sum(-1, keepdim=True) / 2).sum(-1, keepdim=True).clamp_max(weights.shape[-1] - 1)

    def noise(tensor):
        return tensor.copy_(1 + torch.arange(tensor.shape[-1]).mul(2.7).sin() / 2)

    monkeypatch.setattr(readout, "sample_regions", median)
    monkeypatch.setattr(torch.Tensor, "exponential_", noise)
