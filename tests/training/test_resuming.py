"""Random states in checkpoints."""

import random
from pathlib import Path

import numpy as np
import torch

from captioner.training.resuming import RandomStates, restore_random_states


def test_random_states_come_back_from_a_file_that_holds_plain_values_only(tmp_path: Path) -> None:
    torch.save(RandomStates().state_dict(), tmp_path / "states")
    drawn = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))  # noqa: NPY002
    restore_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert drawn == (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), random.gauss(0, 1))  # noqa: NPY002
