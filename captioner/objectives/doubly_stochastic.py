"""Every region gets its share of attention over the caption."""

from jaxtyping import Float
from torch import Tensor

from captioner.objectives.term import CollectedRollouts, Term


class DoublyStochastic(Term):
    """weight * mean over captions of mean_i (tau - sum_t alpha_ti)^2, tau = words / regions where `share` is true, else 1 as in the paper.

    Departures from the source, Xu et al. 2015, sec. 4.2.1 (eq. 14): the mean over regions instead of
    the sum, so that a weight means the same on every grid; it stands beside a likelihood per word,
    not per caption; `share`, because L words cannot give 196 regions one each; and its use with
    sampled regions (conf/objective/hard.yaml), where the paper's learning rule (sec. 4.1) has no such
    term. Raises: ArgumentError, weight negative.
    """

    mean_over = "captions"

    def __init__(self, weight: float = 1.0, share: bool = False) -> None:
        super().__init__(weight)
        self.share = share

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        rollout = collected.rollout
        attended = rollout.record.alphas.sum(2)  # (images captions regions)
        words = rollout.mask.sum(-1)
        target = (words / attended.shape[-1])[..., None] if self.share else 1.0
        penalty = (target - attended).square().mean(-1)
        captions = words > 0
        return self.weight * (penalty * captions).sum() / captions.sum()
