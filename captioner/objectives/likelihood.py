"""The likelihood of the given words."""

from jaxtyping import Float
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.objectives.term import CollectedRollouts, Term


class Likelihood(Term):
    """The mean negative log-likelihood of a word, with label smoothing e.

        -weight * mean_t [(1 - e) log p(y_t) + e mean_v log p(v)]

    In nats, over all words of the batch, `<end>` included. Source: Xu et al. 2015, eq. 14, first
    term; a departure: the mean over words, where the paper has the sum over a caption, beside which
    its other terms weigh less. Smoothing: Szegedy et al. 2016, sec. 7.
    Raises: ArgumentError, label_smoothing outside [0, 1), weight negative.
    """

    def __init__(self, label_smoothing: float = 0.0, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not 0 <= label_smoothing < 1:
            raise ArgumentError("label_smoothing", f"is a share in [0, 1), not {label_smoothing}")
        self.label_smoothing = label_smoothing

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        rollout = collected.rollout
        smoothed = (1 - self.label_smoothing) * rollout.log_probs + self.label_smoothing * rollout.mean_log_probs
        return -self.weight * (smoothed * rollout.mask).sum() / rollout.mask.sum()
