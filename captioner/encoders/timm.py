"""The models of the package timm, which is an optional extra, as encoders."""

from contextlib import nullcontext
from typing import Any

from jaxtyping import Float
from torch import Tensor

from captioner.encoders.pretrained import Network, PretrainedEncoder, downloading
from captioner.errors import InputError


class Timm(PretrainedEncoder):
    """A timm model without its pooling and head (arguments: see `PretrainedEncoder`).

    It is convolutional, of windows, or of tokens, whose prefix (class and registers) is left out.
    Transformers for which timm has `dynamic_img_size` take images of other sizes than they were
    trained on. Stages are timm's groups. Raises also: InputError, timm is not installed or has no
    such model, or the model makes no grid of an image.
    """

    part = "model"
    model: Any

    def network(self, name: str, pretrained: bool) -> Network:
        try:
            import timm
        except ModuleNotFoundError:
            raise InputError('encoder=timm needs an extra that is not installed: pip install "captioner[timm]"') from None
        if not timm.is_model(name):
            near = timm.list_models(f"*{name}*")[:3] or ["resnet50", "vit_base_patch16_224", "swin_tiny_patch4_window7_224"]
            raise InputError(f"encoder.name: timm has no model {name!r}; for instance {', '.join(near)}")
        with downloading(f"timm's {name}") if pretrained else nullcontext():
            model = _create(name, pretrained)
        tensors = frozenset(model.state_dict())
        model.reset_classifier(0)
        layout = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return Network(model, model.num_features, _stride(model), _stages(model), tensors, _images(model), _outputs(model), layout)

    def run(self, module: Any, images: Float[Tensor, "images 3 height width"]) -> Any:
        height, width = images.shape[2:]
        try:
            return module.forward_features(images)
        except AssertionError as error:  # timm's way to refuse a size
            size = (self.images or {}).get("size")
            hint = "" if size is None else f"; transform.size={str(size).replace(' ', '')} is the size that it was trained on"
            raise InputError(f"transform.size: timm's {self.name} takes no images of {height}x{width} pixels ({error}){hint}") from None

    def maps(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images features rows cols"]:
        height, width = images.shape[2:]
        return self._as_maps(self.run(self.model, images), -(-height // self.stride), -(-width // self.stride))

    def _as_maps(self, output: Any, rows: int, cols: int) -> Float[Tensor, "images features rows cols"]:
        """A model's output as maps: its channels are second or last, its cells a grid or tokens."""
        shape = tuple(output.shape) if isinstance(output, Tensor) else ()
        last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        if len(shape) == 4 and shape[1] == self.features and not last:
            return output
        if len(shape) == 4 and shape[3] == self.features:
            return output.permute(0, 3, 1, 2)
        if len(shape) == 3 and shape[2] == self.features:
            prefix = getattr(self.model, "num_prefix_tokens", shape[1] - rows * cols)
            if shape[1] - prefix == rows * cols and prefix >= 0:
                return output[:, prefix:].transpose(1, 2).unflatten(2, (rows, cols))
        raise InputError(f"encoder.name: timm's {self.name} makes {shape or type(output).__name__}, no grid of {rows}x{cols} regions")


def _create(name: str, pretrained: bool) -> Any:
    import timm

    try:
        return timm.create_model(name, pretrained=pretrained, dynamic_img_size=True)
    except TypeError:  # a model that has no such option
        return timm.create_model(name, pretrained=pretrained)


def _images(model: Any) -> dict[str, Any]:
    """The size, mean and deviation of the images that timm trained a model on."""
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(model)
    height, width = config["input_size"][1:]
    return {"size": height if height == width else [height, width], "mean": config["mean"], "std": config["std"]}


def _stages(model: Any) -> dict[str, tuple[str, ...]]:
    """Names of parameters by stage, from the pixels up; one stage where timm has no groups."""
    from timm.models import group_parameters

    if not hasattr(model, "group_matcher"):
        return {"0": tuple(name for name, _ in model.named_parameters())}
    return {str(group): tuple(names) for group, names in sorted(group_parameters(model, model.group_matcher(coarse=True)).items())}


def _information(model: Any) -> list[dict[str, Any]]:
    """What timm says of the maps that a model makes on its way, from the pixels up."""
    information = model.feature_info
    return information if isinstance(information, list) else information.info


def _stride(model: Any) -> int:
    return int(_information(model)[-1]["reduction"])


def _outputs(model: Any) -> tuple[str, ...]:
    """The modules whose outputs are those maps, without mere activations."""
    modules = dict(model.named_modules())
    named = [str(one.get("module")) for one in _information(model)]
    return tuple(name for name in named if name in modules and next(modules[name].parameters(), None) is not None)
