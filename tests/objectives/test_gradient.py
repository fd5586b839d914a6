"""REINFORCE is unbiased: the exact gradient over all 9 paths (3 regions, 2 words) against many samples, for each baseline in conf."""

import copy
import itertools

import pytest
import torch
import yaml
from kinds import CONF, kinds, lstm

from captioner.build import build
from captioner.objectives.baseline import Baseline
from captioner.objectives.objective import Objective
from captioner.records import AttentionMode, Batch, Regions

CAPTION = [1, 5, 2]
BATCHES, ROWS = 60, 400
Z = 5.0
"""Standard errors that the mean of the batches may lie off; of some 90 numbers none does by chance but once in a thousand times."""


class Small:
    """A decoder in float64 before fixed regions, which is a captioner for an objective."""

    def __init__(self):
        torch.manual_seed(3)
        self.decoder = lstm(readout="sample", dropout=0.0, gate="none").double().train()
        with torch.no_grad():
            self.decoder.attention.score.energy.weight.mul_(4)
            self.decoder.output.weight.mul_(3)
        attention = self.decoder.attention
        self.parameters = [attention.score.query.weight, attention.score.energy.weight, self.decoder.initial.weight]
        self.regions = Regions(torch.randn(1, 3, 7).double() * 2, torch.tensor([[0.0, 0], [0, 1], [0, 2]]).double())

    def encode(self, images):
        return images

    def gradient(self, value):
        return torch.cat([part.flatten() for part in torch.autograd.grad(value, self.parameters)])

    def exact(self, expectation_probability):
        """Of (1 - expectation_probability) E[log p(caption | path)] + expectation_probability log p(caption | expectation), a word."""
        caption, words = torch.tensor([[CAPTION]]), len(CAPTION) - 1
        total, sampled = 0.0, self.decoder.attention.readout
        for path in itertools.product(range(3), repeat=words):
            self.decoder.attention.readout = Forced(path)
            rollout = self.decoder.rollout(self.regions, caption, torch.full((1, 1), AttentionMode.SAMPLE))
            total = total + (1 - expectation_probability) * rollout.record.log_prob.sum().exp() * rollout.log_probs.sum() / words
        self.decoder.attention.readout = sampled
        soft = self.decoder.rollout(self.regions, caption, torch.full((1, 1), AttentionMode.EXPECTATION)).log_probs.sum() / words
        return self.gradient(total + expectation_probability * soft)


class Forced(torch.nn.Module):
    """A readout that takes a given path instead of drawing one."""

    def __init__(self, path):
        super().__init__()
        self.path = list(path)

    def forward(self, alphas, mode):
        region = self.path.pop(0)
        once = torch.zeros_like(alphas)
        once[..., region] = 1.0
        return once, alphas[..., region].log().sum(-1)


class OwnRewardToo(Baseline):
    """The mean over all samples of a caption, the one it is held against among them: biased."""

    def forward(self, rewards, sampled, argmax_log_probs):
        return rewards.mean(2, keepdim=True).expand_as(rewards)


def objective(kind, expectation_probability=0.0, reward_to_go=True):
    """The shipped hard objective with that baseline, without the terms that are no likelihood."""
    hard = yaml.safe_load((CONF / "objective" / "hard.yaml").read_text())["terms"]
    chosen = yaml.safe_load((CONF / "objective" / "baseline" / f"{kind}.yaml").read_text())
    assert hard["reinforce"]["weight"] == 1.0
    baseline = chosen["terms"]["reinforce"]["baseline"]
    terms = {
        "likelihood": {"_target_": "captioner.objectives.likelihood.Likelihood"},
        "reinforce": {**hard["reinforce"], "baseline": baseline, "reward_to_go": reward_to_go},
    }
    return build(
        {
            "_target_": "captioner.objectives.objective.Objective",
            "expectation_probability": expectation_probability,
            "samples": chosen["samples"],
            "terms": terms,
        }
    )


def errors(captioner, asked: Objective, exact):
    """How many standard errors each number of the mean gradient lies off."""
    batch = Batch(captioner.regions, torch.tensor([[CAPTION]]).expand(1, ROWS // asked.samples, -1), torch.zeros(1, dtype=torch.long))
    torch.manual_seed(0)
    estimates = torch.stack([captioner.gradient(-sum(asked(captioner, batch).values())) for _ in range(BATCHES)])
    return (estimates.mean(0) - exact).abs() / (estimates.std(0) / BATCHES**0.5 + 1e-9)


@pytest.mark.parametrize("reward_to_go", [False, True])
@pytest.mark.parametrize(
    ("kind", "expectation_probability"), [*((kind, 0.0) for kind in kinds("objective/baseline")), ("leave_one_out", 0.5)]
)
def test_the_mean_of_many_draws_is_the_enumerated_gradient(kind, expectation_probability, reward_to_go):
    captioner = Small()
    exact = captioner.exact(expectation_probability)
    assert exact.abs().max() > 1e-2
    assert errors(captioner, objective(kind, expectation_probability, reward_to_go), exact).max() < Z


def test_a_baseline_that_knows_the_reward_it_is_held_against_is_found_out():
    captioner, asked = Small(), objective("leave_one_out")
    biased = copy.deepcopy(asked)
    biased.terms["reinforce"].baseline = OwnRewardToo()
    assert errors(captioner, biased, captioner.exact(0.0)).max() > 2 * Z
