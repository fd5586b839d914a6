"""Tensors in fewer bits, for a model that travels: half floats, or eight bits with a scale per output channel."""

from collections.abc import Mapping

import torch
from torch import Tensor

from captioner.errors import ArgumentError

SCALE = ".scale"
"""What follows the name of a tensor of eight bits in the name of its scales."""
SMALLEST = 1024
"""Tensors of fewer numbers keep all their bits: they would save nothing."""
KINDS = ("float32", "float16", "int8")


def pack(tensors: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The same tensors in fewer bits, where they are matrices or filters.

    "float16" rounds their numbers. "int8" stores w as q = round(w / s) from -127 to 127, with one s =
    max |w| / 127 per output channel (the first axis) in float32 under the name of the tensor and ".scale". Vectors,
    counters and tensors of fewer than 1,024 numbers stay as they are.
    Raises: ArgumentError, another kind.
    """
    if kind not in KINDS:
        raise ArgumentError("kind", f"is one of {', '.join(KINDS)}, not {kind!r}")
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        whole = kind == "float32" or not tensor.is_floating_point() or tensor.dim() < 2 or tensor.numel() < SMALLEST
        if whole:
            packed[name] = tensor
        elif kind == "float16":
            packed[name] = tensor.half()
        else:
            rows = tensor.float().flatten(1)  # (channels numbers)
            scale = rows.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
            packed[name] = (rows / scale[:, None]).round().to(torch.int8).view_as(tensor)
            packed[name + SCALE] = scale
    return packed


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `pack` in float32 again: w = q s."""
    unpacked: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        owner = tensors.get(name.removesuffix(SCALE))
        if name.endswith(SCALE) and owner is not None and owner.dtype == torch.int8:
            continue
        scale = tensors.get(name + SCALE)
        if tensor.dtype == torch.int8 and scale is not None and scale.shape == tensor.shape[:1]:
            unpacked[name] = tensor.float() * scale.view(-1, *[1] * (tensor.dim() - 1))
        else:
            unpacked[name] = tensor.float() if tensor.dtype == torch.float16 else tensor
    return unpacked
