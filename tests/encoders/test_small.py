"""The small encoder: the receptive field of a region, and its coordinates."""

import pytest
import torch

from captioner.encoders.small import SmallConv, coordinate_features, receptive_field
from captioner.records import grid_size

SHAPES = [
    {},
    {"channels": (5, 7, 11), "kernels": (3, 3, 3), "strides": (2, 2, 2), "blocks": (0, 1, 1)},
    {"channels": (5, 7), "kernels": (5, 4), "strides": (2, 3), "blocks": (1, 1)},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_region_depends_on_its_receptive_field_exactly(shape: dict) -> None:
    torch.manual_seed(3)
    encoder = SmallConv(**shape).eval().double()
    for parameter in encoder.parameters():  # all positive: no ReLU dies, no gradient cancels
        parameter.data.abs_()
    images = torch.rand(1, 3, 120, 132, dtype=torch.float64, requires_grad=True)
    regions = encoder(images)
    rows, cols = grid_size(regions.cells)
    middle = (rows // 2) * cols + cols // 2
    regions.features[0, middle].sum().backward()
    assert images.grad is not None
    touched = images.grad[0].abs().sum(0) > 0
    height = int(touched.any(1).sum())
    width = int(touched.any(0).sum())
    assert (height, width) == (encoder.receptive_field, encoder.receptive_field)


def test_the_receptive_field_of_known_networks() -> None:
    assert receptive_field([]) == (1, 1)
    assert receptive_field([(3, 1), (3, 1)]) == (5, 1)
    vgg = [(3, 1), (3, 1), (2, 2)] * 2 + [(3, 1), (3, 1), (3, 1), (2, 2)] * 2 + [(3, 1)] * 3
    assert receptive_field(vgg) == (196, 16)  # VGG-16 at conv5_3, as published


def test_the_default_suits_the_scenes() -> None:
    encoder = SmallConv().eval()
    assert encoder.stride == 8
    assert encoder.receptive_field is not None
    assert encoder.receptive_field <= 96 // 2
    assert grid_size(encoder(torch.zeros(1, 3, 96, 96)).cells) == (12, 12)


def test_the_grid_comes_with_the_images() -> None:
    encoder = SmallConv().eval()
    for height, width in ((64, 96), (96, 64), (40, 120)):
        assert grid_size(encoder(torch.zeros(2, 3, height, width)).cells) == (height // 8, width // 8)


def test_equal_patches_differ_only_with_coordinates() -> None:
    torch.manual_seed(0)
    images = torch.zeros(1, 3, 160, 160)
    inner = 9 * 20 + 8, 9 * 20 + 11  # two cells of the same row, far from the padding
    plain = SmallConv(coordinates=False).eval()(images).features[0]
    placed = SmallConv(coordinates=True).eval()(images).features[0]
    torch.testing.assert_close(plain[inner[0]], plain[inner[1]])
    assert not torch.allclose(placed[inner[0]], placed[inner[1]], atol=1e-3)


def test_places_are_scaled_to_the_grid_and_all_different() -> None:
    cells = torch.cartesian_prod(torch.arange(5), torch.arange(7)).float()
    places = coordinate_features(cells)
    assert places[:, :2].amin() == -1
    assert places[:, :2].amax() == 1
    assert places.abs().amax() <= 1 + 1e-6
    assert torch.cdist(places, places).add(torch.eye(35)).amin() > 0.1
    assert coordinate_features(torch.zeros(1, 2)).isfinite().all()


def test_it_can_be_trained() -> None:
    torch.manual_seed(0)
    encoder = SmallConv(channels=(5, 7))
    images = torch.randn(2, 3, 32, 48)
    encoder(images).features.square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in encoder.parameters())
    assert not encoder.frozen


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (0, 3)}, "channels"),
        ({"kernels": (3,)}, "kernels"),
        ({"kernels": (3, 3)}, "kernels"),
        ({"strides": (0, 2)}, "strides"),
        ({"blocks": (-1, 0)}, "blocks"),
        ({"features": 5}, "features"),
    ],
)
def test_bad_values_are_refused_by_name(arguments: dict, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SmallConv(**arguments)
