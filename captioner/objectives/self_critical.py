"""Learn words from the score of whole captions that the model itself has drawn."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.objectives.term import CollectedRollouts, DrawnCaptions, Term

log = logging.getLogger(__name__)

BASELINES = ("greedy", "leave_one_out")
SELDOM_LAST = 1 / 200
"""A word that is the last of a caption in a smaller share of its occurrences is a bad ending: "a", "the", "with"."""
OFTEN = 50
"""Words of fewer occurrences are not judged."""
GAMED = 0.05
"""From this share of bad endings on, a reward that has risen is said to be gamed."""


@runtime_checkable
class RewardProtocol(Protocol):
    """See `captioner.metrics.reward.CaptionReward`."""

    def prepare(self, references: Sequence[Sequence[Sequence[int]]]) -> None: ...

    def __call__(self, images: Sequence[int], captions: Sequence[Sequence[int]]) -> np.ndarray: ...


class SelfCriticalSequence(Term):
    """Self-critical sequence training: REINFORCE over the words of drawn captions.

        -weight * sum_k (r(w^k) - b_k) log p(w^k) / words of all drawn captions

    w^k are `drawn` captions of each image from the model, word by word, `<end>` included; r is `reward`,
    a score of a whole caption. b_k is the reward of the caption that greedy search finds ("greedy",
    Rennie et al. 2017, sec. 4), or the mean reward of the other drawn captions ("leave_one_out", Luo
    2020, sec. 2), which needs two at least. Departures: captions are drawn without dropout, and log p
    is computed with it; the sum is divided by the number of words. Beside this term a likelihood with a
    small weight is useful: a reward alone learns to end captions on a function word, which the
    statistics show (`bad_endings`), and of which a warning tells.
    Raises: ArgumentError, weight negative, too few drawn captions, another baseline.
    """

    mean_over = "captions"

    def __init__(
        self, reward: RewardProtocol, drawn: int = 5, baseline: str = "leave_one_out", max_length: int = 20, weight: float = 1.0
    ) -> None:
        super().__init__(weight)
        if baseline not in BASELINES:
            raise ArgumentError("baseline", f"is one of {', '.join(BASELINES)}, not {baseline!r}")
        least = 2 if baseline == "leave_one_out" else 1
        if drawn < least:
            raise ArgumentError("drawn", f"is a number of captions per image and at least {least} for {baseline}, not {drawn}")
        if max_length < 1:
            raise ArgumentError("max_length", f"is a number of words and at least 1, not {max_length}")
        self.reward, self.baseline = reward, baseline
        self.drawn_captions, self.needs_greedy, self.max_length = drawn, baseline == "greedy", max_length
        self.bad_endings: frozenset[int] = frozenset()
        self.first_reward: float | None = None
        self.warned = False

    def prepare(self, references: Sequence[Sequence[Sequence[int]]]) -> None:
        """Count the references of all training images, as word ids with `<end>`, and the words that seldom end one."""
        self.reward.prepare(references)
        occurrences: Counter[int] = Counter()
        last: Counter[int] = Counter()
        for of_image in references:
            for caption in of_image:
                occurrences.update(caption[:-1])
                last.update(caption[-2:-1])
        self.bad_endings = frozenset(word for word, count in occurrences.items() if count >= OFTEN and last[word] < SELDOM_LAST * count)

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        drawn = drawn_captions(collected)
        rewards, baseline = self.rewards(drawn)
        rollout = drawn.rollout
        advantage = (rewards - baseline).to(rollout.log_probs.dtype)
        log_probs = rollout.log_probs[..., : self.max_length]  # an `<end>` after so many words is not drawn
        return -self.weight * (advantage[..., None] * log_probs).sum() / rollout.mask.sum()

    def rewards(self, drawn: DrawnCaptions) -> tuple[Float[Tensor, "images drawn"], Float[Tensor, "images _"]]:
        """Of the drawn captions, and of what each is compared with."""
        device = drawn.captions.device
        rewards = torch.from_numpy(self.score(drawn.indices, drawn.captions)).to(device)
        if drawn.greedy is not None:
            return rewards, torch.from_numpy(self.score(drawn.indices, drawn.greedy)).to(device)
        return rewards, (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)

    def score(self, indices: Tensor, captions: Tensor) -> np.ndarray:
        images, number = captions.shape[:2]
        rows = captions[..., 1:].flatten(0, 1).tolist()
        words = [[word for word in row if word] for row in rows]
        return self.reward(np.repeat(indices.cpu().numpy(), number).tolist(), words).reshape(images, number)

    def statistics(self, collected: CollectedRollouts) -> dict[str, Float[Tensor, ""]]:
        """Mean reward and baseline, words per drawn caption, and the shares that end badly and that are different."""
        drawn = drawn_captions(collected)
        rewards, baseline = self.rewards(drawn)
        rows = [[word for word in row if word] for row in drawn.captions[..., 1:].flatten(0, 1).tolist()]
        bad = sum(len(row) < 2 or row[-2] in self.bad_endings for row in rows) / len(rows)
        self.warn_of_gaming(float(rewards.mean()), bad)
        numbers = {
            "reward": rewards.mean(),
            "reward_baseline": baseline.mean(),
            "drawn_words": drawn.rollout.mask.sum() / len(rows),
            "bad_endings": torch.tensor(bad),
            "different": torch.tensor(len(set(map(tuple, rows))) / len(rows)),
        }
        return {name: value.float() for name, value in numbers.items()}

    def warn_of_gaming(self, reward: float, bad_endings: float) -> None:
        """A line, once, where the reward has risen and captions no longer end as captions do."""
        if self.first_reward is None:
            self.first_reward = reward
        elif not self.warned and reward > self.first_reward and bad_endings > GAMED:
            self.warned = True
            log.warning(
                "the reward has risen from %.3f to %.3f, but %.0f %% of the drawn captions end on a word that seldom ends one: "
                "the reward is gamed; raise objective.terms.likelihood.weight",
                *(self.first_reward, reward, 100 * bad_endings),
            )


def drawn_captions(collected: CollectedRollouts) -> DrawnCaptions:
    if collected.drawn is None:
        raise ArgumentError("drawn", "is not there: no captions were drawn for this batch")
    return collected.drawn
