"""Which pixels change the probability of a word? Its gradient: plain, averaged over noise, or along a path."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.explain.explanation import CELLS, Explanation, pooled
from captioner.explain.gradcam import region_gradients
from captioner.model import Captioner

AT_ONCE = 64
"""Copies of an image's regions, one per word, that the decoder takes at a time."""


@final
class Jacobian(Explanation):
    """map_t(x, y) = || d log p(w_t | w_<t, image) / d pixel(x, y) ||, the L2 norm over the channels of the prepared image.

    Means over squares of pixels, at most `cells` per side (None: every pixel). Source: Simonyan et al. 2014, sec. 3; departures: there the
    greatest absolute value over channels, of a class's score before the softmax.
    """

    def __init__(self, cells: int | None = CELLS) -> None:
        self.cells = checked_cells(cells)

    def relevance(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words rows cols"]:
        return pooled(mean_gradients(captioner, image[None], ids).norm(dim=1), self.cells)


@final
class SmoothGrad(Explanation):
    """The norm of the mean gradient over `samples` noisy copies of the image.

        map_t = || 1/N sum_n d log p(w_t | w_<t, image + e_n) / d pixel ||,    e_n ~ normal(0, sigma (max image - min image))

    `sigma` is a share of the prepared image's range; the noise is drawn with `seed`. Source: Smilkov et al. 2017, sec. 3; departures as
    `Jacobian`'s (their pictures show absolute values, the highest cut off).
    Raises: ArgumentError, samples not positive, sigma negative.
    """

    def __init__(self, samples: int = 24, sigma: float = 0.15, seed: int = 0, cells: int | None = CELLS) -> None:
        if samples < 1:
            raise ArgumentError("samples", f"is a number of noisy images and must be positive, not {samples}")
        if sigma < 0:
            raise ArgumentError("sigma", f"is a share of the image's range and not negative, not {sigma}")
        self.samples, self.sigma, self.seed, self.cells = samples, sigma, seed, checked_cells(cells)

    def relevance(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words rows cols"]:
        generator = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(self.samples, *image.shape, generator=generator, dtype=image.dtype).to(image.device)
        noisy = image + self.sigma * (image.max() - image.min()) * noise
        return pooled(mean_gradients(captioner, noisy, ids).norm(dim=1), self.cells)


@final
class IntegratedGradients(Explanation):
    """What each pixel adds to log p on the path from a grey image.

        attribution_t = (image - grey) int_0^1 d log p(w_t | w_<t, grey + s (image - grey)) / d pixel ds,    s by the midpoint rule

    The map is the positive part of the sum over channels and the mean over a cell's pixels. `steps` images lie on the path;
    grey is the mean colour of the transform, zero once prepared. All attributions of a word add up to log p(w_t | image) -
    log p(w_t | grey) (completeness), where attributions against the word are negative.
    Source: Sundararajan et al. 2017, sec. 3; departures: there the path begins at a black image, the sum takes the ends of the steps, the
    output is a class's softmax, and absolute values are shown. Raises: ArgumentError, steps not positive.
    """

    def __init__(self, steps: int = 24, cells: int | None = CELLS) -> None:
        if steps < 1:
            raise ArgumentError("steps", f"is a number of images on the path and must be positive, not {steps}")
        self.steps, self.cells = steps, checked_cells(cells)

    def relevance(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words rows cols"]:
        return pooled(self.attributions(captioner, image, ids).sum(1), self.cells)

    def attributions(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words 3 height width"]:
        along = (torch.arange(self.steps, device=image.device, dtype=image.dtype) + 0.5) / self.steps
        return image * mean_gradients(captioner, along[:, None, None, None] * image, ids)


def mean_gradients(
    captioner: Captioner, images: Float[Tensor, "images 3 height width"], ids: Int[Tensor, " ids"]
) -> Float[Tensor, "words 3 height width"]:
    """d log p(w_t | w_<t, image) / d image, the mean over images: the decoder's part for all words at once, the encoder's word by word."""
    total = images.new_zeros(len(ids) - 2, *images.shape[1:])
    for some in images.detach().split(max(1, AT_ONCE // len(total))):
        pixels = some.clone().requires_grad_()
        with torch.enable_grad():
            regions = captioner.encode(pixels)
        for word, gradients in enumerate(region_gradients(captioner, regions, ids)):
            (image_gradients,) = torch.autograd.grad(regions.features, pixels, gradients, retain_graph=word < len(total) - 1)
            total[word] += image_gradients.sum(0)
    return total / len(images)


def checked_cells(cells: int | None) -> int | None:
    if cells is not None and cells < 1:
        raise ArgumentError("cells", f"is the largest number of cells per side of a map and must be positive, not {cells}")
    return cells
