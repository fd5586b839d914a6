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
from captioner.attention.readout import Readout
from captioner.box import Box
from captioner.build import build
from captioner.captioning import BaseCaptioner, Start, TeacherForced
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
class Steps:
    """A decoder's step with its memory held."""

    say: Callable[[Any, Any, Tensor], Step]
    memory: Any

    def __call__(self, state: Any, words: Int[Tensor, "images queries"]) -> Step:
        return self.say(self.memory, state, words)

    def only(self, images: Int[Tensor, " images"]) -> "Steps":
        return Steps(self.say, select_images(self.memory, images))


class Captioner(BaseCaptioner, nn.Module):
    """Encoder, decoder, vocabulary and transform. `config` is what `from_config` made it of: plain JSON values.

    `search` is how this model finds captions where nothing else is asked for: the search of `config`, which its recipe chose, or a beam
    of 3 where `config` has none.
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
        self.search = search_of(self.config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any], vocabulary: Vocabulary) -> "Captioner":
        """From `{encoder, decoder, transform, ...}`, nested `_target_` mappings of plain values. Raises: InputError, see `build.build`."""
        for part in ("encoder", "decoder", "transform"):
            if not isinstance(config.get(part), Mapping):
                raise InputError(f"the model's configuration has no {part!r}")
        encoder = build(config["encoder"], "encoder")
        decoder = build(config["decoder"], "decoder", vocabulary_size=len(vocabulary))
        transform = build(config["transform"], "transform")
        for part, made, kind in (("encoder", encoder, Encoder), ("decoder", decoder, Decoder), ("transform", transform, Transform)):
            if not isinstance(made, kind):
                raise InputError(f"the model's configuration builds a {type(made).__name__} as its {part}")
        return cls(encoder, decoder, vocabulary, transform, config)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def encode(self, images: Float[Tensor, "images 3 height width"] | Regions) -> Regions:
        """Regions of prepared images, or of what the encoder's base made of them beforehand."""
        return self.encoder.refine(images if isinstance(images, Regions) else self.encoder.backbone(images))

    def rollout(self, batch: Batch, mode: Int[Tensor, "images captions"] | None = None) -> Rollout:
        """The batch's captions run through the decoder, all captions of an image against one encoder pass."""
        if mode is None:
            mode = torch.full(batch.captions.shape[:2], AttentionMode.SAMPLE, device=batch.captions.device)
        return self.decoder.rollout(self.encode(batch.images), batch.captions, mode)

    def start(self, images: Float[Tensor, "images 3 height width"] | Regions) -> Start:
        regions = self.encode(images)
        memory, state = self.decoder.start(regions)
        return Start(Steps(self.decoder.step, memory), state, len(regions.features), regions.cells)

    @torch.no_grad()
    def teacher_force(self, images: Float[Tensor, "1 3 height width"] | Regions, tokens: Sequence[str]) -> TeacherForced:
        regions = self.encode(images)
        ids = torch.tensor([[self.vocabulary.encode(tokens)]], device=self.device)
        rollout = self.decoder.rollout(regions, ids, torch.full_like(ids[..., 0], AttentionMode.SAMPLE))
        return TeacherForced(rollout.log_probs[0, 0], map_tensors(lambda leaf: leaf[0, 0], rollout.record), regions.cells)

    def prepare(self, images: Sequence[Image.Image]) -> tuple[Regions, tuple[Box, ...]]:
        prepared, boxes = zip(*(self.transform.prepare(image) for image in images), strict=True)
        return self.encode_still(torch.stack(prepared)), boxes

    @property
    def sampling_readouts(self) -> list[Any]:
        """The readouts that draw regions; none where attention is soft."""
        return [part for part in self.modules() if isinstance(part, Readout) and hasattr(part, "eval_mode")]

    @torch.no_grad()
    def encode_still(self, prepared: Float[Tensor, "images 3 height width"]) -> Regions:
        """What the encoder's base makes of images, on the captioner's device."""
        return self.encoder.backbone(prepared.to(self.device))

    def save(self, folder: str | Path, card: str = "") -> None:
        """Write a self-contained model folder, whole or not at all; where the trunk's first weights came from is not kept."""
        config = copy.deepcopy(self.config)
        config["encoder"] = portable_config(config.get("encoder", {}))
        tensors = dict(self.state_dict())
        bundle.save(folder, tensors, config, self.vocabulary.to_json(), card or default_card(self))

    @classmethod
    def load(cls, model: str | Path, device: str | torch.device = "auto") -> "Captioner":
        """From a `model/` folder, a run's folder (its `model/`), or a training checkpoint (`.ckpt`); set to evaluation.

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


def search_of(config: Mapping[str, Any]) -> Search:
    """The search of a model's configuration. Raises: InputError, its section describes none."""
    section = config.get("search")
    if section is None:
        return BeamSearch()
    search = build(section, "search")
    if not isinstance(search, Search):
        raise InputError(f"the model's configuration builds a {type(search).__name__} as its search")
    return search


def default_card(captioner: Captioner) -> str:
    """A model card that says what is in the folder and how to use it."""
    count = sum(parameter.numel() for parameter in captioner.parameters())
    return (
        f"# An image captioner with spatial attention\n\n{count:,} parameters, {len(captioner.vocabulary):,} words.\n\n"
        "```python\nfrom captioner import Captioner\n\n"
        'model = Captioner.load("model")\ncaption = model.caption("photo.jpg")\ncaption.overlay().save("attention.png")\n```\n'
    )
