"""EfficientNet-Lite against timm's, against published numbers, and its padding against a sum written out."""

import pytest
import torch

from captioner.encoders.efficientnet_lite import SIZES, EfficientNetLite, SameConvolution
from captioner.errors import ArgumentError

PARAMETERS = {"efficientnet_lite0": 4_652_008, "efficientnet_lite1": 5_416_680, "efficientnet_lite2": 6_092_072}
"""Of the whole models, with a classifier of 1,000 classes, as timm's table of results has them (in millions: 4.65, 5.42, 6.09)."""
CLASSIFIER = 1280 * 1000 + 1000


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_number_of_parameters_is_the_published_one(name: str) -> None:
    encoder = EfficientNetLite(name, 1280, weights=None)
    assert sum(parameter.numel() for parameter in encoder.parameters()) + CLASSIFIER == PARAMETERS[name]


@pytest.mark.parametrize("name", SIZES)
def test_regions_are_those_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm", reason="the extra timm is not installed")
    torch.manual_seed(0)
    theirs = timm.create_model(f"tf_{name}", pretrained=False).eval()
    for buffer_name, buffer in theirs.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5) if buffer_name.endswith("var") else buffer.uniform_(-0.2, 0.2)
    ours = EfficientNetLite(name, 1280, weights=None).eval()
    ours.trunk.load_state_dict({key: value for key, value in theirs.state_dict().items() if not key.startswith("classifier.")})
    images = torch.randn(2, 3, 97, 130)
    with torch.no_grad():
        torch.testing.assert_close(ours(images).features, theirs.forward_features(images).flatten(2).mT)


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_tensorflow_s(side: int, kernel: int, stride: int) -> None:
    """Output o of a row reads the inputs from o * stride - before on, where `before` is half of the zeros, rounded down."""
    convolution = SameConvolution(2, 3, kernel, stride).double()
    images = torch.randn(1, 2, side, side, dtype=torch.float64)
    cells = -(-side // stride)
    before = max((cells - 1) * stride + kernel - side, 0) // 2
    expected = torch.zeros(1, 3, cells, cells, dtype=torch.float64)
    for row in range(cells):
        for col in range(cells):
            for i in range(kernel):
                for j in range(kernel):
                    y, x = row * stride - before + i, col * stride - before + j
                    if 0 <= y < side and 0 <= x < side:
                        expected[0, :, row, col] += convolution.weight[:, :, i, j] @ images[0, :, y, x]
    torch.testing.assert_close(convolution(images), expected)


def test_a_name_that_there_is_not_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"is one of efficientnet_lite0, .* did you mean efficientnet_lite4"):
        EfficientNetLite("efficientnet_lite5", 1280)
