"""torchvision's vision transformers as trunks: the model's tokens, on any grid of patches."""

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

from captioner.encoders.trunk import Trunk
from captioner.encoders.vit import PatchMaps
from captioner.errors import InputError
from captioner.records import grid_size


def small(image_size: int = 24) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(image_size, patch_size=8, num_layers=3, num_heads=2, hidden_dim=12, mlp_dim=20, num_classes=5).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    return model


def tokens(model: nn.Module, images: Tensor) -> Tensor:
    """The tokens after the last norm in torchvision's forward."""
    outputs: list[Tensor] = []
    handle = model.encoder.register_forward_hook(lambda _, __, output: outputs.append(output))  # type: ignore[union-attr, operator]
    with torch.no_grad():
        model(images)
    handle.remove()
    return outputs[0]


@pytest.fixture
def vit(monkeypatch: pytest.MonkeyPatch) -> VisionTransformer:
    """torchvision's vit_b_16 is a small one in these tests."""
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: small())
    return small()


def test_maps_are_the_patches_tokens_and_the_class_token_is_left_out() -> None:
    model, images = small(), torch.randn(2, 3, 24, 24)
    with torch.no_grad():
        maps = PatchMaps(model)(images)
    assert maps.shape == (2, 12, 3, 3)
    torch.testing.assert_close(maps.flatten(2).transpose(1, 2), tokens(model, images)[:, 1:])


@pytest.mark.parametrize("size", [16, 40])
def test_other_grids_are_torchvisions_interpolation(size: int) -> None:
    model, images = small(), torch.randn(2, 3, size, size)
    other = small(size)
    other.load_state_dict(interpolate_embeddings(size, 8, model.state_dict()))
    with torch.no_grad():
        maps = PatchMaps(model)(images)
    torch.testing.assert_close(maps.flatten(2).transpose(1, 2), tokens(other, images)[:, 1:])


def test_rows_and_columns_are_not_mixed_up() -> None:
    """A map of embeddings that tell the row is interpolated along the rows alone."""
    maps = PatchMaps(small())
    rows = torch.arange(3.0).repeat_interleave(3)
    maps.encoder.pos_embedding.data[0, 1:] = rows[:, None]
    moved = maps.positions(5, 7)[0, 1:].view(5, 7, 12)
    assert torch.allclose(moved, moved[:, :1].expand_as(moved), atol=1e-6)
    torch.testing.assert_close(moved[::2, 0, 0], torch.arange(3.0))


def test_an_image_of_broken_patches_is_one_line() -> None:
    with pytest.raises(InputError, match=r"transform\.size.*8 pixels, not 24x20"):
        PatchMaps(small())(torch.zeros(1, 3, 24, 20))


def test_weights_come_by_torchvisions_names_and_the_head_is_passed_over(vit: VisionTransformer, tmp_path: Path) -> None:
    for parameter in vit.parameters():
        parameter.data.add_(0.1)
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    trunk = Trunk("vit_b_16", 12, tmp_path / "vit.safetensors").eval()
    images = torch.randn(2, 3, 16, 40)
    torch.testing.assert_close(trunk(images).features, PatchMaps(vit)(images).flatten(2).transpose(1, 2))
    assert grid_size(trunk(images).cells) == (2, 5)


def test_its_stages_are_layers_and_everything_lies_in_one(vit: VisionTransformer) -> None:
    trunk = Trunk("vit_b_16", 12, None)
    assert trunk.stages == ("patches", "layer1", "layer2", "layer3")
    names = {id(parameter): name for name, parameter in trunk.trunk.named_parameters()}
    unfrozen = [{names[id(parameter)] for parameter in trunk.unfreeze(stage)} for stage in reversed(trunk.stages)]
    assert sum(map(len, unfrozen)) == len(names)
    assert unfrozen[-1] == {"class_token", "conv_proj.weight", "conv_proj.bias", "encoder.pos_embedding"}
    assert {"encoder.ln.weight", "encoder.ln.bias"} < unfrozen[0]
    assert not trunk.frozen


def test_only_the_stages_asked_for_learn(vit: VisionTransformer) -> None:
    trunk = Trunk("vit_b_16", 12, None, finetune_from="layer3").train()
    trunk(torch.randn(2, 3, 24, 16)).features.square().mean().backward()
    trained = {name.split(".")[2] for name, parameter in trunk.trunk.named_parameters() if parameter.grad is not None}
    assert trained == {"encoder_layer_2", "weight", "bias"}
    layers = trunk.trunk.encoder.layers  # type: ignore[union-attr]
    assert [layer.training for layer in layers] == [False, False, True]  # type: ignore[union-attr, operator]


def test_a_swin_is_run_up_to_its_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    shape = {"patch_size": [4, 4], "embed_dim": 6, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 1, 3], "window_size": [2, 2]}
    model = SwinTransformer(**shape, num_classes=5).eval()  # type: ignore[arg-type]
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: copy.deepcopy(model))
    trunk = Trunk("swin_t", 48, None).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        regions = trunk(images)
        torch.testing.assert_close(model.head(regions.features.mean(1)), model(images), atol=1e-5, rtol=1e-4)
    assert grid_size(regions.cells) == (2, 3)
    unfrozen = {id(parameter) for parameter in trunk.unfreeze("7")}
    assert {id(parameter) for parameter in trunk.trunk.norm.parameters()} < unfrozen  # type: ignore[union-attr]
