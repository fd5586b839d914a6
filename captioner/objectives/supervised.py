"""Look at what you name: boxes of objects guide the maps of the words that name them."""

import torch
from jaxtyping import Float
from torch import Tensor

from captioner.objectives.term import CollectedRollouts, Term
from captioner.records import BoxTargets


class Supervised(Term):
    """weight * the mean over words that name objects of -sum_i beta_i log alpha_i, beta even over the objects' boxes, its sum one.

    With `spread` false it is -log sum_i c_i alpha_i, which wants the weight inside the boxes, however
    it is spread: c_i is the share of region i that the boxes cover (beta is c divided by its sum). In nats.
    Words whose boxes lie outside the image do not count; a batch without any costs nothing. Zero
    weights (sparsemax) count as 10^-12 and learn nothing from this. Departures from the source, Liu
    et al. 2017, sec. 3.2: regions that a box covers in part count in part; the mean over such words
    instead of the sum over captions. With samples, each row counts.
    Raises: ArgumentError, weight negative, or a batch without `box_targets`.
    """

    needs_boxes = True
    mean_over = "box_targets"

    def __init__(self, weight: float = 1.0, spread: bool = True) -> None:
        super().__init__(weight)
        self.spread = spread

    def forward(self, collected: CollectedRollouts) -> Float[Tensor, ""]:
        if collected.box_targets is None or collected.cells is None:
            raise ValueError("box_targets: the batch holds no boxes of words; the data must have instances")
        rollout = collected.rollout
        alphas = rollout.record.alphas
        covered = covered_shares(
            collected.box_targets, collected.cells, (len(alphas), alphas.shape[1] // collected.samples, alphas.shape[2])
        )
        covered = covered.repeat_interleave(collected.samples, 1).to(alphas.dtype)
        targets = (covered.sum(-1) > 0) & rollout.mask
        covered, alphas = covered[targets], alphas[targets]  # (words regions)
        if self.spread:
            losses = -(covered / covered.sum(-1, keepdim=True) * alphas.clamp_min(1e-12).log()).sum(-1)
        else:
            losses = -(covered * alphas).sum(-1).clamp_min(1e-12).log()
        return self.weight * losses.sum() / max(len(losses), 1)


def covered_shares(
    box_targets: BoxTargets, cells: Float[Tensor, "regions 2"], shape: tuple[int, int, int]
) -> Float[Tensor, "images captions steps regions"]:
    """The share of each region that a word's boxes cover, their sum up to one; `shape` is (images, captions, steps)."""
    grid = cells.amax(0) + 1
    low, high = cells / grid, (cells + 1) / grid
    left, top, right, bottom = box_targets.boxes.unsqueeze(-1).unbind(1)  # (boxes 1) each
    height = torch.minimum(bottom, high[:, 0]) - torch.maximum(top, low[:, 0])
    width = torch.minimum(right, high[:, 1]) - torch.maximum(left, low[:, 1])
    areas = (height.clamp_min(0) * grid[0]) * (width.clamp_min(0) * grid[1])  # (boxes regions)
    shares = torch.zeros(*shape, len(cells), dtype=areas.dtype, device=areas.device)
    inside = box_targets.words[:, 2] < shape[2]
    image, caption, step = box_targets.words[inside].unbind(1)
    return shares.index_put_((image, caption, step), areas[inside], accumulate=True).clamp_max(1)
