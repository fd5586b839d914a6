"""Feature maps of torchvision's vision transformers: a patch is a cell."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from captioner.errors import InputError


class PatchMaps(nn.Module):
    """A torchvision `VisionTransformer` without its head, for any whole number of patches.

    The tokens of the patches after the last layer and norm are the maps; the class token takes part
    in all layers and is left out of the maps. For another grid than the one of its training, the
    position embeddings are interpolated (bicubic, corners aligned, as
    `torchvision.models.vision_transformer.interpolate_embeddings` does for squares). Parameters
    have torchvision's names.
    Source: Dosovitskiy et al. 2021, sec. 3.1 and 3.2. Raises: InputError, an image is not a whole
    number of patches.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.conv_proj, self.class_token, self.encoder = model.conv_proj, model.class_token, model.encoder
        self.patch: int = model.patch_size
        self.side = model.image_size // model.patch_size

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features rows cols"]:
        count, _, height, width = images.shape
        if height % self.patch or width % self.patch:
            raise InputError(f"transform.size: a vision transformer takes whole patches of {self.patch} pixels, not {height}x{width}")
        maps = self.conv_proj(images)  # images features rows cols
        # images tokens features
        tokens = torch.cat((self.class_token.expand(count, -1, -1), maps.flatten(2).transpose(1, 2)), 1)
        tokens = self.encoder.dropout(tokens + self.positions(*maps.shape[2:]))
        return self.encoder.ln(self.encoder.layers(tokens))[:, 1:].transpose(1, 2).unflatten(2, maps.shape[2:])

    def positions(self, rows: int, cols: int) -> Float[Tensor, "1 tokens features"]:
        """Position embeddings of the class token and of a grid of patches."""
        trained = self.encoder.pos_embedding
        if (rows, cols) == (self.side, self.side):
            return trained
        grid = trained[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))  # 1 features rows cols
        resized = nn.functional.interpolate(grid, (rows, cols), mode="bicubic", align_corners=True)
        return torch.cat((trained[:, :1], resized.flatten(2).transpose(1, 2)), 1)
