import itertools

import numpy as np
import pytest
import torch

from captioner.objectives.baseline import LeaveOneOut, MovingAverage, SelfCritical
from captioner.objectives.doubly_stochastic import DoublyStochastic
from captioner.objectives.entropy import Entropy
from captioner.objectives.likelihood import Likelihood
from captioner.objectives.objective import Objective
from captioner.objectives.reinforce import Reinforce
from captioner.objectives.term import CollectedRollouts
from captioner.records import AttentionMode, Batch, Regions, Rollout, StepRecord


def some_rollout(images=2, captions=3, steps=4, regions=5):
    torch.manual_seed(0)
    lengths = torch.tensor([[4, 2, 1], [3, 0, 2]])
    mask = lengths[..., None] > torch.arange(steps)
    alphas = torch.rand(images, captions, steps, regions).double()
    alphas = alphas / alphas.sum(-1, keepdim=True) * mask[..., None]
    log_probs, means, drawn = (-torch.rand(3, images, captions, steps).double() * mask).unbind(0)
    mode = torch.tensor(
        [
            [AttentionMode.SAMPLE, AttentionMode.EXPECTATION, AttentionMode.SAMPLE],
            [AttentionMode.SAMPLE, AttentionMode.SAMPLE, AttentionMode.EXPECTATION],
        ]
    )
    return Rollout(log_probs, means, mask, mode, StepRecord(alphas, drawn * (mode == AttentionMode.SAMPLE)[..., None]))


def words_of(rollout):
    return list(zip(*rollout.mask.nonzero().T.tolist(), strict=True))


def test_likelihood_is_the_mean_over_words_whatever_the_padding():
    rollout = some_rollout()
    values = [0.9 * rollout.log_probs[w] + 0.1 * rollout.mean_log_probs[w] for w in words_of(rollout)]
    assert Likelihood(0.1)(CollectedRollouts(rollout)).item() == pytest.approx(-sum(v.item() for v in values) / len(values))


@pytest.mark.parametrize("share", [False, True])
def test_doubly_stochastic_is_its_formula_and_leaves_out_empty_rows(share):
    rollout = some_rollout()
    penalties = []
    for i, c in itertools.product(range(2), range(3)):
        words = int(rollout.mask[i, c].sum())
        if words:
            target = words / 5 if share else 1.0
            penalties.append(sum((target - rollout.record.alphas[i, c, :, r].sum().item()) ** 2 for r in range(5)) / 5)
    assert DoublyStochastic(0.7, share)(CollectedRollouts(rollout)).item() == pytest.approx(0.7 * sum(penalties) / len(penalties))


def test_entropy_counts_only_what_was_drawn_and_is_shared_by_all_words():
    rollout = some_rollout()
    sampled = [w for w in words_of(rollout) if rollout.mode[w[:2]] == AttentionMode.SAMPLE]
    entropies = [torch.distributions.Categorical(rollout.record.alphas[w]).entropy().item() for w in sampled]
    assert Entropy(0.3)(CollectedRollouts(rollout)).item() == pytest.approx(-0.3 * sum(entropies) / len(words_of(rollout)))


def moving(value):
    baseline = MovingAverage(decay=0.75)
    baseline.value.fill_(value)
    baseline.started.fill_(True)
    return baseline


def test_to_go_a_draw_answers_for_the_words_from_its_own_on():
    rollout = some_rollout()
    loss = 0.0
    for i, c, t in words_of(rollout):
        if rollout.mode[i, c] == AttentionMode.SAMPLE:
            later = [w for w in words_of(rollout) if w[:2] == (i, c) and w[2] >= t]
            advantage = sum(rollout.log_probs[w].item() + 0.3 for w in later)
            loss -= 2.0 * advantage * rollout.record.log_prob[i, c, t].item()
    term = Reinforce(moving(-0.3), weight=2.0, reward_to_go=True)
    assert term(CollectedRollouts(rollout)).item() == pytest.approx(loss / len(words_of(rollout)), rel=1e-6)


def test_to_go_draws_and_peaks_are_compared_over_the_same_words():
    log_probs = -torch.rand(2, 6, 4).double()
    mask = torch.tensor([4, 0, 2])[:, None] > torch.arange(4)
    rollout = Rollout(
        log_probs * (rows := mask.repeat_interleave(2, 0)), log_probs, rows.expand(2, 6, 4), torch.full((2, 6), AttentionMode.SAMPLE), None
    )
    argmax_log_probs = -torch.rand(2, 3, 4).double() * mask
    samples = rollout.log_probs
    guesses = {LeaveOneOut(): lambda i, c, k: samples[i, 2 * c + 1 - k], SelfCritical(): lambda i, c, k: argmax_log_probs[i, c]}
    for baseline, guess in guesses.items():
        rewards, guessed, sampled = Reinforce(baseline, reward_to_go=True).outcomes(CollectedRollouts(rollout, 2, argmax_log_probs))
        for i, c, k, t in itertools.product(range(2), (0, 2), range(2), range(4)):
            left = max(1, int(mask[c, t:].sum()))
            assert rewards[i, c, k, t].item() == pytest.approx(rollout.log_probs[i, 2 * c + k, t:].sum().item() / left)
            assert guessed[i, c, k, t].item() == pytest.approx(guess(i, c, k)[t:].sum().item() / left)
        assert not sampled[:, 1].any()


def test_reinforce_reads_the_moving_average_before_it_moves():
    rollout = some_rollout()
    term = Reinforce(moving(-0.3), weight=2.0)
    rows = [
        (i, c) for i, c in itertools.product(range(2), range(3)) if rollout.mode[i, c] == AttentionMode.SAMPLE and rollout.mask[i, c].any()
    ]
    rewards = [rollout.log_probs[r].sum().item() / int(rollout.mask[r].sum()) for r in rows]
    loss = -2.0 * sum(
        (reward + 0.3) * int(rollout.mask[r].sum()) * rollout.record.log_prob[r].sum().item()
        for reward, r in zip(rewards, rows, strict=True)
    )
    measured = term.statistics(CollectedRollouts(rollout))
    assert measured["baseline"].item() == pytest.approx(-0.3)
    assert measured["advantage_variance"].item() == pytest.approx(np.var(rewards), rel=1e-6)
    assert term(CollectedRollouts(rollout)).item() == pytest.approx(loss / len(words_of(rollout)), rel=1e-6)
    assert term.baseline.value.item() == pytest.approx(0.75 * -0.3 + 0.25 * sum(rewards) / len(rewards), rel=1e-6)
    moved = term.baseline.value.item()
    term.eval()(CollectedRollouts(rollout))
    assert term.baseline.value.item() == moved


class Captioner:
    """Keeps what it was asked; log p of a row is minus its number among all rows, one word each."""

    def __init__(self):
        self.asked, self.encoded, self.decoder = [], 0, self

    def encode(self, images):
        self.encoded += 1
        return Regions(images.flatten(1)[:, None], torch.zeros(1, 2))

    def rollout(self, regions, captions, mode):
        self.asked.append((captions, mode, torch.is_grad_enabled()))
        rows = captions.shape[:2]
        mask = captions[..., 1:] != 0
        log_probs = -torch.arange(1.0, 1 + rows.numel()).view(*rows, 1) * mask
        alphas = torch.ones(*mask.shape, 1) * mask[..., None]
        return Rollout(log_probs, log_probs, mask, mode, StepRecord(alphas, torch.zeros(mask.shape)))


def some_batch(images, captions):
    words = torch.tensor([1, 5]) + torch.zeros(images, captions, 1, dtype=torch.long)
    words[..., 1] += torch.arange(captions)
    return Batch(torch.zeros(images, 3, 1, 1), words, torch.arange(images))


def test_an_objective_asks_for_one_rollout_and_tosses_a_coin_for_each_caption():
    torch.manual_seed(0)
    captioner = Captioner()
    objective = Objective({"likelihood": Likelihood(), "entropy": Entropy()}, expectation_probability=0.25, samples=3)
    assert set(objective(captioner, some_batch(200, 5))) == {"likelihood", "entropy"}
    assert captioner.encoded == 1
    [(asked, mode, learning)] = captioner.asked
    assert learning
    assert mode.shape == (200, 15)
    mode, words = mode.view(200, 5, 3), asked.view(200, 5, 3, 2)
    assert (mode == mode[..., :1]).all()
    assert (words == words[:, :, :1]).all()
    assert (mode == AttentionMode.EXPECTATION).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert (mode != mode[:, :1]).any()


def test_the_first_training_batches_look_by_expectation_once_a_caption_and_evaluation_counts_none():
    torch.manual_seed(0)
    captioner = Captioner()
    objective = Objective({"reinforce": Reinforce(LeaveOneOut())}, expectation_probability=0.0, samples=2, expectation_batches=3)
    for training in (True, False, True, True, True, True):
        objective.train(training)(captioner, some_batch(2, 3))
    modes = [mode for _, mode, _ in captioner.asked]
    assert [mode.shape[1] for mode in modes] == [3, 6, 3, 3, 6, 6]
    assert [bool((mode == AttentionMode.EXPECTATION).all()) for mode in modes] == [True, False, True, True, False, False]
    again = Objective({"reinforce": Reinforce(LeaveOneOut())}, samples=2, expectation_batches=9)
    again.load_state_dict(objective.state_dict())
    assert int(again.batches) == 5


def test_peaks_are_asked_for_captions_that_drew_only_without_gradient_and_enter_no_other_term():
    torch.manual_seed(0)
    captioner = Captioner()
    terms = {"likelihood": Likelihood(), "reinforce": Reinforce(SelfCritical())}
    objective, batch = Objective(terms, expectation_probability=0.5, samples=2), some_batch(20, 3)
    collected = objective.collect(captioner, batch)
    assert captioner.encoded == 1
    (_, mode, _), (peaked, peak_mode, learning) = captioner.asked
    assert (peak_mode == AttentionMode.ARGMAX).all()
    assert not learning
    sampled = mode[:, ::2] == AttentionMode.SAMPLE
    assert torch.equal(peaked, batch.captions * sampled[..., None])
    assert torch.equal(collected.argmax_log_probs, -torch.arange(1.0, 61).view(20, 3, 1) * sampled[..., None])
    assert collected.rollout.mask.shape[:2] == (20, 6)
    assert objective.losses(collected)["likelihood"].item() == pytest.approx(121 / 2)
    rewards = -torch.arange(1.0, 121).view(20, 3, 2)
    assert objective.statistics(collected)["advantage_variance"].item() == pytest.approx(
        (rewards - collected.argmax_log_probs)[sampled].var(correction=0).item()
    )


def test_where_nothing_drew_reinforce_is_silent_and_no_peak_is_asked_for():
    captioner = Captioner()
    objective = Objective({"reinforce": Reinforce(SelfCritical())}, expectation_probability=1.0)
    collected = objective.collect(captioner, some_batch(2, 3))
    assert collected.argmax_log_probs is None
    assert len(captioner.asked) == 1
    assert objective.statistics(collected) == {}
    assert objective.losses(collected)["reinforce"].item() == 0.0


def test_leave_one_out_is_the_mean_of_the_other_draws_of_the_same_caption():
    rewards, sampled = torch.rand(2, 5, 3, 4), torch.ones(2, 5, 3, dtype=torch.bool)
    found = LeaveOneOut()(rewards, sampled, None)
    for i, c, k, t in itertools.product(range(2), range(5), range(3), range(4)):
        others = [rewards[i, c, j, t].item() for j in range(3) if j != k]
        assert found[i, c, k, t].item() == pytest.approx(sum(others) / 2)


def test_the_first_moving_average_is_of_the_other_rewards_of_the_batch():
    rewards, sampled = torch.rand(2, 5, 3, 4), torch.rand(2, 5, 3) < 0.6
    found = MovingAverage()(rewards, sampled, None)
    for place in sampled.nonzero().tolist():
        others = [rewards[(*other, 0)].item() for other in sampled.nonzero().tolist() if other != place]
        assert found[tuple(place)].tolist() == pytest.approx([sum(others) / len(others)] * 4)
    alone = torch.zeros(1, 1, 1, 1) - 2
    assert MovingAverage()(alone, alone[..., 0] < 0, None).item() == 0.0


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Likelihood(1.0), "label_smoothing"),
        (lambda: DoublyStochastic(-1), "weight"),
        (lambda: Entropy(-1), "weight"),
        (lambda: Reinforce(MovingAverage(), -1), "weight"),
        (lambda: MovingAverage(1.0), "decay"),
        (lambda: Objective({}), "term"),
        (lambda: Objective({"a": Entropy()}, 2.0), "expectation_probability"),
        (lambda: Objective({"a": Entropy()}, samples=0), "samples"),
        (lambda: Objective({"a": Entropy()}, expectation_batches=-1), "expectation_batches"),
        (lambda: Objective({"a": Reinforce(LeaveOneOut())}, samples=1), "samples"),
    ],
)
def test_bad_values_are_refused_by_name(make, names):
    with pytest.raises(ValueError, match=names):
        make()
