"""torchvision's trunks: what is cut, what is frozen, and weights that fit or are refused."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from captioner.encoders.trunk import Trunk, trunk_names
from captioner.errors import InputError
from captioner.records import grid_size

NORMS = nn.modules.batchnorm._BatchNorm


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    for layer in model.modules():
        if isinstance(layer, NORMS):
            layer.running_mean.uniform_(-1, 1)  # type: ignore[union-attr, operator]
    return model.eval()


@pytest.fixture(scope="module")
def resnet_file(resnet: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(resnet.state_dict(), path)
    return path


def statistics(trunk: Trunk) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trunk.named_buffers()}


@pytest.mark.parametrize("ending", ["safetensors", "pth", "wrapped.pth"])
def test_weights_of_either_kind_make_torchvisions_own_features(resnet: nn.Module, resnet_file: Path, tmp_path: Path, ending: str) -> None:
    path = resnet_file
    if ending != "safetensors":
        path = tmp_path / f"weights.{ending}"
        torch.save({"state_dict": resnet.state_dict()} if ending.startswith("wrapped") else resnet.state_dict(), path)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        pooled = Trunk("resnet18", 512, str(path)).eval()(images).features.mean(1)
        torch.testing.assert_close(resnet.fc(pooled), resnet(images), atol=1e-4, rtol=1e-4)  # type: ignore[operator]


@pytest.mark.parametrize(("name", "features"), [("mobilenet_v3_small", 576), ("regnet_y_400mf", 440), ("vgg11", 512)])
def test_the_cut_runs_what_torchvision_runs_before_it_pools(name: str, features: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in ("constant_", "normal_", "kaiming_uniform_", "uniform_"):
        if name == "vgg11":  # its classifier alone takes seconds to fill, and is not used
            monkeypatch.setattr(nn.init, layer, lambda tensor, *_, **__: tensor)
    torch.manual_seed(1)
    model = torchvision.models.get_model(name, weights=None).eval()
    for parameter in model.features.parameters() if name == "vgg11" else ():  # type: ignore[union-attr, operator]
        parameter.data.normal_(0, 0.05)
    trunk = Trunk(name, features, None).eval()
    trunk.trunk.load_state_dict({key: value for key, value in model.state_dict().items() if key in trunk.trunk.state_dict()})
    pooled: list[Tensor] = []
    model.avgpool.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))  # type: ignore[union-attr]
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        model(images)
        regions = trunk(images)
    rows, cols = grid_size(regions.cells)
    maps = regions.features.transpose(1, 2).reshape(1, features, rows, cols)
    if name == "vgg11":
        assert (rows, cols) == (4, 6)
        maps = nn.functional.max_pool2d(maps, 2)
    torch.testing.assert_close(maps, pooled[0], atol=1e-4, rtol=1e-4)


def test_a_frozen_trunk_never_moves() -> None:
    trunk = Trunk("resnet18", 512, None).train()
    assert trunk.frozen
    before = statistics(trunk)
    trunk(torch.randn(3, 3, 64, 96))
    assert all(torch.equal(value, before[name]) for name, value in trunk.named_buffers())
    assert not any(layer.training for layer in trunk.trunk.modules() if isinstance(layer, NORMS))


@pytest.mark.parametrize("stage", ["layer3", 3])
@pytest.mark.parametrize("hold", [True, False])
def test_only_the_chosen_stages_are_trained(stage: str | int, hold: bool) -> None:
    trunk = Trunk("resnet18", 512, None, finetune_from=stage, hold_statistics=hold).train()
    before = statistics(trunk)
    trunk(torch.randn(3, 3, 64, 96)).features.square().mean().backward()
    for name, parameter in trunk.trunk.named_parameters():
        assert (parameter.grad is not None) == name.startswith(("layer3", "layer4")), name
    moved = {name.split(".")[1] for name, value in trunk.named_buffers() if not torch.equal(value, before[name])}
    assert moved == (set() if hold else {"layer3", "layer4"})


def test_unfreezing_later_unfreezes_that_stage_and_those_above() -> None:
    trunk = Trunk("resnet18", 512, None, hold_statistics=False).train()
    unfrozen = trunk.unfreeze("layer4")
    assert {id(parameter) for parameter in unfrozen} == {id(parameter) for parameter in trunk.trunk.layer4.parameters()}  # type: ignore[union-attr]
    assert trunk.trunk.layer4.training  # type: ignore[union-attr]
    assert not trunk.trunk.layer3.training  # type: ignore[union-attr]
    assert {id(parameter) for parameter in trunk.unfreeze("layer3")} == {id(p) for p in trunk.trunk.layer3.parameters()}  # type: ignore[union-attr]
    assert trunk.unfreeze("layer4") == []
    assert trunk.trunk.layer3.training  # type: ignore[union-attr]
    assert not trunk.eval().trunk.layer4.training  # type: ignore[union-attr]
    assert not trunk.train().trunk.layer2.training  # type: ignore[union-attr]


def test_an_unfrozen_trunk_is_trained_whole() -> None:
    trunk = Trunk("mobilenet_v3_small", 576, None, frozen=False)
    assert all(parameter.requires_grad for parameter in trunk.parameters())


def test_a_fixed_grid_pools() -> None:
    images = torch.randn(2, 3, 64, 96)
    whole = Trunk("resnet18", 512, None).eval()
    pooled = Trunk("resnet18", 512, None, grid=1).eval()
    pooled.load_state_dict(whole.state_dict())
    torch.testing.assert_close(pooled(images).features[:, 0], whole(images).features.mean(1))
    pooled.grid = 14
    assert grid_size(pooled(images).cells) == (14, 14)


def test_no_download_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(InputError, match=r"resnet18 could not be downloaded .*encoder\.weights=PATH.*encoder\.weights=null") as caught:
        Trunk("resnet18", 512)
    assert "\n" not in str(caught.value)


def test_default_weights_are_those_that_torchvision_downloads(resnet: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    old = {name: value for name, value in resnet.state_dict().items() if not name.endswith("num_batches_tracked")}
    monkeypatch.setattr("torchvision.models.ResNet18_Weights.get_state_dict", lambda *_, **__: old)
    state = Trunk("resnet18", 512).trunk.state_dict()
    assert all(torch.equal(value, old[name]) for name, value in state.items() if name in old)
    assert len(state.keys() & old.keys()) == len(old) - 2


def test_weights_that_do_not_fit_are_named(resnet: nn.Module, tmp_path: Path) -> None:
    state = dict(resnet.state_dict())
    cases = {
        "missing: layer4.1.conv2.weight": {key: value for key, value in state.items() if key != "layer4.1.conv2.weight"},
        "unexpected: layer5.weight": state | {"layer5.weight": torch.zeros(2)},
        r"of another shape: conv1.weight \[64, 1, 7, 7\] instead of \[64, 3, 7, 7\]": state | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
    }
    for number, (message, tensors) in enumerate(cases.items()):
        path = tmp_path / f"{number}.safetensors"
        save_file(tensors, path)
        with pytest.raises(InputError, match=f"{number}.safetensors.*resnet18.*{message}") as caught:
            Trunk("resnet18", 512, path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"nowhere\.pth"):
        Trunk("resnet18", 512, tmp_path / "nowhere.pth")


def test_classifier_and_counters_may_be_absent(resnet: nn.Module, tmp_path: Path) -> None:
    headless = {key: value for key, value in resnet.state_dict().items() if not key.startswith("fc.") and "num_batches" not in key}
    save_file(headless, tmp_path / "headless.safetensors")
    trunk = Trunk("resnet18", 512, tmp_path / "headless.safetensors")
    assert torch.equal(trunk.trunk.state_dict()["layer2.0.conv1.weight"], resnet.state_dict()["layer2.0.conv1.weight"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "resnet19"),
        ({"name": "alexnet"}, "alexnet"),
        ({"features": 2048}, "512, not 2048"),
        ({"grid": 0}, "grid"),
        ({"finetune_from": "layer9"}, "layer9"),
        ({"finetune_from": -1}, "-1"),
    ],
)
def test_bad_values_are_refused_with_their_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Trunk(**({"name": "resnet18", "features": 512, "weights": None} | arguments))


def test_the_promised_families_are_there() -> None:
    names = {"resnet152", "vgg19", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b7", "efficientnet_v2_s", "convnext_base"}
    assert names | {"regnet_y_400mf"} <= set(trunk_names())


def test_the_mobilenet_of_the_data_folder_gives_sane_features(real_data: Path) -> None:
    path = real_data.parent / "weights" / "mobilenet_v2_imagenet.safetensors"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    torch.manual_seed(0)
    with torch.no_grad():
        features = Trunk("mobilenet_v2", 1280, path).eval()(torch.randn(2, 3, 224, 224)).features
    assert features.shape == (2, 49, 1280)
    assert features.amin() >= 0
    assert features.amax() <= 6
    assert 0.01 < float((features > 0).float().mean()) < 0.6
