"""Image -> regions -> (look, say a word) until `<end>`: a `Captioner` is an encoder, a decoder, a vocabulary and a transform."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from captioner import bundle
from captioner.attention.readout import HardReadout
from captioner.box import Box
from captioner.build import build
from captioner.captioning import BaseCaptioner, SearchStart, TeacherForcedCaption
from captioner.data.transforms import Transform
from captioner.decoders.decoder import Decoder
from captioner.devices import resolve_device
from captioner.encoders.encoder import Encoder, portable_config
from captioner.errors import InputError
from captioner.records import AttentionMode, Batch, Regions, Rollout, Step, map_tensors, select_images
from captioner.saved_models import build_without_memory, read_saved_model
from captioner.search.beam import BeamSearch
from captioner.search.search import Search
from captioner.vocabulary import Vocabulary


@dataclass(frozen=True)
class DecoderStep:
    """A decoder's step with its memory, as a search calls it."""

    step: Callable[[Any, Any, Tensor], Step]
    memory: Any

    def __call__(self, state: Any, words: Int[Tensor, "images queries"]) -> Step:
        return self.step(self.memory, state, words)

    def only(self, images: Int[Tensor, " images"]) -> "DecoderStep":
        return DecoderStep(self.step, select_images(self.memory, images))


class Captioner(BaseCaptioner, nn.Module):
    """Encoder, decoder, vocabulary and transform. `config`: the plain JSON values that `from_config` built it from.

    `search` is that of `config`, which the model's recipe chose, or a beam of 3 where `config` has none.
    """

    def __init__(
        self, encoder: Encoder, decoder: Decoder, vocabulary: Vocabulary, transform: Transform, config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.vocabulary = vocabulary
        self.transform = transform
        self.config: dict[str, Any] = copy.deepcopy(dict(config or {}))
        self.search = BeamSearch() if self.config.get("search") is None else build_part(self.config, "search", Search)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], vocabulary: Vocabulary) -> "Captioner":
        """From `{encoder, decoder, transform, ...}`, nested `_target_` mappings of plain values. Raises: InputError, see `build.build`."""
        for name in ("encoder", "decoder", "transform"):
            if not isinstance(config.get(name), Mapping):
                raise InputError(f"the model's configuration has no {name!r}")
        encoder = build_part(config, "encoder", Encoder)
        decoder = build_part(config, "decoder", Decoder, vocabulary_size=len(vocabulary))
        return cls(encoder, decoder, vocabulary, build_part(config, "transform", Transform), config)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode(self, images: Float[Tensor, "images 3 height width"] | Regions) -> Regions:
        """The regions of prepared images, or of what the encoder's backbone made of them before."""
        return self.encoder.refine(images if isinstance(images, Regions) else self.encoder.backbone(images))

    def rollout(self, batch: Batch, mode: Int[Tensor, "images captions"] | None = None) -> Rollout:
        """Run the batch's captions through the decoder; each image is encoded once for all of its captions."""
        if mode is None:
            mode = torch.full(batch.captions.shape[:2], AttentionMode.SAMPLE, device=batch.captions.device)
        return self.decoder.rollout(self.encode(batch.images), batch.captions, mode)

    def start(self, images: Float[Tensor, "images 3 height width"] | Regions) -> SearchStart:
        regions = self.encode(images)
        memory, state = self.decoder.start(regions)
        return SearchStart(DecoderStep(self.decoder.step, memory), state, len(regions.features), regions.cells)

    @torch.no_grad()
    def teacher_force(self, images: Float[Tensor, "1 3 height width"] | Regions, tokens: Sequence[str]) -> TeacherForcedCaption:
        regions = self.encode(images)
        ids = torch.tensor([[self.vocabulary.encode(tokens)]], device=self.device)
        rollout = self.decoder.rollout(regions, ids, torch.full_like(ids[..., 0], AttentionMode.SAMPLE))
        return TeacherForcedCaption(rollout.log_probs[0, 0], map_tensors(lambda leaf: leaf[0, 0], rollout.record), regions.cells)

    @torch.no_grad()
    def prepare(self, images: Sequence[Image.Image]) -> tuple[Regions, tuple[Box, ...]]:
        """What the encoder's backbone makes of the images, on the captioner's device, and the pixels that their grids cover."""
        prepared, boxes = zip(*(self.transform.prepare(image) for image in images), strict=True)
        return self.encoder.backbone(torch.stack(prepared).to(self.device)), boxes

    @property
    def sampling_readouts(self) -> list[Any]:
        """The readouts that sample regions; there are none where attention is soft."""
        return [part for part in self.modules() if isinstance(part, HardReadout)]

    def save(self, folder: str | Path, card: str = "", kind: str = "float32") -> None:
        """Write a self-contained model folder, whole or not at all; it does not name the source of the trunk's first weights.

        kind: float32, or float16 or int8 for a smaller file (see `captioner.packing.pack`). Raises: ArgumentError, another kind.
        """
        config = copy.deepcopy(self.config)
        config["encoder"] = portable_config(config.get("encoder", {}))
        tensors = dict(self.state_dict())
        bundle.save(folder, tensors, config, self.vocabulary.to_json(), card or default_card(self), kind)

    @classmethod
    def load(cls, model: str | Path, device: str | torch.device = "auto") -> "Captioner":
        """From a `model/` folder, a run's folder (its `model/`), a training checkpoint (`.ckpt`), or a name of `saved_models.PRETRAINED`.

        It is set to evaluation.

        device: `auto` takes an accelerator where there is one. Raises: InputError, a device that cannot be used here; a model that is
        missing, damaged, of another format, or configured with anything outside this package.
        """
        device = resolve_device(device)
        saved = read_saved_model(Path(model))
        config = saved.config
        if isinstance(config.get("encoder"), Mapping):
            config["encoder"] = portable_config(config["encoder"])
        words = saved.build(bundle.VOCABULARY, Vocabulary.from_json, saved.vocabulary)
        if (outline := build_without_memory(cls.from_config, config, words)) is not None:
            bundle.check_shapes(outline, saved.tensors, saved.path)  # a damaged size may ask for more memory than there is
        captioner = saved.build(bundle.CONFIG, cls.from_config, config, words)
        bundle.load_state(captioner, saved.tensors, saved.path)
        return captioner.to(device).eval()


def build_part(config: Mapping[str, Any], name: str, kind: type, **sizes: int) -> Any:
    """Raises: InputError, the section `name` cannot be built, or builds something else."""
    part = build(config[name], name, **sizes)
    if not isinstance(part, kind):
        raise InputError(f"the model's configuration builds a {type(part).__name__} as its {name}")
    return part


def default_card(captioner: Captioner) -> str:
    """A model card that says what is in the folder and how to use it."""
    count = sum(parameter.numel() for parameter in captioner.parameters())
    return (
        f"# An image captioner with spatial attention\n\n{count:,} parameters, {len(captioner.vocabulary):,} words.\n\n"
        "```python\nfrom captioner import Captioner\n\n"
        'model = Captioner.load("model")\ncaption = model.caption("photo.jpg")\ncaption.overlay().save("attention.png")\n```\n'
    )
