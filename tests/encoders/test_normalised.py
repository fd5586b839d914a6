"""Regions that are standardised, layer-normalised and projected."""

import torch

from captioner.encoders.encoder import Encoder, as_regions
from captioner.encoders.normalised import NormalisedRegions
from captioner.encoders.small import SmallConv
from captioner.records import Regions


class Photos(Encoder):
    """Regions of five channels whose sizes differ by orders of magnitude; the last never changes."""

    features, stride = 5, 8

    def forward(self, images: torch.Tensor) -> Regions:
        maps = nn_maps(images)
        return as_regions(
            maps * torch.tensor([1e-2, 1.0, 30.0, 1e3, 0.0])[:, None, None] + torch.tensor([0.0, 5.0, -7.0, 1e4, 3.0])[:, None, None]
        )


def nn_maps(images: torch.Tensor) -> torch.Tensor:
    pooled = torch.nn.functional.avg_pool2d(images, 8)
    return torch.cat([pooled, pooled[:, :2].flip(1)], 1)


def test_after_learning_statistics_every_channel_has_mean_zero_and_deviation_one() -> None:
    encoder = NormalisedRegions(Photos(), 7).double().eval()
    batches = [encoder.backbone(torch.randn(images, 3, 48, 40, dtype=torch.float64)) for images in (3, 2)]
    assert encoder.needs_statistics
    encoder.learn_statistics(iter(batches))
    assert not encoder.needs_statistics
    assert int(encoder.photos) == 5
    features = torch.cat([batch.features for batch in batches]).flatten(0, 1)
    torch.testing.assert_close(encoder.mean, features.mean(0))
    torch.testing.assert_close(encoder.deviation, features.std(0, correction=0), atol=1e-5, rtol=1e-6)
    x = (features - features.mean(0)) / (features.std(0, correction=0) + 1e-3)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = (x @ encoder.project.weight.T + encoder.project.bias).clamp_min(0)
    got = torch.cat([encoder.refine(batch).features for batch in batches]).flatten(0, 1)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_without_both_steps_regions_are_only_projected_and_nothing_is_measured() -> None:
    encoder = NormalisedRegions(SmallConv((4, 6), coordinates=False), 3, standardise=False, layer_norm=False).eval()
    images = torch.randn(2, 3, 32, 16)
    assert not encoder.needs_statistics
    expected = torch.relu(encoder.project(encoder.trunk(images).features))
    assert torch.equal(encoder(images).features, expected)


def test_statistics_are_saved_with_the_model() -> None:
    first, second = (NormalisedRegions(Photos(), 7).eval() for _ in range(2))
    first.learn_statistics([first.backbone(torch.randn(2, 3, 24, 16))])
    second.load_state_dict(first.state_dict())
    assert not second.needs_statistics
    images = torch.randn(1, 3, 24, 16)
    assert torch.equal(first(images).features, second(images).features)
