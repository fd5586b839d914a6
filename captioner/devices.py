"""The device that a model runs on."""

import torch

from captioner.errors import InputError


def resolve_device(device: str | torch.device = "auto") -> torch.device:
    """The device of that name; `auto` is an accelerator where there is one, and else the processor.

    Raises: InputError, the device is unknown, or cannot be used here.
    """
    name = default_device() if device == "auto" else device
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise InputError(f"device {name} cannot be used here: {str(error).splitlines()[0]}") from None
    return torch.device(name)


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
