"""What does hiding a part of the image cost a word?"""

from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from captioner.errors import ArgumentError
from captioner.explain.explanation import Explanation, teacher_forced_rollout
from captioner.model import Captioner


@final
class Occlusion(Explanation):
    """map_t at a cell = log p(w_t | w_<t, image) - log p(w_t | w_<t, image with a grey square centred on that cell)

    The longer side has `cells` cells, the square's side is `window` of the shorter side, cut off at the border; grey is the mean colour of
    the transform, zero once prepared. Below zero where hiding helps the word. `batch_size` images at a time.
    Source: Zeiler and Fergus 2014, sec. 4.2; departures: there the probability of a class, and not what log p loses.
    Raises: ArgumentError, cells or batch_size not positive, a window outside (0, 1].
    """

    def __init__(self, window: float = 0.2, cells: int = 14, batch_size: int = 64) -> None:
        if not 0 < window <= 1:
            raise ArgumentError("window", f"is a share of the image's shorter side, in (0, 1], not {window}")
        if cells < 1 or batch_size < 1:
            raise ArgumentError("cells", f"(a side) and batch_size (images) must be positive, not {cells} and {batch_size}")
        self.window, self.cells, self.batch_size = window, cells, batch_size

    @torch.no_grad()
    def relevance(
        self, captioner: Captioner, image: Float[Tensor, "3 height width"], ids: Int[Tensor, " ids"]
    ) -> Float[Tensor, "words rows cols"]:
        height, width = image.shape[1:]
        rows, cols = (max(1, round(self.cells * side / max(height, width))) for side in (height, width))
        reach = self.window * min(height, width) / 2
        down, across = near(rows, height, reach, image.device), near(cols, width, reach, image.device)
        hidden = (down[:, None, :, None] & across[None, :, None, :]).flatten(0, 1)
        whole = teacher_forced_rollout(captioner, image[None], ids[None]).log_probs[0, 0, :-1]
        found = [
            teacher_forced_rollout(captioner, image.masked_fill(some[:, None], 0.0), ids[None]).log_probs[:, 0, :-1]
            for some in hidden.split(self.batch_size)
        ]
        return (whole - torch.cat(found)).T.unflatten(1, (rows, cols))


def near(cells: int, pixels: int, reach: float, device: torch.device) -> Tensor:
    """(cells, pixels): true for the pixels of a line whose middle is within `reach` of a cell's."""
    centres = (torch.arange(cells, device=device) + 0.5) * pixels / cells
    return ((torch.arange(pixels, device=device) + 0.5) - centres[:, None]).abs() < max(reach, 0.5)
