"""Boxes that guide maps: covered_shares by sampling points, the loss by a loop over words."""

import math

import pytest
import torch

from captioner.objectives.likelihood import Likelihood
from captioner.objectives.objective import Objective
from captioner.objectives.supervised import Supervised, covered_shares
from captioner.objectives.term import CollectedRollouts
from captioner.records import AttentionMode, Batch, BoxTargets, Regions, Rollout, StepRecord

ROWS, COLS = 2, 3
CELLS = torch.tensor([[row, col] for row in range(ROWS) for col in range(COLS)]).double()


def box_targets(*rows):
    """((image, caption, step), (left, top, right, bottom)) each."""
    words, boxes = zip(*rows, strict=True) if rows else ((), ())
    return BoxTargets(torch.tensor(words, dtype=torch.long).view(-1, 3), torch.tensor(boxes, dtype=torch.double).view(-1, 4))


def collected(alphas, aimed, lengths, samples=1):
    images, captions, steps = alphas.shape[:3]
    mask = torch.tensor(lengths)[..., None] > torch.arange(steps)
    zeros = torch.zeros(images, captions, steps).double()
    rollout = Rollout(zeros, zeros, mask, torch.full((images, captions), AttentionMode.SAMPLE), StepRecord(alphas * mask[..., None], zeros))
    return CollectedRollouts(rollout, samples, None, aimed, CELLS)


def some_alphas(*lead):
    return torch.rand(*lead, ROWS * COLS, generator=torch.Generator().manual_seed(3)).double().softmax(-1)


def test_coverage_is_the_share_of_points_of_a_region_that_lie_in_its_box():
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        corners = torch.rand(2, 2, generator=generator).double() * 1.4 - 0.2
        (left, right), (top, bottom) = corners.sort(1).values.tolist()
        found = covered_shares(box_targets(((1, 0, 2), (left, top, right, bottom))), CELLS, (2, 1, 4))
        assert found.count_nonzero() == found[1, 0, 2].count_nonzero()
        for region, (row, col) in enumerate(CELLS.tolist()):
            y = (row + (torch.arange(400) + 0.5) / 400) / ROWS
            x = (col + (torch.arange(400) + 0.5) / 400) / COLS
            share = ((y > top) & (y < bottom)).double().mean() * ((x > left) & (x < right)).double().mean()
            assert found[1, 0, 2, region].item() == pytest.approx(share.item(), abs=0.006)


def test_a_word_with_several_boxes_may_look_into_any_and_no_region_counts_twice():
    left, both = (0.0, 0.0, 1 / 3, 1.0), (0.0, 0.0, 2 / 3, 0.5)
    found = covered_shares(box_targets(((0, 0, 0), left), ((0, 0, 0), both)), CELLS, (1, 1, 1))
    assert found[0, 0, 0].tolist() == pytest.approx([1, 1, 0, 1, 0, 0])


@pytest.mark.parametrize("spread", [True, False])
def test_the_loss_is_the_mean_over_the_words_that_have_seen_boxes(spread):
    """Image 1's caption 0 is one word short of its second aim; one box lies outside what is seen; a word of two boxes is one word."""
    alphas = some_alphas(2, 3, 4)
    upper, last, outside = (0.0, 0.0, 1.0, 0.5), (2 / 3, 0.5, 1.0, 1.0), (1.0, 0.0, 1.5, 1.0)
    aimed = box_targets(((0, 1, 2), upper), ((0, 1, 2), last), ((1, 0, 0), last), ((1, 0, 3), last), ((1, 2, 1), outside))
    lengths = [[4, 4, 4], [3, 0, 4]]
    inside = {(0, 1, 2): [0, 1, 2, 5], (1, 0, 0): [5]}
    losses = []
    for word, regions in inside.items():
        chosen = alphas[word][regions]
        losses.append(-(chosen.log().mean() if spread else chosen.sum().log()).item())
    found = Supervised(0.7, spread)(collected(alphas, aimed, lengths)).item()
    assert found == pytest.approx(0.7 * sum(losses) / len(losses))


def test_the_least_loss_is_even_over_the_box_where_spread_and_anywhere_inside_where_not():
    box = box_targets(((0, 0, 0), (0.0, 0.0, 2 / 3, 1.0)))
    even, corner = torch.zeros(2, 1, 1, 1, ROWS * COLS).double()
    even[..., [0, 1, 3, 4]], corner[..., 4] = 0.25, 1
    loss = {spread: [Supervised(1.0, spread)(collected(map_, box, [[1]])).item() for map_ in (even, corner)] for spread in (True, False)}
    assert loss[True] == [pytest.approx(math.log(4)), pytest.approx(-3 / 4 * math.log(1e-12))]
    assert loss[False] == [pytest.approx(0), pytest.approx(0)]


@pytest.mark.parametrize("spread", [True, False])
def test_descending_brings_the_map_into_the_box(spread):
    scores = torch.zeros(1, 1, 1, ROWS * COLS, dtype=torch.double, requires_grad=True)
    box = box_targets(((0, 0, 0), (1 / 3, 0.5, 1.0, 1.0)))
    optimizer = torch.optim.SGD([scores], lr=2.0)
    for _ in range(100):
        optimizer.zero_grad()
        Supervised(1.0, spread)(collected(scores.softmax(-1), box, [[1]])).backward()
        optimizer.step()
    assert scores.softmax(-1)[0, 0, 0, [4, 5]].sum() > 0.95


def test_every_draw_of_a_caption_has_its_aims():
    alphas, box = some_alphas(1, 2, 3), (0.0, 0.0, 1 / 3, 1.0)
    twice = alphas.repeat_interleave(2, 1)
    once = Supervised()(collected(alphas, box_targets(((0, 1, 2), box)), [[3, 3]]))
    assert Supervised()(collected(twice, box_targets(((0, 1, 2), box)), [[3] * 4], samples=2)).item() == pytest.approx(once.item())


def test_a_batch_without_an_aim_costs_nothing_and_one_without_boxes_is_refused():
    alphas = some_alphas(1, 2, 3).requires_grad_()
    loss = Supervised()(collected(alphas, box_targets(), [[3, 3]]))
    loss.backward()
    assert loss.item() == 0
    assert not alphas.grad.any()
    with pytest.raises(ValueError, match="box_targets: the batch holds no boxes"):
        Supervised()(collected(alphas, None, [[3, 3]]))
    with pytest.raises(ValueError, match="weight must not be negative"):
        Supervised(-1.0)


class Fixed:
    """A captioner whose maps are collected."""

    def __init__(self, alphas):
        self.alphas, self.decoder = alphas, self

    def encode(self, images):
        return images

    def rollout(self, regions, captions, mode):
        return collected(self.alphas, None, [[2]]).rollout._replace(mode=mode)


def test_the_objective_hands_over_aims_and_cells():
    alphas, box = some_alphas(1, 1, 2), box_targets(((0, 0, 1), (0.0, 0.0, 1 / 3, 0.5)))
    objective = Objective({"likelihood": Likelihood(), "supervised": Supervised()})
    assert objective.needs_boxes
    assert not Objective({"likelihood": Likelihood()}).needs_boxes
    regions = Regions(torch.zeros(1, ROWS * COLS, 2).double(), CELLS)
    batch = Batch(regions, torch.tensor([[[1, 4, 2]]]), torch.tensor([9]), box)
    assert objective(Fixed(alphas), batch)["supervised"].item() == pytest.approx(-alphas[0, 0, 1, 0].log().item())
