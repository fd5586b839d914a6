"""The mode of each part of a pretrained encoder, from construction on and after every use."""

import copy
import io
from typing import Any

import pytest
import timm_stand_in
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from captioner.encoders.pretrained import PretrainedEncoder
from captioner.encoders.self_attention import SelfAttention
from captioner.encoders.timm import Timm
from captioner.encoders.trunk import Trunk

TRUNKS = {"resnet18": 512, "mobilenet_v3_small": 576, "efficientnet_b0": 1280, "convnext_tiny": 768, "vit_b_16": 768}
"""Batch norm, stochastic depth, dropout, in convolutions and transformers."""
CHOICES: dict[str, dict[str, Any]] = {
    "frozen": {},
    "partly": {"finetune_from": 3},
    "partly, statistics move": {"finetune_from": 3, "hold_statistics": False},
    "free": {"frozen": False},
    "free, statistics move": {"frozen": False, "hold_statistics": False},
}


def make_encoder(name: str, choice: str, monkeypatch: pytest.MonkeyPatch) -> PretrainedEncoder:
    arguments = CHOICES[choice]
    if name != "timm":
        with torch.device("meta"):
            return Trunk(name, TRUNKS[name], None, **arguments)
    timm_stand_in.install(monkeypatch)
    return Timm("net", 7, None, **({**arguments, "finetune_from": 1} if "finetune_from" in arguments else arguments))


def parts_in_wrong_mode(encoder: PretrainedEncoder, mode: bool = True) -> list[str]:
    """Modules in another mode than the docstring promises after `train(mode)`."""
    names = []
    smallest: dict[str, nn.Module] = {}
    for name, part in encoder.named_modules():
        around = smallest.get(name.rpartition(".")[0], encoder)
        smallest[name] = part if any(True for _ in part.parameters()) else around
        trained = any(parameter.requires_grad for parameter in smallest[name].parameters())
        promised = mode and trained and not (encoder.hold_statistics and isinstance(part, _BatchNorm))
        if name and part.training != promised:
            names.append(name)
    return names


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", [*TRUNKS, "timm"])
def test_every_part_is_in_the_mode_promised_from_construction_on(name: str, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder(name, choice, monkeypatch)
    assert parts_in_wrong_mode(encoder) == []
    assert encoder.frozen == (choice == "frozen")
    assert parts_in_wrong_mode(encoder.eval(), mode=False) == []
    assert parts_in_wrong_mode(encoder.train()) == []
    assert any(part.training for part in encoder.children()) == (choice != "frozen")


def uses(encoder: PretrainedEncoder) -> dict[str, PretrainedEncoder]:
    """The same encoder after what other code does with it."""
    file = io.BytesIO()
    torch.save(encoder, file)
    file.seek(0)
    loaded = copy.deepcopy(encoder)
    loaded.load_state_dict(encoder.state_dict())
    wrapped = SelfAttention(copy.deepcopy(encoder), features=8, layers=1, heads=2)
    again = SelfAttention(copy.deepcopy(encoder), features=8, layers=1, heads=2).eval().train()
    return {
        "copied": copy.deepcopy(encoder),
        "loaded": loaded,
        "pickled": torch.load(file, weights_only=False),
        "moved": copy.deepcopy(encoder).to(torch.float64).cpu(),
        "wrapped": wrapped.trunk,
        "wrapped, evaluated, trained": again.trunk,
        "in a container": nn.Sequential(copy.deepcopy(encoder)).train()[0],
        "each part alone": copy.deepcopy(encoder).apply(lambda part: part.train()),
    }  # type: ignore[return-value]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "timm"])
def test_every_part_keeps_its_mode_after_every_use(name: str, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    timm_stand_in.install(monkeypatch)
    arguments = {**CHOICES[choice], **({"finetune_from": 1} if name == "timm" and "finetune_from" in CHOICES[choice] else {})}
    encoder: PretrainedEncoder = Timm("net", 7, None, **arguments) if name == "timm" else Trunk(name, TRUNKS[name], None, **arguments)
    assert {use: wrong for use, used in uses(encoder).items() if (wrong := parts_in_wrong_mode(used))} == {}


@pytest.mark.parametrize("name", ["efficientnet_b0", "timm"])
@pytest.mark.parametrize("hold", [True, False])
def test_unfrozen_stages_have_the_mode_of_the_whole(name: str, hold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder(name, "frozen", monkeypatch)
    encoder.hold_statistics = hold
    for stage in reversed(encoder.stages):
        assert encoder.unfreeze(stage) != []
        assert parts_in_wrong_mode(encoder) == []
    assert encoder.eval().unfreeze(0) == []
    assert parts_in_wrong_mode(encoder, mode=False) == []


def test_a_frozen_timm_model_and_its_frozen_stages_never_move(monkeypatch: pytest.MonkeyPatch) -> None:
    timm_stand_in.install(monkeypatch)
    images = torch.randn(3, 3, 32, 48)
    for choice, moving in (({}, set()), ({"finetune_from": 1}, set()), ({"finetune_from": 1, "hold_statistics": False}, {"body"})):
        encoder = Timm("net", 7, None, **choice)
        before = {name: value.clone() for name, value in encoder.named_buffers()}
        encoder(images)
        moved = {name.split(".")[1] for name, value in encoder.named_buffers() if not torch.equal(value, before[name])}
        assert moved == moving
