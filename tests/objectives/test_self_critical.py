"""Self-critical sequence training: its gradient is that of the expected reward, its reward that of the scorers."""

import itertools
import logging

import numpy as np
import pytest
import torch
from kinds import decoder

from captioner.encoders.encoder import grid_cells
from captioner.metrics.bleu import Bleu
from captioner.metrics.cider import Cider
from captioner.metrics.reward import CaptionReward
from captioner.objectives.drawing import draw_captions
from captioner.objectives.likelihood import Likelihood
from captioner.objectives.objective import Objective
from captioner.objectives.self_critical import SelfCriticalSequence
from captioner.records import AttentionMode, Batch, Regions

REFERENCES = [[[4, 5, 6, 7, 2], [4, 6, 7, 2]], [[5, 5, 8, 9, 4, 2]], [[9, 8, 7, 6, 2], [4, 2], [6, 5, 4, 2]]]


class FirstWord:
    """A reward that is easy to enumerate: what a table says of a whole caption."""

    def prepare(self, references):
        pass

    def __call__(self, images, captions):
        return np.array([(3.0 if caption[0] == 4 else 1.0) / len(caption) + image for image, caption in zip(images, captions, strict=True)])


class Drawer:
    """A captioner whose encoder is nothing."""

    def __init__(self, model):
        self.decoder = model

    def encode(self, images):
        return images


def regions(images=2):
    torch.manual_seed(3)
    return Regions(torch.randn(images, 6, 7, dtype=torch.float64), grid_cells(2, 3).double())


def two_words():
    """A decoder of five words, of which two, and `<end>`, can be drawn."""
    torch.manual_seed(1)
    return decoder("without_feedback", vocabulary_size=6, dropout=0.0).double()


@pytest.mark.parametrize("baseline", ["leave_one_out", "greedy"])
def test_the_mean_gradient_is_the_gradient_of_the_expected_reward(baseline):
    """Of captions of at most two words of {4, 5}, which can be enumerated."""
    model, seen, reward = two_words(), regions(1), FirstWord()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    captions = [[2]] + [[*words, 2] for length in (1, 2) for words in itertools.product((4, 5), repeat=length)]
    rows = torch.zeros(1, len(captions), 4, dtype=torch.long)
    for row, caption in zip(rows[0], captions, strict=True):
        row[: len(caption) + 1] = torch.tensor([1, *caption])
    with torch.no_grad():
        model.output.bias[[0, 1, 3]] = -60.0  # what is never drawn takes no probability either
    rollout = model.rollout(seen, rows, torch.full((1, len(captions)), AttentionMode.EXPECTATION))
    log_prob = rollout.log_probs[0, :, :2].sum(-1)  # the `<end>` after two words is not drawn
    rewards = torch.from_numpy(reward([0] * len(captions), captions))
    assert float(log_prob.detach().exp().sum()) == pytest.approx(1)
    gradients = torch.autograd.grad((log_prob.exp() * rewards).sum(), parameters, allow_unused=True, materialize_grads=True)
    expected = torch.cat([gradient.flatten() for gradient in gradients])
    term = SelfCriticalSequence(reward, drawn=40, baseline=baseline, max_length=2)
    objective = Objective({"self_critical": term})
    mean, times = torch.zeros_like(expected), 60
    for seed in range(times):
        torch.manual_seed(seed)
        collected = objective.collect(Drawer(model), Batch(seen, rows[:, 1:2], torch.tensor([0])))
        loss = term(collected) * collected.drawn.rollout.mask.sum() / 40
        gradients = torch.autograd.grad(-loss, parameters, allow_unused=True, materialize_grads=True)
        mean += torch.cat([gradient.flatten() for gradient in gradients]) / times
    assert float((mean - expected).norm() / expected.norm()) < 0.15
    assert float(torch.nn.functional.cosine_similarity(mean, expected, dim=0)) > 0.99


def test_a_reward_is_the_scorers_of_captions_that_end_with_end():
    reward = CaptionReward(cider=0.5, bleu=2.0)
    reward.prepare(REFERENCES)
    captions = [(4, 5, 6, 7, 2), (4, 5, 6, 7), (9, 8, 2), (5, 5, 8, 9, 4, 2)]
    images = [0, 0, 2, 1]
    cider = Cider([[tuple(one) for one in of_image] for of_image in REFERENCES]).scores(captions, images)
    bleus = [
        Bleu([[tuple(one) for one in REFERENCES[image]]]).scores([caption])[3] for image, caption in zip(images, captions, strict=True)
    ]
    assert reward(images, captions) == pytest.approx(0.5 * cider + 2 * np.array(bleus))
    assert reward(images, captions)[1] < reward(images, captions)[0]


def test_drawn_captions_follow_the_model_and_greedy_ones_are_its_best():
    model, seen = two_words(), regions(2)
    torch.manual_seed(0)
    drawn = draw_captions(model, seen, 3000, 3)
    assert set(drawn.unique().tolist()) <= {0, 1, 2, 4, 5}
    ends = (drawn == 2).sum(-1)
    assert (ends == 1).all()
    first = torch.stack([(drawn[..., 1] == word).double().mean(-1) for word in (2, 4, 5)], -1)
    memory, state = model.start(seen)
    state = state._replace(history=state.history._replace(mode=torch.ones(2, 1, dtype=torch.long)))
    chances = model.step(memory, state, torch.ones(2, 1, dtype=torch.long)).log_probs.exp()[:, 0, [2, 4, 5]]
    torch.testing.assert_close(first, chances / chances.sum(-1, keepdim=True), atol=0.04, rtol=0)
    best = draw_captions(model, seen, 1, 3, greedy=True)
    assert best[:, 0, 1].tolist() == [(2, 4, 5)[index] for index in chances.argmax(-1).tolist()]
    assert model.training


def test_words_that_seldom_end_a_caption_are_bad_endings_and_a_gamed_reward_is_warned_of_once(caplog):
    term = SelfCriticalSequence(CaptionReward(), drawn=2)
    term.prepare([[[5, 4, 6, 2]] * 40, [[5, 7, 6, 2]] * 40, [[8, 9, 2]]])
    assert term.bad_endings == {5}
    with caplog.at_level(logging.WARNING):
        for reward, bad in ((0.5, 0.0), (0.6, 0.01), (0.4, 0.3), (0.7, 0.2), (0.8, 0.3)):
            term.warn_of_gaming(reward, bad)
    assert [record.getMessage() for record in caplog.records] == [
        "the reward has risen from 0.500 to 0.700, but 20 % of the drawn captions end on a word that seldom ends one: the reward is "
        "gamed; raise objective.terms.likelihood.weight"
    ]


def test_the_statistics_tell_of_the_drawn_captions():
    torch.manual_seed(2)
    model = decoder("lstm", vocabulary_size=10).double()
    term = SelfCriticalSequence(CaptionReward(), drawn=4, baseline="greedy")
    objective = Objective({"likelihood": Likelihood(weight=0.1), "self_critical": term})
    objective.prepare(REFERENCES)
    captions = torch.tensor([[[1, 4, 5, 2]], [[1, 6, 2, 0]]])
    collected = objective.collect(Drawer(model), Batch(regions(2), captions, torch.tensor([2, 0])))
    found = objective.statistics(collected)
    assert found.keys() == {"reward", "reward_baseline", "drawn_words", "bad_endings", "different"}
    assert 1 <= float(found["drawn_words"]) <= 21
    assert set(objective.losses(collected)) == {"likelihood", "self_critical"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"drawn": 1}, "drawn is .* at least 2"),
        ({"baseline": "mean"}, "baseline is one of"),
        ({"max_length": 0}, "max_length"),
        ({"weight": -1}, "weight"),
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong, message):
    with pytest.raises(ValueError, match=message):
        SelfCriticalSequence(CaptionReward(), **wrong)
    with pytest.raises(ValueError, match="nothing would be rewarded"):
        CaptionReward(0, 0)
