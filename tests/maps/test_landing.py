"""Maps land where they should: from an image file through the model's transform and grid back onto the original pixels."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from captioner.box import scaled_box
from captioner.data.images import open_image
from captioner.data.transforms import Transform
from captioner.decoders.decoder import Decoder
from captioner.encoders.encoder import Encoder, as_regions
from captioner.maps.geometry import heat_maps
from captioner.model import Captioner
from captioner.records import Regions, Rollout, StepRecord
from captioner.vocabulary import Vocabulary

GRIDS = {(7, 7): 224, (14, 14): 224, (7, 12): (224, 384)}
SIZES = [(640, 427), (301, 503), (333, 333), (1001, 397)]
UPRIGHT_TO_STORED = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientations, and how an upright image has to be turned to be stored under each."""


class Brightness(Encoder):
    """A region is its tile's mean brightness."""

    features, stride, receptive_field = 1, 32, 32

    def __init__(self, rows, cols):
        super().__init__()
        self.grid = (rows, cols)
        self.nothing = torch.nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> Regions:
        return as_regions(adaptive_avg_pool2d(images.mean(1, keepdim=True), self.grid))


class Brightest(Decoder):
    """Looks where it is bright, whatever it is made to say."""

    def start(self, regions):
        raise NotImplementedError("captions are given here")

    def step(self, memory, state, words):
        raise NotImplementedError("captions are given here")

    def rollout(self, regions, captions, mode):
        weights = regions.features[..., 0].clamp(min=0) ** 4
        alphas = (weights / weights.sum(-1, keepdim=True))[:, None, None]
        log_probs = torch.zeros(1, 1, captions.shape[2] - 1)
        alphas = alphas.expand(1, 1, log_probs.shape[2], -1)
        return Rollout(log_probs, log_probs, torch.ones_like(log_probs, dtype=torch.bool), mode, StepRecord(alphas, log_probs))


def stored(path, size, part, orientation):
    """Write a black photo with the rectangle `part` (upright pixels, fractions too) white; return its pixels as they are upright."""
    (width, height), (left, top, right, bottom) = size, part
    across = np.clip(np.minimum(np.arange(width) + 1, right) - np.maximum(np.arange(width), left), 0, 1)
    down = np.clip(np.minimum(np.arange(height) + 1, bottom) - np.maximum(np.arange(height), top), 0, 1)
    upright = Image.fromarray(np.round(255 * down[:, None] * across).astype(np.uint8)).convert("RGB")
    turn = UPRIGHT_TO_STORED[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (upright if turn is None else upright.transpose(turn)).save(path, quality=95, subsampling=0, exif=exif)
    return np.asarray(upright.convert("L"), float)


def centre(weights):
    """(across, down) of the weights' middle, in pixels, where pixel x spans [x, x + 1]."""
    height, width = weights.shape
    across, down = (np.arange(width) + 0.5) @ weights.sum(0), (np.arange(height) + 0.5) @ weights.sum(1)
    return np.array([across, down]) / weights.sum()


def aligned_caption(path, size, fit, grid):
    model = Captioner(Brightness(*grid), Brightest(), Vocabulary(["dog"]), Transform(GRIDS[grid], fit, (0.0,) * 3, (1.0,) * 3))
    return model.align(open_image(path), "dog")


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize(("size", "orientation"), list(zip(SIZES * 2, [1, 6, 3, 8, 5, 7, 6, 1], strict=True)))
def test_what_the_model_looks_at_is_where_the_heat_lies_below_one_pixel(tmp_path, size, orientation, fit, grid):
    rows, cols = grid
    left, top, right, bottom = Transform(GRIDS[grid], fit).box(*size)
    for row, col in [(2, 2), (rows - 3, cols - 3), (3, cols // 2)]:
        part = (
            left + col * (right - left) / cols,
            top + row * (bottom - top) / rows,
            left + (col + 1) * (right - left) / cols,
            top + (row + 1) * (bottom - top) / rows,
        )
        photo = stored(tmp_path / "a.jpg", size, part, orientation)
        caption = aligned_caption(tmp_path / "a.jpg", size, fit, grid)
        assert (caption.width, caption.height) == size
        assert np.unravel_index(caption.alphas[0].argmax(), grid) == (row, col)
        heat = heat_maps(caption.alphas, caption.box, size)[0].astype(float)
        assert np.abs(centre(heat) - centre(photo)).max() < 1
        peak = np.argwhere(heat >= heat.max() * (1 - 1e-4))[:, ::-1].mean(0) + 0.5
        assert np.abs(peak - centre(photo)).max() < 1
        shown = (240, round(240 * size[1] / size[0]))
        small = heat_maps(caption.alphas, scaled_box(caption.box, size, shown), shown)[0].astype(float)
        assert np.abs(centre(small) - centre(photo) * shown[0] / size[0]).max() < 1, "on a sheet's panel too"


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_a_cell_at_the_border_shines_in_its_own_corner_and_not_outside_what_the_model_saw(tmp_path, fit, grid):
    size = (503, 301)
    left, top, right, bottom = Transform(GRIDS[grid], fit).box(*size)
    wide, high = (right - left) / grid[1], (bottom - top) / grid[0]
    stored(tmp_path / "a.jpg", size, (right - wide, top, right, top + high), 8)
    caption = aligned_caption(tmp_path / "a.jpg", size, fit, grid)
    heat = heat_maps(caption.alphas, caption.box, size)[0]
    hottest = np.argwhere(heat >= heat.max() * 0.99)
    assert np.abs(hottest.max(0) - (top + high / 2, right - 0.5)).max() <= max(wide, high)
    assert hottest[:, 1].min() >= right - wide
    assert hottest[:, 0].max() <= top + high
    assert not heat[:, : int(left)].any()
    assert not heat[:, int(right) :].any()
    assert not heat[: int(top)].any()
    assert not heat[int(bottom) :].any()
