"""Networks that are cut above a stage, and the joined maps of several stages."""

import pytest
import torch
from torch import nn

from captioner.encoders.trunk import Trunk
from captioner.errors import ArgumentError

IMAGES = torch.randn(2, 3, 96, 64)


def trunk(name: str, features: int, **chosen: object) -> Trunk:
    torch.manual_seed(0)
    return Trunk(name, features, weights=None, **chosen).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "features", "last", "inside"),
    [
        ("mobilenet_v2", 96, "13", "features.13"),
        ("resnet18", 256, 3, "layer3"),
        ("vgg16", 256, "conv3", "features.16"),
        ("swin_t", 192, 3, "features.3"),
    ],
)
def test_a_cut_network_gives_what_the_whole_one_has_inside(name: str, features: int, last: str | int, inside: str) -> None:
    cut = trunk(name, features, cut=last)
    whole = trunk(name, {"mobilenet_v2": 1280, "resnet18": 512, "vgg16": 512, "swin_t": 768}[name])
    missing = cut.load_state_dict(whole.state_dict(), strict=False)
    assert not missing.missing_keys
    seen = []
    whole.trunk.get_submodule(inside).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        whole(IMAGES)
        regions = cut(IMAGES).features
    maps = seen[0].permute(0, 3, 1, 2) if name == "swin_t" else seen[0]
    assert torch.equal(regions, maps.flatten(2).mT)
    assert cut.stride == 96 // maps.shape[2]
    assert sum(p.numel() for p in cut.parameters()) < sum(p.numel() for p in whole.parameters())
    assert cut.stages == whole.stages[: len(cut.stages)]


def test_joined_stages_lie_on_the_grid_of_the_finest_and_the_coarser_are_interpolated() -> None:
    joined, fine, coarse = trunk("resnet18", 768, stages=[16, 32]), trunk("resnet18", 256, cut="layer3"), trunk("resnet18", 512)
    fine.load_state_dict(coarse.state_dict(), strict=False)
    joined.load_state_dict(coarse.state_dict())
    with torch.no_grad():
        regions, finest, maps = joined(IMAGES), fine(IMAGES).features, coarse(IMAGES).features.mT.unflatten(2, (3, 2))
    assert joined.stride == 16
    assert torch.equal(regions.features[..., :256], finest)
    # the centre of a coarse cell's first quarter lies a quarter of a cell before its own centre
    between = regions.features[..., 256:].mT.unflatten(2, (6, 4))
    vertical = 0.75 * maps[:, :, 1] + 0.25 * maps[:, :, 0]
    torch.testing.assert_close(between[:, :, 2, 1], 0.75 * vertical[:, :, 0] + 0.25 * vertical[:, :, 1], atol=1e-5, rtol=1e-4)


def test_what_lies_above_the_joined_stages_is_cut_off() -> None:
    joined = trunk("mobilenet_v2", 96 + 32, stages=[8, 16])
    assert joined.stages[-1] == "13"
    assert isinstance(joined.trunk.get_submodule("features.18"), nn.Identity)


@pytest.mark.parametrize(
    ("name", "chosen", "message"),
    [
        ("resnet18", {"stages": [64]}, "stages are .* the network has 4, 8, 16, 32, not 64"),
        ("resnet18", {"stages": [16, 16]}, "stages are different strides"),
        ("vit_b_32", {"stages": [32]}, "gives tokens, not maps, not 32"),
        ("resnet18", {"cut": "layer9"}, "cut is the last stage .* stem, layer1"),
        ("resnet18", {"cut": "layer3"}, "features of resnet18 must be 256, not 7"),
    ],
)
def test_stages_that_a_network_does_not_have_are_refused_by_name(name: str, chosen: dict[str, object], message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        trunk(name, 7, **chosen)
    assert error.match(message) or message in f"{error.value.name} {error.value}"
