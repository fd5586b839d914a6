import itertools

import pytest
import torch
from kinds import lstm

from captioner.objectives.doubly_stochastic import DoublyStochastic
from captioner.objectives.entropy import Entropy
from captioner.objectives.likelihood import Likelihood
from captioner.objectives.objective import Objective
from captioner.objectives.reinforce import Reinforce
from captioner.records import DRAW, EXPECT, Batch, Regions, Rollout, Trace


def some_rollout(images=2, captions=3, steps=4, regions=5):
    torch.manual_seed(0)
    lengths = torch.tensor([[4, 2, 1], [3, 0, 2]])
    mask = lengths[..., None] > torch.arange(steps)
    alphas = torch.rand(images, captions, steps, regions).double()
    alphas = alphas / alphas.sum(-1, keepdim=True) * mask[..., None]
    log_probs, means, drawn = (-torch.rand(3, images, captions, steps).double() * mask).unbind(0)
    mode = torch.tensor([[DRAW, EXPECT, DRAW], [DRAW, DRAW, EXPECT]])
    return Rollout(log_probs, means, mask, mode, Trace(alphas, drawn * (mode == DRAW)[..., None]))


def words_of(rollout):
    return list(zip(*rollout.mask.nonzero().T.tolist(), strict=True))


def test_likelihood_is_the_mean_over_words_whatever_the_padding():
    rollout = some_rollout()
    values = [0.9 * rollout.log_probs[w] + 0.1 * rollout.mean_log_probs[w] for w in words_of(rollout)]
    assert Likelihood(0.1)(rollout).item() == pytest.approx(-sum(v.item() for v in values) / len(values))


@pytest.mark.parametrize("share", [False, True])
def test_doubly_stochastic_is_its_formula_and_leaves_out_empty_rows(share):
    rollout = some_rollout()
    penalties = []
    for i, c in itertools.product(range(2), range(3)):
        words = int(rollout.mask[i, c].sum())
        if words:
            target = words / 5 if share else 1.0
            penalties.append(sum((target - rollout.trace.alphas[i, c, :, r].sum().item()) ** 2 for r in range(5)) / 5)
    assert DoublyStochastic(0.7, share)(rollout).item() == pytest.approx(0.7 * sum(penalties) / len(penalties))


def test_entropy_counts_only_what_was_drawn():
    rollout = some_rollout()
    drew = [w for w in words_of(rollout) if rollout.mode[w[:2]] == DRAW]
    entropies = [torch.distributions.Categorical(rollout.trace.alphas[w]).entropy().item() for w in drew]
    assert Entropy(0.3)(rollout).item() == pytest.approx(-0.3 * sum(entropies) / len(entropies))


def test_reinforce_reads_the_moving_average_before_it_moves():
    rollout = some_rollout()
    term = Reinforce(weight=2.0, decay=0.75)
    term.baseline.fill_(-0.3)
    term.started.fill_(True)
    rows = [(i, c) for i, c in itertools.product(range(2), range(3)) if rollout.mode[i, c] == DRAW and rollout.mask[i, c].any()]
    rewards = [rollout.log_probs[r].sum().item() / int(rollout.mask[r].sum()) for r in rows]
    loss = -2.0 * sum(
        (reward + 0.3) * int(rollout.mask[r].sum()) * rollout.trace.log_prob[r].sum().item()
        for reward, r in zip(rewards, rows, strict=True)
    )
    assert term(rollout).item() == pytest.approx(loss / sum(int(rollout.mask[r].sum()) for r in rows), rel=1e-6)
    assert term.baseline.item() == pytest.approx(0.75 * -0.3 + 0.25 * sum(rewards) / len(rewards), rel=1e-6)


def test_the_reinforce_gradient_is_the_enumerated_one():
    """3 regions, 2 words and the end: the gradient of E[log p(caption | path)] over all 27 paths against the mean of many draws."""
    torch.manual_seed(3)
    decoder = lstm(readout="sample", dropout=0.0, gate="none").double().train()
    regions = Regions(torch.randn(1, 3, 7).double() * 2, torch.tensor([[0.0, 0], [0, 1], [0, 2]]).double())
    caption = torch.tensor([[[1, 5, 6, 2]]])
    parameters = [decoder.attention.score.query.weight, decoder.attention.score.energy.weight, decoder.initial.weight]
    paths = list(itertools.product(range(3), repeat=3))
    total = 0.0
    for path in paths:
        decoder.attention.readout = Forced(path)
        rollout = decoder.rollout(regions, caption, torch.full((1, 1), DRAW))
        total = total + rollout.trace.log_prob.sum().exp() * rollout.log_probs.sum() / 3
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters)])

    decoder.attention.readout = type(lstm(readout="sample").attention.readout)()
    draws, gradients, term = 4000, [], Reinforce()
    for _ in range(12):
        rollout = decoder.rollout(regions, caption.expand(1, draws, 4), torch.full((1, draws), DRAW))
        loss = Likelihood()(rollout) + term(rollout)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(-loss, parameters)]))
    estimates = torch.stack(gradients)
    error = (estimates.mean(0) - exact).abs()
    assert (error < 6 * estimates.std(0) / len(gradients) ** 0.5 + 1e-9).all()
    assert exact.abs().max() > 1e-3


class Forced(torch.nn.Module):
    """A readout that takes a given path instead of drawing one."""

    def __init__(self, path):
        super().__init__()
        self.path = list(path)

    def forward(self, alphas, values, mode):
        region = self.path.pop(0)
        once = torch.zeros_like(alphas)
        once[..., region] = 1.0
        return once @ values, alphas[..., region].log()


def test_an_objective_asks_for_one_rollout_and_tosses_a_coin_for_each_caption():
    modes = []

    class Captioner:
        training = True

        def rollout(self, batch, mode=None):
            modes.append(mode)
            return some_rollout()

    torch.manual_seed(0)
    batch = Batch(torch.zeros(200, 3, 1, 1), torch.zeros(200, 5, 4, dtype=torch.long), torch.arange(200))
    objective = Objective({"likelihood": Likelihood(), "entropy": Entropy()}, expect=0.25)
    terms = objective(Captioner(), batch)
    assert set(terms) == {"likelihood", "entropy"}
    assert len(modes) == 1
    assert (modes[0] == EXPECT).float().mean().item() == pytest.approx(0.25, abs=0.07)
    assert (modes[0] != modes[0][:, :1]).any()


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Likelihood(1.0), "label_smoothing"),
        (lambda: DoublyStochastic(-1), "weight"),
        (lambda: Entropy(-1), "weight"),
        (lambda: Reinforce(-1), "weight"),
        (lambda: Reinforce(decay=1.0), "decay"),
        (lambda: Objective({}), "term"),
        (lambda: Objective({"a": Entropy()}, 2.0), "expect"),
    ],
)
def test_bad_values_are_refused_by_name(make, names):
    with pytest.raises(ValueError, match=names):
        make()
