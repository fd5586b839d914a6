"""Every region its share of attention over the caption."""

from jaxtyping import Float
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.objectives.term import CollectedRollouts, Term


class DoublyStochastic(Term):
    """weight * mean over captions of mean_i (tau - sum_t alpha_ti)^2, tau = words / regions where `share` is true, else 1 as in the paper.

    Departures from the source, Xu et al. 2015, sec. 4.2.1 (eq. 14): the mean over regions instead of the sum, so that a weight means the
    same on every grid; beside a likelihood a word, not a caption; `share`, because L words cannot give 196 regions one each; and its use
    with sampled regions (conf/objective/hard.yaml), where the paper's learning rule (sec. 4.1) has no such term.
    Raises: ArgumentError, weight negative.
    """

    mean_over = "captions"

    def __init__(self, weight: float = 1.0, share: bool = False) -> None:
        super().__init__()
        if weight < 0:
            raise ArgumentError("weight", f"must not be negative, not {weight}")
        self.weight, self.share = weight, share

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        rollout = collected.rollout
        looked = rollout.record.alphas.sum(2)
        words = rollout.mask.sum(-1)
        target = (words / looked.shape[-1])[..., None] if self.share else 1.0
        penalty = (target - looked).square().mean(-1)
        captions = words > 0
        return self.weight * (penalty * captions).sum() / captions.sum()
