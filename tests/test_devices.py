"""The device of a model: the one that is named, or the one that this machine has."""

import pytest
import torch

from captioner import devices
from captioner.errors import InputError


def test_auto_is_the_default_device_and_a_named_device_is_that_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "default_device", lambda: "meta")
    assert devices.resolve_device() == torch.device("meta")
    assert devices.resolve_device("cpu") == devices.resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["warp", "cuda:99"])
def test_a_device_that_cannot_be_used_here_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"device {name} cannot be used here: ") as caught:
        devices.resolve_device(name)
    assert "\n" not in str(caught.value)
