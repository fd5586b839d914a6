"""Laws of every explanation, over every decoder."""

import inspect

import numpy as np
import pytest
import torch
from kinds import kinds
from PIL import Image
from stand_ins import IDS, SIZE, WORDS, Finished, known, picture, small

from captioner.encoders.encoder import Encoder
from captioner.encoders.small import SmallConv
from captioner.errors import InputError
from captioner.explain.explanation import Attention, Explanation, pooled, prefixes, teacher_forced_rollout
from captioner.explain.gradcam import GradCam
from captioner.explain.jacobian import IntegratedGradients, Jacobian, SmoothGrad
from captioner.explain.kinds import KINDS, explain
from captioner.explain.occlusion import Occlusion

QUICK = {
    "attention": Attention(),
    "gradcam": GradCam(),
    "jacobian": Jacobian(cells=8),
    "smoothgrad": SmoothGrad(samples=3, cells=8),
    "integrated_gradients": IntegratedGradients(steps=3, cells=8),
    "occlusion": Occlusion(window=0.5, cells=3),
}
GRIDS = {"attention": (2, 3), "gradcam": (2, 3), "occlusion": (2, 3)}  # the others: 16 x 24 pixels in squares of three


def test_every_kind_is_tried_here():
    assert QUICK.keys() == KINDS.keys()
    assert all(type(QUICK[name]) is kind for name, kind in KINDS.items())


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", kinds("decoder"))
def test_every_explanation_of_every_decoder_gives_shares_and_leaves_the_model_as_it_was(kind, frozen):
    captioner = small(kind).train()
    captioner.encoder.requires_grad_(not frozen)
    for name, explanation in QUICK.items():
        maps = explanation.maps(captioner, picture(), IDS)
        assert maps.dtype == np.float32
        assert maps.shape == (4, *GRIDS.get(name, (6, 8)))
        assert (maps >= 0).all()
        sums = maps.sum((1, 2))
        assert all(abs(total - 1) < 1e-5 or (total == 0 and name in ("gradcam", "integrated_gradients", "occlusion")) for total in sums)
        np.testing.assert_array_equal(explanation.maps(captioner, picture(), IDS), maps)
    assert not captioner.training
    assert all(parameter.grad is None for parameter in captioner.parameters())
    assert all(parameter.requires_grad == (not frozen) for parameter in captioner.encoder.parameters())


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@pytest.mark.parametrize("name", QUICK)
def test_a_word_is_explained_by_what_came_before_it_alone(kind, name):
    captioner = small(kind)
    other = IDS.clone()
    other[3], other[4] = WORDS.encode(["ball"])[1], WORDS.encode(["on"])[1]
    one, two = (QUICK[name].maps(captioner, picture(), ids) for ids in (IDS, other))
    np.testing.assert_allclose(one[:2], two[:2], atol=1e-6)
    if name != "attention":  # which asks before the word is known
        assert np.abs(one[2] - two[2]).max() > 1e-3


def test_layers_over_the_regions_are_part_of_what_is_explained():
    captioner = small(encoder=Finished())
    regions = captioner.encode(picture()[None])
    torch.testing.assert_close(
        teacher_forced_rollout(captioner, regions, IDS[None]).log_probs,
        teacher_forced_rollout(captioner, picture()[None], IDS[None]).log_probs,
    )
    for explanation in QUICK.values():
        assert explanation.maps(captioner, picture(), IDS).any()


def test_hard_attention_is_explained_as_it_rests():
    captioner = small(readout="sample")
    soft = small()
    for explanation in QUICK.values():
        np.testing.assert_allclose(explanation.maps(captioner, picture(), IDS), explanation.maps(soft, picture(), IDS), atol=1e-6)
    captioner.set_attention_mode("argmax")
    resting = GradCam().maps(captioner, picture(), IDS)
    assert np.abs(resting - GradCam().maps(soft, picture(), IDS)).max() > 1e-4


@pytest.mark.parametrize("encoder", [None, Finished()])
def test_attention_is_that_of_the_caption(encoder):
    captioner = small("gru", encoder)
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 61, 3), dtype=np.uint8))
    expected = captioner.align(photo, "A red dog, runs!")
    found = explain(captioner, photo, "A red dog, runs!", ["attention", ("mine", Occlusion(cells=4))])
    np.testing.assert_allclose(found["attention"], expected.alphas, atol=1e-6)
    assert found["mine"].shape == (len(expected.words), 3, 4)
    np.testing.assert_array_equal(explain(captioner, photo, expected.words, ["attention"])["attention"], found["attention"])


def test_what_cannot_be_explained_is_refused():
    photo = Image.new("RGB", (9, 9))
    with pytest.raises(InputError, match="no word"):
        explain(small(), photo, " . ")
    with pytest.raises(ValueError, match=r"kinds are among attention, .*not 'lime'"):
        explain(small(), photo, "a dog", ["lime"])
    with pytest.raises(ValueError, match="one word or more"):
        Attention().maps(small(), picture(), IDS[[0, -1]])
    for make, named in [
        (lambda: SmoothGrad(samples=0), "samples"),
        (lambda: SmoothGrad(sigma=-1.0), "sigma"),
        (lambda: IntegratedGradients(steps=0), "steps"),
        (lambda: Jacobian(cells=0), "cells"),
        (lambda: Occlusion(window=0.0), "window"),
        (lambda: Occlusion(cells=0), "cells"),
    ]:
        with pytest.raises(ValueError, match=named):
            make()


def test_a_map_of_nothing_stays_so():
    captioner = known(lambda read: -1 - 0 * read)
    for name, explanation in QUICK.items():
        maps = explanation.maps(captioner, picture(), IDS)
        assert maps.any() == (name == "attention"), name


def test_prefixes_end_with_their_word():
    assert prefixes(torch.tensor([2, 7, 8, 9, 3])).tolist() == [[2, 7, 0, 0], [2, 7, 8, 0], [2, 7, 8, 9]]


def test_pixels_are_pooled_by_whole_squares():
    maps = torch.arange(2 * 4 * 6).float().view(2, 4, 6)
    assert pooled(maps, None) is maps
    torch.testing.assert_close(pooled(maps, 6), maps)
    torch.testing.assert_close(pooled(maps, 3), maps.unfold(1, 2, 2).unfold(2, 2, 2).mean((-1, -2)))
    assert pooled(torch.zeros(1, *SIZE), 5).shape == (1, 4, 5)


@pytest.mark.parametrize("kind", KINDS.values())
def test_kinds_are_final(kind):
    assert getattr(kind, "__final__", False)
    assert issubclass(kind, Explanation)
    assert "maps" not in vars(kind)
    assert inspect.getdoc(kind)


class Halves(Encoder):
    """A trunk, and a layer after it; in two parts, or as one."""

    def __init__(self, split):
        super().__init__()
        self.trunk, self.split = SmallConv((5, 7), blocks=(0, 0), coordinates=False), split
        self.features, self.stride, self.receptive_field = 7, 8, None

    @property
    def backbone(self):
        return self.trunk if self.split else self

    def layer(self, regions):
        return regions._replace(features=3 * regions.features + 1)

    def refine(self, regions):
        return self.layer(regions) if self.split else regions

    def forward(self, images):
        return self.layer(self.trunk(images))


@pytest.mark.parametrize("kind", QUICK)
def test_layers_after_a_trunk_run_once(kind):
    split, whole = small(encoder=Halves(True)), small(encoder=Halves(False))
    whole.load_state_dict(split.state_dict())
    found = []
    for model in (split, whole):
        torch.manual_seed(1)
        found.append(QUICK[kind].maps(model, picture(), IDS))
    np.testing.assert_array_equal(*found)
