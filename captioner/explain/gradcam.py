"""Class-activation maps of words."""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.explain.explanation import Explanation, on_grid, prefixes, teacher_forced_rollout
from captioner.model import Captioner
from captioner.records import Regions


@final
class GradCam(Explanation):
    """Grad-CAM at the regions that the decoder is given.

        weight_tk = 1/L sum_i d log p(w_t | w_<t, a) / d a_ik,    map_ti = relu(sum_k weight_tk a_ik)

    with a_ik channel k of region i of L. Departures from the source, Selvaraju et al. 2017, sec. 3: log p of the word, given those before
    it, in the place of a class's score before the softmax; and channels that say the same of any image (coordinates) are left out, for
    they activate for none.

    Classic CAM (Zhou et al. 2016, sec. 2) has map_ci = sum_k w_ck a_ik, with w of the one linear layer between the mean over regions and a
    class's score. There d score_c / d a_ik = w_ck / L everywhere, so that Grad-CAM is CAM but for the factor 1/L and the relu
    (Selvaraju et al. 2017, sec. 3.1). A captioner has no such layer: a word reads the regions through attention, gates and a recurrence, so
    that no w belongs to it, and CAM is not among the kinds. What comes nearest is this.
    """

    def relevance(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words rows cols"]:
        with torch.no_grad():
            both = captioner.encode(torch.stack([image, torch.zeros_like(image)]))
        features, blank = both.features
        regions = both._replace(features=features[None], mask=None if both.mask is None else both.mask[:1])
        weights = region_gradients(captioner, regions, ids)[:, 0].mean(1)
        depends = (features != blank).any(0)
        return on_grid((weights * depends) @ features.T, regions)


def region_gradients(captioner: Captioner, regions: Regions, ids: Int[Tensor, " ids"]) -> Float[Tensor, "words images regions features"]:
    """d log p(w_t | w_<t, image) / d features, of all words in one pass: each word has a copy of every image."""
    words = len(ids) - 2
    copies = regions.features.detach().repeat(words, 1, 1).requires_grad_()
    mask = None if regions.mask is None else regions.mask.repeat(words, 1)
    images = len(regions.features)
    last = torch.arange(words, device=ids.device).repeat_interleave(images)
    with torch.enable_grad():
        rollout = teacher_forced_rollout(captioner, Regions(copies, regions.cells, mask), prefixes(ids).repeat_interleave(images, 0))
        total = rollout.log_probs[torch.arange(len(last), device=ids.device), 0, last].sum()
        (gradients,) = torch.autograd.grad(total, copies)
    return gradients.unflatten(0, (words, images))
