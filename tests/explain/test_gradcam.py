"""Class-activation maps against a loop over steps of the decoder."""

import pytest
import torch
from kinds import kinds
from stand_ins import IDS, SIZE, TRANSFORM, WORDS, Pixels, Placed, Reading, picture, small

from captioner.explain.gradcam import GradCam, region_gradients
from captioner.model import Captioner
from captioner.records import Regions


def stepwise(captioner, regions):
    """d log p(w_t) / d features: the decoder stepped to each word, one backward pass a word."""
    gradients = []
    for last in range(1, len(IDS) - 1):
        features = regions.features.detach().clone().requires_grad_()
        memory, state = captioner.decoder.start(Regions(features, regions.cells, regions.mask))
        for word in IDS[:last]:
            step = captioner.decoder.step(memory, state, word.view(1, 1))
            state = step.state
        step.log_probs[0, 0, IDS[last]].backward()
        gradients.append(features.grad)
    return torch.stack(gradients)


@pytest.mark.parametrize("kind", kinds("decoder"))
def test_gradients_of_all_words_at_once_are_those_of_a_step_after_another(kind):
    captioner = small(kind).double()
    with torch.no_grad():
        regions = captioner.encode(picture()[None].double())
    torch.testing.assert_close(region_gradients(captioner, regions, IDS), stepwise(captioner, regions), rtol=1e-9, atol=1e-12)


def test_regions_that_may_not_be_looked_at_have_no_gradient():
    captioner = small()
    with torch.no_grad():
        regions = captioner.encode(torch.stack([picture(1), picture(2)]))
    mask = torch.ones(regions.features.shape[:2], dtype=torch.bool)
    mask[0, 1] = mask[1, 4] = False
    gradients = region_gradients(captioner, regions._replace(mask=mask), IDS).abs().sum(-1)
    assert gradients.shape == (4, 2, 6)
    assert ((gradients > 0) == mask).all()


def test_the_map_is_the_channels_weighed_by_their_mean_gradients():
    captioner = small().double()
    image = picture().double()
    with torch.no_grad():
        regions = captioner.encode(image[None])
    features, gradients = regions.features[0], stepwise(captioner, regions)[:, 0]
    expected = torch.zeros(4, 2, 3, dtype=torch.double)
    for word in range(4):
        for channel in range(7):
            weight = sum(gradients[word, region, channel] for region in range(6)) / 6
            for region in range(6):
                expected[word, region // 3, region % 3] += weight * features[region, channel]
    torch.testing.assert_close(GradCam().relevance(captioner, image, IDS), expected)


def test_it_is_classic_cam_where_a_linear_layer_reads_the_mean_region():
    """And nowhere else: of a captioner's words no such layer is there (its docstring)."""
    head = Captioner(Pixels(), Reading([(0, SIZE[0], 0, SIZE[1])] * 4, lambda score: score), WORDS, TRANSFORM).double()
    image = picture().double()
    class_activation = image[0] + 2 * image[1] - image[2]
    for found in GradCam().relevance(head, image, IDS) * image[0].numel():
        torch.testing.assert_close(found, class_activation)


def test_channels_that_say_the_same_of_any_image_are_left_out():
    captioner = small(encoder=Placed()).double()
    image = picture().double()
    with torch.no_grad():
        regions = captioner.encode(image[None])
    weights = stepwise(captioner, regions)[:, 0].mean(1)
    assert weights[:, 5:].abs().min() > 0
    expected = (weights[:, :5] @ regions.features[0, :, :5].T).view(4, 2, 3)
    torch.testing.assert_close(GradCam().relevance(captioner, image, IDS), expected)
