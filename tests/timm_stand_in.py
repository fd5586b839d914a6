"""What our encoder asks of timm, on a model of two stages: for environments without that extra."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Two convolutions with batch norm, whose second branch is dropped out, and a head."""

    num_features = 7
    feature_info: Any = SimpleNamespace(info=[{"reduction": 8}, {"reduction": 16}])

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 5, 8, 8), nn.BatchNorm2d(5), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(5, 7, 2, 2), nn.BatchNorm2d(7), nn.Dropout(0.5))
        self.fc: nn.Module = nn.Linear(7, 4)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.body(self.stem(images))

    def reset_classifier(self, classes: int) -> None:
        self.fc = nn.Identity()

    def group_matcher(self, coarse: bool) -> dict[str, int]:
        return {"stem": 0, "body": 1}


def group_parameters(model: nn.Module, matcher: dict[str, int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name, _ in model.named_parameters():
        found.setdefault(matcher[name.split(".")[0]], []).append(name)
    return found


def create_model(name: str, pretrained: bool = False) -> nn.Module:
    if pretrained:
        raise OSError("Name or service not known")
    return Net()


def install(monkeypatch: pytest.MonkeyPatch, **data_config: Any) -> None:
    """The stand-in under timm's name, whose only model is "net"; `data_config` is what its images are like."""
    config = {"input_size": (3, 64, 64), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), **data_config}
    timm, models, data = (ModuleType(name) for name in ("timm", "timm.models", "timm.data"))
    vars(timm).update(is_model=lambda name: name == "net", list_models=lambda _: ["net"], create_model=create_model, data=data)
    vars(models).update(group_parameters=group_parameters)
    vars(data).update(resolve_model_data_config=lambda _: dict(config))
    for module in (timm, models, data):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert create_model("net").forward_features(torch.zeros(1, 3, 32, 48)).shape == (1, 7, 2, 3)
