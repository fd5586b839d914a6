"""Captioners to explain: small ones of any decoder, and one of which all is known."""

import torch
from kinds import decoder
from torch import nn

from captioner.data.transforms import Transform
from captioner.decoders.decoder import Decoder
from captioner.encoders.encoder import Encoder, as_regions
from captioner.encoders.small import SmallConv
from captioner.model import Captioner
from captioner.records import Rollout, StepRecord
from captioner.vocabulary import Vocabulary

WORDS = Vocabulary(["a", "red", "blue", "dog", "ball", "runs", "on"])  # eleven ids
SIZE = (16, 24)  # 2 x 3 regions of the small captioner
IDS = torch.tensor(WORDS.encode(["a", "red", "dog", "runs"]))
TRANSFORM = Transform(SIZE, fit="squash", mean=[0.5] * 3, std=[0.25] * 3)


def picture(seed=2):
    return torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(seed))


class Placed(Encoder):
    """Five channels of a trunk, and the cell's row and column."""

    def __init__(self):
        super().__init__()
        self.trunk = SmallConv((3, 5), blocks=(0, 0), coordinates=False)
        self.features, self.stride, self.receptive_field = 7, 8, None

    def forward(self, images):
        regions = self.trunk(images)
        return regions._replace(features=torch.cat([regions.features, regions.cells.expand(len(images), -1, -1)], -1))


class Finished(Encoder):
    """A trunk, and a layer over its regions, which must run once."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.trunk, self.layer = SmallConv((5, 7), blocks=(0, 0), coordinates=False), nn.Linear(7, 7)
        self.features, self.stride, self.receptive_field = 7, 8, None

    def forward(self, images):
        return self.refine(self.backbone(images))

    @property
    def backbone(self):
        return self.trunk

    def refine(self, regions):
        return regions._replace(features=self.layer(regions.features))


def small(kind="lstm", encoder=None, **changes):
    torch.manual_seed(5)
    encoder = encoder or SmallConv((5, 7), blocks=(0, 0), coordinates=False)
    return Captioner(encoder, decoder(kind, **changes), WORDS, TRANSFORM).eval()


class Pixels(Encoder):
    """Every pixel is a region."""

    features, stride, receptive_field = 3, 1, 1

    def forward(self, images):
        return as_regions(images)


class Reading(Decoder):
    """log p of word t = `squash` of the mean of (red + 2 green - blue) over rectangle t, a (top, bottom, left, right) in pixels.

    The alphas of every word are one divided by the number of regions.
    """

    def __init__(self, places, squash):
        super().__init__()
        self.squash, self.unused = squash, nn.Parameter(torch.zeros(1))
        masks = torch.zeros(len(places), *SIZE, dtype=torch.bool)
        for mask, (top, bottom, left, right) in zip(masks, places, strict=True):
            mask[top:bottom, left:right] = True
        self.masks = masks.flatten(1)

    def start(self, regions):
        raise NotImplementedError

    step = start

    def rollout(self, regions, captions, mode):
        given = captions[..., 1:] != 0
        weights = (self.masks.float() / self.masks.sum(1, keepdim=True)).to(regions.features)
        read = torch.einsum("nrc,c,tr->nt", regions.features, regions.features.new_tensor([1.0, 2.0, -1.0]), weights)
        log_probs = nn.functional.pad(self.squash(read), (0, 1))[:, None, : given.shape[-1]] * given
        alphas = torch.full((*log_probs.shape, self.masks.shape[1]), 1 / self.masks.shape[1])
        return Rollout(log_probs, log_probs, given, mode, StepRecord(alphas, torch.zeros_like(log_probs)))


PLACES = ((0, 4, 0, 4), (8, 12, 0, 4), (4, 8, 16, 20), (12, 16, 20, 24))  # whole cells of 4 x 4 pixels, on a grid of 4 x 6


def known(squash=nn.functional.logsigmoid):
    return Captioner(Pixels(), Reading(PLACES, squash), WORDS, TRANSFORM)
