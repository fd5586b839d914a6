"""Every encoder of conf: it gives the features, stride and grid that it states."""

import pytest
import torch
from kinds import encoder_config, kinds

from captioner.build import build
from captioner.encoders.encoder import as_regions, backbone_config, grid_cells, portable_config
from captioner.errors import ArgumentError
from captioner.records import grid_size


@pytest.mark.parametrize("kind", kinds("encoder"))
def test_an_encoder_gives_the_features_stride_and_grid_that_it_states(kind: str) -> None:
    if kind == "timm":
        pytest.importorskip("timm", reason="the extra timm is not installed")
    config = portable_config(encoder_config(kind))
    device = torch.device("cpu" if kind.startswith("regnet") else "meta")  # regnet's widths are computed with tensors
    with device, torch.no_grad():
        encoder = build(config).eval()
        regions = encoder(torch.zeros(2, 3, 64, 96)).check()
    rows, cols = 64 // encoder.stride, 96 // encoder.stride
    assert regions.features.shape == (2, rows * cols, config["features"])
    assert encoder.features == config["features"]
    assert regions.mask is None
    assert torch.equal(grid_cells(rows, cols), torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).float())


@pytest.mark.parametrize("kind", ["small", "mobilenet_v3_small", "normalised", "self_attention"])
def test_batching_changes_nothing(kind: str) -> None:
    encoder = build(portable_config(encoder_config(kind))).eval()
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        batched = encoder(images).features
        single = torch.cat([encoder(image[None]).features for image in images])
    torch.testing.assert_close(batched, single, atol=1e-5, rtol=1e-4)


def test_cells_are_counted_row_by_row() -> None:
    cells = grid_cells(2, 3)
    assert cells.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert grid_size(cells) == (2, 3)


def test_a_region_is_its_cell_of_the_maps() -> None:
    maps = torch.randn(2, 5, 3, 7)
    regions = as_regions(maps)
    for region, (row, col) in enumerate(regions.cells.int().tolist()):
        assert torch.equal(regions.features[:, region], maps[:, :, row, col])


def test_a_portable_configuration_has_no_weights_at_any_depth() -> None:
    config = {"_target_": "x", "weights": "/a/b.pth", "inside": {"weights": "default", "features": 7}, "several": [{"weights": "c"}, 3]}
    assert portable_config(config) == {
        "_target_": "x",
        "weights": None,
        "inside": {"weights": None, "features": 7},
        "several": [{"weights": None}, 3],
    }
    assert config["weights"] == "/a/b.pth"


def test_the_backbone_of_an_encoder_is_what_reads_pixels() -> None:
    plain, wrapped = encoder_config("small"), encoder_config("self_attention")
    assert backbone_config(plain) == backbone_config(wrapped) == backbone_config({"trunk": wrapped}) == plain
    images = torch.randn(2, 3, 32, 40)
    for config in (plain, wrapped):
        encoder = build(config).eval()
        assert torch.equal(encoder(images).features, encoder.refine(encoder.backbone(images)).features)
        assert type(encoder.backbone) is type(build(plain))


def test_an_encoder_without_stages_has_nothing_to_unfreeze() -> None:
    encoder = build(encoder_config("small"))
    assert not encoder.stages
    with pytest.raises(ArgumentError, match="SmallConv has none, not 'layer4'"):
        encoder.unfreeze("layer4")
