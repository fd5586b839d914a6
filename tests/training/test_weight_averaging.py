"""The running average of the weights and of the statistics of batch norms, and its way through
checkpoints."""

import copy

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from captioner.training.weight_averaging import WeightAverage

TRAINER = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


def expected_average(values: list[float], decay: float) -> float:
    expected = values[0]
    for n, value in enumerate(values[1:], 2):
        now = min(decay, (1 + n) / (10 + n))
        expected = now * expected + (1 - now) * value
    return expected


def test_the_average_is_the_weighted_sum_of_all_weights_so_far() -> None:
    module, averaging = nn.Linear(2, 3), WeightAverage(decay=0.5)
    values = [float(step) ** 2 for step in range(1, 6)]
    for value in values:
        nn.init.constant_(module.weight, value)
        averaging.update(module)
    averaging.use_average(module)
    assert module.weight[1, 0].item() == pytest.approx(expected_average(values, 0.5))
    averaging.restore_trained(module)
    assert module.weight[1, 0].item() == 25.0


def test_an_average_with_decay_0_changes_nothing() -> None:
    module, averaging = nn.Linear(2, 3), WeightAverage()
    averaging.update(module)
    before = module.weight.detach().clone()
    nn.init.zeros_(module.weight)
    averaging.use_average(module)
    assert not module.weight.any()
    assert before.any()


class Normed(LightningModule):
    """One stage that learns, one that is frozen as a trunk is, and one that learns while its
    statistics are held."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.learns, self.frozen, self.held = (nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)) for _ in range(3))
        self.frozen.requires_grad_(False).eval()
        self.held[1].eval()


def statistics(module: nn.Module, name: str) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in getattr(module, name)[1].named_buffers()}


def test_statistics_of_batch_norms_that_see_training_batches_are_averaged_as_the_weights_are() -> None:
    module, averaging = Normed(), WeightAverage(decay=0.7)
    constant = {name: statistics(module, name) for name in ("frozen", "held")}
    means, variances = [], []
    for step in range(6):
        for stage in module.children():
            stage(torch.randn(5, 3, 2, 2) * (1 + step) + step)
        averaging.update(module)
        means.append(module.learns[1].running_mean[2].item())
        variances.append(module.learns[1].running_var[1].item())
    last = copy.deepcopy(module.state_dict())
    averaging.use_average(module.eval())
    averages = statistics(module, "learns")
    assert averages["running_mean"][2].item() == pytest.approx(expected_average(means, 0.7), rel=1e-5)
    assert averages["running_var"][1].item() == pytest.approx(expected_average(variances, 0.7), rel=1e-5)
    assert averages["running_var"][1].item() != pytest.approx(variances[-1], rel=0.01)
    assert averages["num_batches_tracked"] == 6
    for name, before in constant.items():
        assert all(torch.equal(before[key], value) for key, value in statistics(module, name).items())
    averaging.restore_trained(module)
    assert all(torch.equal(last[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("during_validation", [False, True])
def test_a_checkpoint_holds_the_average_and_gives_back_what_was_in_training(during_validation: bool, tmp_path) -> None:
    """Also a checkpoint that is written while the module holds the average; it is read as plain
    tensors."""
    module, averaging = Normed(), WeightAverage(decay=0.7)
    for step in range(3):
        module.learns(torch.randn(5, 3, 2, 2) + step)
        averaging.update(module)
        nn.init.constant_(module.learns[0].weight, step)
    trained = copy.deepcopy(module.state_dict())
    if during_validation:
        averaging.use_average(module)
    checkpoint = {"state_dict": module.state_dict()}
    averaging.on_save_checkpoint(TRAINER, module, checkpoint)
    torch.save(checkpoint, tmp_path / "one.ckpt")
    checkpoint = torch.load(tmp_path / "one.ckpt", weights_only=True)

    fresh, restored = Normed(), WeightAverage(decay=0.7)
    fresh.load_state_dict(checkpoint["state_dict"])
    assert not torch.equal(fresh.learns[1].running_mean, trained["learns.1.running_mean"])
    restored.on_load_checkpoint(TRAINER, fresh, checkpoint)
    assert all(torch.equal(trained[key], value) for key, value in fresh.state_dict().items())
    averaging.restore_trained(module)
    for each, average in ((module, averaging), (fresh, restored)):
        torch.manual_seed(1)
        each.learns.train()(torch.randn(5, 3, 2, 2))
        average.update(each)
        average.use_average(each)
    assert all(torch.equal(left, right) for left, right in zip(module.state_dict().values(), fresh.state_dict().values(), strict=True))
