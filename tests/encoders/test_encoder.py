"""Every encoder of conf: what it states is what it gives."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from captioner.build import build
from captioner.encoders.encoder import as_regions, base_config, grid_cells, portable, receptive_field
from captioner.records import grid_size
from captioner.training.configuration import compose_run

CONF = Path(__file__).parents[2] / "conf" / "encoder"
KINDS = sorted(path.stem for path in CONF.glob("*.yaml"))


def composed(kind: str) -> dict[str, Any]:
    whole = OmegaConf.create({"encoder": OmegaConf.load(CONF / f"{kind}.yaml")})
    if "defaults" in whole.encoder:  # made of others
        whole = compose_run([f"encoder={kind}"])
    return OmegaConf.to_container(whole, resolve=True)["encoder"]  # type: ignore[call-overload, index, return-value]


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_gives_the_features_stride_and_grid_that_it_states(kind: str) -> None:
    if kind == "timm":
        pytest.importorskip("timm", reason="the extra timm is not installed")
    config = portable(composed(kind))
    device = torch.device("cpu" if kind.startswith("regnet") else "meta")  # regnet's widths are computed with tensors
    with device, torch.no_grad():
        encoder = build(config).eval()
        regions = encoder(torch.zeros(2, 3, 64, 96)).check()
    rows, cols = 64 // encoder.stride, 96 // encoder.stride
    assert regions.features.shape == (2, rows * cols, config["features"])
    assert encoder.features == config["features"]
    assert regions.mask is None
    assert torch.equal(grid_cells(rows, cols), torch.cartesian_prod(torch.arange(rows), torch.arange(cols)).float())


@pytest.mark.parametrize("kind", ["small", "mobilenet_v3_small", "self_attention"])
def test_batching_changes_nothing(kind: str) -> None:
    encoder = build(portable(composed(kind))).eval()
    images = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        together = encoder(images).features
        apart = torch.cat([encoder(image[None]).features for image in images])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)


def test_cells_are_counted_row_by_row() -> None:
    cells = grid_cells(2, 3)
    assert cells.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert grid_size(cells) == (2, 3)


def test_a_region_is_its_cell_of_the_maps() -> None:
    maps = torch.randn(2, 5, 3, 7)
    regions = as_regions(maps)
    for region, (row, col) in enumerate(regions.cells.int().tolist()):
        assert torch.equal(regions.features[:, region], maps[:, :, row, col])


def test_the_receptive_field_of_known_stacks() -> None:
    assert receptive_field([]) == (1, 1)
    assert receptive_field([(3, 1), (3, 1)]) == (5, 1)
    vgg = [(3, 1), (3, 1), (2, 2)] * 2 + [(3, 1), (3, 1), (3, 1), (2, 2)] * 2 + [(3, 1)] * 3
    assert receptive_field(vgg) == (196, 16)  # VGG-16 at conv5_3, as published


def test_a_portable_configuration_has_no_weights_at_any_depth() -> None:
    config = {"_target_": "x", "weights": "/a/b.pth", "inside": {"weights": "default", "features": 7}, "several": [{"weights": "c"}, 3]}
    assert portable(config) == {
        "_target_": "x",
        "weights": None,
        "inside": {"weights": None, "features": 7},
        "several": [{"weights": None}, 3],
    }
    assert config["weights"] == "/a/b.pth"


def test_the_base_of_an_encoder_is_what_sees_pixels() -> None:
    plain, wrapped = composed("small"), composed("self_attention")
    assert base_config(plain) == base_config(wrapped) == base_config({"trunk": wrapped}) == plain
    images = torch.randn(2, 3, 32, 40)
    for config in (plain, wrapped):
        encoder = build(config).eval()
        assert torch.equal(encoder(images).features, encoder.finish(encoder.base(images)).features)
        assert type(encoder.base) is type(build(plain))
