"""Groups of parameters, and the course of the learning rate."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn

from captioner.encoders.self_attention import SelfAttention
from captioner.encoders.small import SmallConv
from captioner.training.optimization import build_optimizer, warmup_cosine


def captioner() -> nn.Module:
    return nn.ModuleDict({"encoder": nn.Conv2d(2, 3, 5), "decoder": nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7))})


def test_matrices_decay_vectors_do_not_and_the_encoder_has_its_own_rate() -> None:
    model = captioner()
    optimizer = build_optimizer(model, torch.optim.AdamW, lr=0.3, encoder_lr=0.1, weight_decay=0.2)
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    assert len(groups) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        assert group["lr"] == (0.1 if name.startswith("encoder") else 0.3)
        assert group["weight_decay"] == (0.2 if parameter.dim() > 1 else 0.0)


def test_what_learns_on_top_of_a_trunk_learns_at_the_decoders_rate() -> None:
    encoder = SelfAttention(SmallConv(channels=(5,), kernels=(3,), strides=(2,), blocks=(0,)), features=8, heads=2, layers=1)
    model = nn.ModuleDict({"encoder": encoder, "decoder": nn.Linear(5, 7)})
    optimizer = build_optimizer(model, torch.optim.AdamW, lr=0.3, encoder_lr=0.1)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        assert rates[id(parameter)] == (0.1 if name.startswith("encoder.trunk.") else 0.3)


def test_a_frozen_parameter_stays_where_it_is_until_it_is_unfrozen() -> None:
    model = captioner()
    model["encoder"].requires_grad_(False)
    optimizer = build_optimizer(model, torch.optim.AdamW, lr=0.3, encoder_lr=0.1, weight_decay=0.2)
    before = model["encoder"].weight.detach().clone()
    for unfrozen in (False, True):
        model["encoder"].requires_grad_(unfrozen)
        optimizer.zero_grad()
        (model["decoder"](torch.ones(2, 5)).pow(2).sum() + model["encoder"](torch.ones(1, 2, 6, 6)).sum()).backward()
        optimizer.step()
        assert torch.equal(model["encoder"].weight, before) is not unfrozen


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"encoder_lr": -1.0}, {"weight_decay": -0.1}])
def test_rates_out_of_range_are_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        build_optimizer(captioner(), torch.optim.AdamW, **{"lr": 0.1, "encoder_lr": 0.1, **values})


def rates(schedule: object, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = schedule(optimizer)  # type: ignore[operator]
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return values


def test_warm_up_rises_in_a_line_and_the_cosine_falls_to_the_floor() -> None:
    values = rates(partial(warmup_cosine, epoch_steps=10, epochs=4, warmup=0.1, floor=0.25), 45)
    assert values[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert values[22] == pytest.approx(2 * (0.25 + 0.75 * 0.5))  # half way down: (22 - 4) / 36
    assert values[13] == pytest.approx(2 * (0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi / 4))))
    assert values[40:] == pytest.approx([0.5] * 5)
    assert all(later <= earlier for earlier, later in itertools.pairwise(values[3:]))


def test_a_constant_stays_after_its_warm_up() -> None:
    assert rates(partial(warmup_cosine, epoch_steps=5, epochs=2, warmup=0.4, floor=1.0), 7) == pytest.approx([0.5, 1.0, 1.5, 2, 2, 2, 2])


@pytest.mark.parametrize("values", [{"warmup": 1.5}, {"floor": -0.1}, {"epochs": 0}])
def test_schedules_out_of_range_are_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        rates(partial(warmup_cosine, **{"epoch_steps": 3, "epochs": 2, **values}), 1)
