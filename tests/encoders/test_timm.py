"""Any timm model as an encoder; without timm, one line that says what to install."""

import sys
from pathlib import Path
from typing import Any

import pytest
import timm_stand_in
import torch
from safetensors.torch import save_file

from captioner.encoders.timm import Timm
from captioner.errors import InputError
from captioner.records import grid_size

MODELS = {
    "resnet18": (512, 32),  # maps
    "vit_tiny_patch16_224": (192, 16),  # tokens after one of a class
    "deit_tiny_distilled_patch16_224": (192, 16),  # after two
    "vit_small_patch14_dinov2": (384, 14),
    "swin_tiny_patch4_window7_224": (768, 32),  # channels last
}


@pytest.fixture
def timm() -> Any:
    return pytest.importorskip("timm", reason="the extra timm is not installed")


def test_a_missing_timm_is_one_line_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r'pip install "captioner\[timm\]"') as caught:
        Timm("resnet18", 512, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MODELS)
def test_every_form_of_output_becomes_a_grid(timm: Any, name: str) -> None:
    features, stride = MODELS[name]
    with torch.device("meta"), torch.no_grad():
        encoder = Timm(name, features, None).eval()
        regions = encoder(torch.zeros(2, 3, 2 * stride, 3 * stride)).check()
    assert encoder.stride == stride
    assert regions.features.shape == (2, 6, features)
    assert encoder.frozen


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_region_is_its_cell_of_timms_own_maps(timm: Any, name: str) -> None:
    torch.manual_seed(0)
    encoder = Timm(name, MODELS[name][0], None).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        maps = encoder.model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[-1]
        regions = encoder(images)
    rows, cols = grid_size(regions.cells)
    if name.startswith("swin"):  # its last maps, before the norm that the model ends in
        maps = encoder.model.norm(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(regions.features.transpose(1, 2).unflatten(2, (rows, cols)), maps, atol=1e-5, rtol=1e-4)


def test_weights_of_a_file_are_the_models_and_its_head_is_passed_over(timm: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t").eval()
    save_file(model.state_dict(), tmp_path / "resnet.safetensors")
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        pooled = Timm("resnet10t", 512, tmp_path / "resnet.safetensors").eval()(images).features.mean(1)
        torch.testing.assert_close(model.fc(pooled), model(images), atol=1e-4, rtol=1e-4)
    save_file({"fc.weight": torch.zeros(2), "layer9": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors.*resnet10t.*layer9"):
        Timm("resnet10t", 512, tmp_path / "other.safetensors")


def test_stages_are_unfrozen_from_the_top(timm: Any) -> None:
    encoder = Timm("resnet10t", 512, None, finetune_from=4).train()
    encoder(torch.randn(2, 3, 32, 64)).features.square().mean().backward()
    assert {name.split(".")[0] for name, parameter in encoder.model.named_parameters() if parameter.grad is not None} == {"layer4"}
    assert encoder.unfreeze("4") == []
    encoder.unfreeze(0)
    assert all(parameter.requires_grad for parameter in encoder.parameters())


def test_a_fixed_grid_pools_timms_maps(timm: Any) -> None:
    torch.manual_seed(0)
    encoder = Timm("resnet10t", 512, None).eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        mean = encoder(images).features.mean(1, keepdim=True)
        encoder.grid = 1
        torch.testing.assert_close(encoder(images).features, mean)


def test_no_download_is_one_line(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, pretrained: bool, **__: object) -> None:
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"resnet18.*service not known.*encoder\.weights=PATH.*encoder\.weights=null") as caught:
        Timm("resnet18", 512)
    assert "\n" not in str(caught.value)


def test_what_timm_or_the_model_does_not_take_is_named(timm: Any) -> None:
    with torch.device("meta"):
        with pytest.raises(InputError, match="no model 'resnet_18'"):
            Timm("resnet_18", 512, None)
        with pytest.raises(ValueError, match="features of resnet10t must be 512, not 7"):
            Timm("resnet10t", 7, None)
        with pytest.raises(ValueError, match="grid"):
            Timm("resnet10t", 512, None, grid=0)
        with pytest.raises(ValueError, match="finetune_from"):
            Timm("resnet10t", 512, None, finetune_from="9")
        with pytest.raises(InputError, match=r"transform\.size.*mixer_s32_224.*64x96"):
            Timm("mixer_s32_224", 512, None)(torch.zeros(1, 3, 64, 96))


def test_images_are_held_to_those_of_timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timm_stand_in.install(monkeypatch, input_size=(3, 518, 518), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    imagenet = {"size": 224, "fit": "crop", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    untrained = Timm("net", 7, None, images=imagenet)
    assert untrained.images == imagenet
    save_file(untrained.model.state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"^images of net .* images\.mean=\[0\.5,0\.5,0\.5\] images\.std=\[0\.5,0\.5,0\.5\]$"):
        Timm("net", 7, tmp_path / "net.safetensors", images=imagenet)
    nearly = {"size": 224, "fit": "crop", "mean": [127 / 255] * 3, "std": [128 / 255] * 3}
    assert Timm("net", 7, tmp_path / "net.safetensors", images=nearly).images == {**nearly, "size": 518}


def test_a_size_that_a_model_cannot_take_is_named_with_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    timm_stand_in.install(monkeypatch)
    encoder = Timm("net", 7, None, images={"size": 64})

    def fixed(_: object) -> None:
        raise AssertionError("Input height (32) doesn't match model (64).")

    monkeypatch.setattr(encoder.model, "forward_features", fixed)
    message = r"transform\.size: timm's net takes no images of 32x48 .*; transform\.size=64 is the size that it was trained on"
    with pytest.raises(InputError, match=message):
        encoder(torch.zeros(1, 3, 32, 48))
