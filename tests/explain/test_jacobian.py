"""Gradients by pixel against finite differences, completeness, and a captioner whose gradient is known."""

import pytest
import torch
from stand_ins import IDS, PLACES, SIZE, known, picture, small

from captioner.explain.explanation import teacher_forced_rollout
from captioner.explain.jacobian import IntegratedGradients, Jacobian, SmoothGrad, mean_gradients


def log_probs(captioner, images):
    with torch.no_grad():
        return teacher_forced_rollout(captioner, images, IDS[None]).log_probs[:, 0, :-1]


@pytest.mark.parametrize("kind", ["lstm", "convolutional"])
def test_the_gradient_is_that_of_finite_differences(kind):
    captioner, image = small(kind).double(), picture().double()
    pixels = torch.arange(0, image.numel(), 13)
    nudges = 1e-6 * torch.eye(image.numel(), dtype=torch.double)[pixels].view(-1, *image.shape)
    differences = (log_probs(captioner, image + nudges) - log_probs(captioner, image - nudges)).T / 2e-6
    gradients = mean_gradients(captioner, image[None], IDS)
    torch.testing.assert_close(gradients.flatten(1)[:, pixels], differences, rtol=1e-5, atol=1e-9)
    lengths = (gradients**2).sum(1) ** 0.5
    torch.testing.assert_close(Jacobian(cells=None).relevance(captioner, image, IDS), lengths)
    means = lengths.unfold(1, 4, 4).unfold(2, 4, 4).mean((-1, -2))
    torch.testing.assert_close(Jacobian(cells=6).relevance(captioner, image, IDS), means)


def test_many_images_are_averaged_whatever_fits_at_once(monkeypatch):
    captioner = small().double()
    images = torch.stack([picture(seed).double() for seed in range(5)])
    alone = torch.stack([mean_gradients(captioner, image[None], IDS) for image in images]).mean(0)
    for at_once in (1, 9, 64):
        monkeypatch.setattr("captioner.explain.jacobian.AT_ONCE", at_once)
        torch.testing.assert_close(mean_gradients(captioner, images, IDS), alone)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_what_pixels_add_is_the_difference_to_grey(kind):
    captioner, image = small(kind).double(), picture().double()
    whole, grey = log_probs(captioner, torch.stack([image, torch.zeros_like(image)]))
    added = IntegratedGradients(steps=100).attributions(captioner, image, IDS).sum((1, 2, 3))
    assert (whole - grey).abs().min() > 1e-3
    torch.testing.assert_close(added, whole - grey, rtol=1e-3, atol=1e-5)
    coarse = IntegratedGradients(steps=100, cells=6).relevance(captioner, image, IDS)
    torch.testing.assert_close(16 * coarse.sum((1, 2)), added)


def test_where_log_p_is_a_weighted_sum_gradients_are_its_weights():
    captioner, image = known(lambda read: read), picture()
    expected = torch.zeros(4, 3, *SIZE)
    for word, (top, bottom, left, right) in enumerate(PLACES):
        expected[word, :, top:bottom, left:right] = torch.tensor([1.0, 2.0, -1.0])[:, None, None] / 16
    lengths = expected.norm(dim=1)
    torch.testing.assert_close(Jacobian(cells=None).relevance(captioner, image, IDS), lengths)
    torch.testing.assert_close(SmoothGrad(samples=3, cells=None).relevance(captioner, image, IDS), lengths)
    torch.testing.assert_close(IntegratedGradients(steps=2).attributions(captioner, image, IDS), image * expected)


def test_without_noise_the_smooth_gradient_is_the_plain_one_and_with_it_the_mean_over_the_noise():
    captioner, image = small().double(), picture().double()
    plain = Jacobian(cells=None).relevance(captioner, image, IDS)
    torch.testing.assert_close(SmoothGrad(samples=2, sigma=0.0, cells=None).relevance(captioner, image, IDS), plain)
    noise = torch.randn(7, *image.shape, generator=torch.Generator().manual_seed(3), dtype=torch.double)
    noisy = [image + 0.1 * (image.max() - image.min()) * one for one in noise]
    mean = torch.stack([mean_gradients(captioner, one[None], IDS) for one in noisy]).mean(0)
    smooth = SmoothGrad(samples=7, sigma=0.1, seed=3, cells=None).relevance(captioner, image, IDS)
    torch.testing.assert_close(smooth, mean.norm(dim=1))
    assert (smooth - plain).abs().max() > 1e-4
