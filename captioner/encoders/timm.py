"""Any model of the package timm as an encoder: an optional extra."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from captioner.bundle import load_state, read_tensors
from captioner.encoders.encoder import as_regions
from captioner.encoders.staged import Staged
from captioner.errors import ArgumentError, InputError
from captioner.records import Regions

log = logging.getLogger(__name__)

NEAR = 0.01
"""Means and deviations of pixels in 0..1 that differ by less are the same: 127 / 255 and 1 / 2."""


class Timm(Staged):
    """A timm model without its pooling and head: convolutional, of windows, or of tokens (whose prefix, class and registers, is dropped).

    `name` is timm's, `features` the channels of a region, stated by the caller and held to the model. `weights`: "default" downloads
    timm's own (once, to its cache), None leaves them random, a path reads a `.safetensors` or `.pth` state dict of the timm model,
    whose head is passed over. `images` says what images the weights want; its mean and deviation are held to those that timm has for the
    model (`timm.data.resolve_model_data_config`), and its size becomes timm's. Transformers for which timm knows `dynamic_img_size` take
    images of other sizes than they were trained on.

    `stages` are timm's own groups, counted from the pixels; `frozen`, `finetune_from`, `grid` and `hold_statistics` are as `Trunk`'s.
    Raises: ArgumentError, `features` not the model's, other `images`, an unknown stage, a grid not positive; InputError, timm is not
    installed or has no such model, weights that cannot be had or do not fit, an image that the model does not take or makes no grid of.
    """

    receptive_field = None

    def __init__(
        self,
        name: str,
        features: int,
        weights: str | Path | None = "default",
        frozen: bool = True,
        finetune_from: str | int | None = None,
        grid: int | None = None,
        hold_statistics: bool = True,
        images: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if grid is not None and grid < 1:
            raise ArgumentError("grid", f"is a number of cells a side and must be positive, not {grid}")
        self.name, self.features, self.grid = name, features, grid
        self.model, groups = _make(name, weights)
        if features != self.model.num_features:
            raise ArgumentError("features", f"of {name} must be {self.model.num_features}, not {features}")
        self.stride = _stride(self.model)
        self.images = images if images is None or weights is None else _own_images(self.model, name, images)
        self.arrange("model", groups, frozen, finetune_from, hold_statistics)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> Regions:
        height, width = images.shape[2:]
        try:
            found = self.model.forward_features(images)
        except AssertionError as error:  # timm's word for a size that does not fit
            own = (self.images or {}).get("size")
            hint = "" if own is None else f"; transform.size={str(own).replace(' ', '')} is its own size"
            raise InputError(f"transform.size: timm's {self.name} takes no images of {height}x{width} pixels ({error}){hint}") from None
        maps = self._maps(found, -(-height // self.stride), -(-width // self.stride))
        return as_regions(maps if self.grid is None else nn.functional.adaptive_avg_pool2d(maps, self.grid))

    def _maps(self, found: Any, rows: int, cols: int) -> Float[Tensor, "images features rows cols"]:
        """Maps of what timm's models give: their channels come second or last, their cells as a grid or as tokens."""
        shape = tuple(found.shape) if isinstance(found, Tensor) else ()
        last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        if len(shape) == 4 and shape[1] == self.features and not last:
            return found
        if len(shape) == 4 and shape[3] == self.features:
            return found.permute(0, 3, 1, 2)
        if len(shape) == 3 and shape[2] == self.features:
            prefix = getattr(self.model, "num_prefix_tokens", shape[1] - rows * cols)
            if shape[1] - prefix == rows * cols and prefix >= 0:
                return found[:, prefix:].transpose(1, 2).unflatten(2, (rows, cols))
        raise InputError(f"encoder.name: timm's {self.name} makes {shape or type(found).__name__}, no grid of {rows}x{cols} regions")


def _make(name: str, weights: str | Path | None) -> tuple[Any, dict[str, tuple[str, ...]]]:
    """The model with `weights` and without a head, and its parameters by stage."""
    try:
        import timm
    except ModuleNotFoundError:
        raise InputError('encoder=timm needs an extra that is not installed: pip install "captioner[timm]"') from None
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:3] or ["resnet50", "vit_base_patch16_224", "swin_tiny_patch4_window7_224"]
        raise InputError(f"encoder.name: timm has no model {name!r}; for instance {', '.join(near)}")
    model: Any = _create(name, weights == "default")
    ignored = set(model.state_dict())
    model.reset_classifier(0)
    if weights not in (None, "default"):
        own = model.state_dict()
        tensors = read_tensors(weights, f"weights of {name}")
        kept = {key: tensor for key, tensor in tensors.items() if key in own or key not in ignored}
        counters = {key: tensor for key, tensor in own.items() if key.endswith("num_batches_tracked") and key not in kept}
        load_state(model, kept | counters, f"{weights} (weights of {name})")
        log.info("%s: %d tensors from %s", name, len(kept), weights)
    return model, _groups(model)


def _create(name: str, pretrained: bool) -> nn.Module:
    import timm

    try:
        try:
            return timm.create_model(name, pretrained=pretrained, dynamic_img_size=True)
        except TypeError:  # a model that knows no such option
            return timm.create_model(name, pretrained=pretrained)
    except Exception as error:  # whatever a download fails with
        if not pretrained:
            raise
        reason = " ".join(str(error).split())[:160]
        raise InputError(
            f"the weights of timm's {name} could not be downloaded ({reason}); "
            "pass encoder.weights=PATH to a .safetensors or .pth state dict, or encoder.weights=null for random ones"
        ) from None


def _own_images(model: Any, name: str, images: Mapping[str, Any]) -> dict[str, Any]:
    """`images` with the size that the weights were trained on. Raises: ArgumentError, they were trained with another mean or deviation."""
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(model)
    far = {part: max(abs(a - b) for a, b in zip(images.get(part, config[part]), config[part], strict=True)) for part in ("mean", "std")}
    wrong = [part for part, distance in far.items() if distance > NEAR]
    if wrong:
        said = " ".join(f"images.{part}={list(config[part])}".replace(", ", ",") for part in wrong)
        raise ArgumentError("images", f"of {name} must have timm's values: {said}")
    height, width = config["input_size"][1:]
    return {**images, "size": height if height == width else [height, width]}


def _groups(model: Any) -> dict[str, tuple[str, ...]]:
    """Names of parameters by stage, from the pixels up; one stage where timm knows none."""
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        return {"0": tuple(name for name, _ in model.named_parameters())}
    return {str(group): tuple(names) for group, names in sorted(group_parameters(model, model.group_matcher(coarse=True)).items())}


def _stride(model: Any) -> int:
    information = model.feature_info
    last = (information if isinstance(information, list) else information.info)[-1]
    return int(last["reduction"])
