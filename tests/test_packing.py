"""Tensors in fewer bits: what is lost, and what is not."""

import pytest
import torch

from captioner.errors import ArgumentError
from captioner.packing import pack, unpack


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    filters = torch.randn(7, 5, 8, 9) * torch.logspace(-3, 3, 7)[:, None, None, None]
    filters[2] = 0
    return {
        "filters": filters,
        "matrix": torch.randn(33, 40),
        "bias": torch.randn(3000),
        "small": torch.randn(2, 3),
        "count": torch.tensor(3),
    }


def test_eight_bits_lose_at_most_half_a_step_of_their_channel() -> None:
    given = tensors()
    packed = pack(given, "int8")
    found = unpack(packed)
    assert packed["filters"].dtype == packed["matrix"].dtype == torch.int8
    assert found.keys() == given.keys()
    for name in ("filters", "matrix"):
        step = given[name].flatten(1).abs().amax(1) / 127
        lost = (found[name] - given[name]).flatten(1).abs().amax(1)
        assert (lost <= 0.5001 * step).all()
        assert found[name].dtype == torch.float32
    for name in ("bias", "small", "count"):
        assert torch.equal(found[name], given[name])


def test_packing_again_loses_nothing_more() -> None:
    for kind in ("float16", "int8"):
        once = unpack(pack(tensors(), kind))
        again = unpack(pack(once, kind))
        for name, tensor in once.items():
            torch.testing.assert_close(again[name], tensor, atol=0, rtol=1e-6)


def test_a_parameter_that_is_called_scale_stays() -> None:
    given = {"norm": torch.randn(40, 40), "norm.scale": torch.randn(40), "x.scale": torch.randn(2)}
    found = unpack(pack({"norm.scale": given["norm.scale"], "x.scale": given["x.scale"]}, "int8"))
    assert torch.equal(found["norm.scale"], given["norm.scale"])
    assert torch.equal(found["x.scale"], given["x.scale"])


def test_another_kind_is_refused() -> None:
    with pytest.raises(ArgumentError, match="is one of float32, float16, int8, not 'int4'"):
        pack({}, "int4")
