"""Occlusion by hand."""

import torch
from stand_ins import IDS, PLACES, SIZE, known, picture, small

from captioner.explain.explanation import teacher_forced_rollout
from captioner.explain.occlusion import Occlusion


def test_hiding_a_cell_costs_a_word_what_it_read_there():
    captioner, image = known(lambda read: read), picture()
    found = Occlusion(window=0.25, cells=6, batch_size=5).relevance(captioner, image, IDS)  # squares of 4 pixels, which are the cells
    value = image[0] + 2 * image[1] - image[2]
    expected = torch.zeros(4, 4, 6)
    for word, (top, bottom, left, right) in enumerate(PLACES):
        expected[word, top // 4, left // 4] = value[top:bottom, left:right].mean()
    torch.testing.assert_close(found, expected)


def test_squares_reach_beyond_their_cell_and_end_at_the_border():
    captioner, image = known(lambda read: read), torch.ones(3, *SIZE)
    found = Occlusion(window=0.75, cells=6).relevance(captioner, image, IDS)  # 12 pixels: a cell and its neighbours
    expected = torch.zeros(4, 4, 6)
    for word, (top, _, left, _) in enumerate(PLACES):
        row, col = top // 4, left // 4
        expected[word, max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = 2.0
    torch.testing.assert_close(found, expected)


def test_a_window_over_everything_leaves_grey():
    captioner = small()
    image = picture()[:, :, :16]
    found = Occlusion(window=1.0, cells=1).relevance(captioner, image, IDS)
    with torch.no_grad():
        whole, grey = teacher_forced_rollout(captioner, torch.stack([image, torch.zeros_like(image)]), IDS[None]).log_probs[:, 0, :-1]
    torch.testing.assert_close(found[:, 0, 0], whole - grey)


def test_batches_change_nothing():
    captioner = small()
    one, two = (Occlusion(cells=5, batch_size=size).relevance(captioner, picture(), IDS) for size in (1, 64))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
