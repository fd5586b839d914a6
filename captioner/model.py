"""Image -> regions -> (look, say a word) until `<end>`: a `Captioner` and the `Caption` it gives."""

import copy
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn

from captioner import bundle
from captioner.atomic_files import folder_or_backup
from captioner.attention.readout import Readout, attention_mode
from captioner.box import Box
from captioner.build import build
from captioner.captioning import DrawableCaption
from captioner.data.image_inputs import as_image, as_images
from captioner.data.images import original_size
from captioner.data.transforms import Transform
from captioner.decoders.decoder import Decoder
from captioner.devices import resolve_device
from captioner.encoders.encoder import Encoder, portable_config
from captioner.errors import ArgumentError, BrokenModelError, InputError
from captioner.formats import upgraded
from captioner.records import AttentionMode, Batch, Regions, Rollout, Step, grid_size, map_tensors, select_images
from captioner.search.beam import BeamSearch
from captioner.search.hypotheses import Found, Say
from captioner.search.search import Search
from captioner.tokenizer import tokenize
from captioner.vocabulary import Vocabulary

Item = TypeVar("Item")
Made = TypeVar("Made")
One: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""What stands for an image: see `data.image_inputs.as_images`."""
AnySearch = Search | Callable[..., Found]
"""What is called as a `Search` is; a `Search` also turns the words of its constraints into ids."""
PREFIX = "captioner."
"""Of the captioner's tensors in a training checkpoint; its configuration and vocabulary are JSON strings under `captioner`."""


@dataclass(frozen=True)
class Steps:
    """A decoder's step with its memory held."""

    say: Callable[[Any, Any, Tensor], Step]
    memory: Any

    def __call__(self, state: Any, words: Int[Tensor, "images queries"]) -> Step:
        return self.say(self.memory, state, words)

    def only(self, images: Int[Tensor, " images"]) -> "Steps":
        return Steps(self.say, select_images(self.memory, images))


BROKEN = "the model's log-probabilities are not finite numbers: its training overflowed; train again with a lower optimizer.lr"


class Hypothesis(NamedTuple):
    """One caption a search found; `log_prob` is the sum with `<end>`, `record` a `StepRecord` of numpy arrays that begin (words, ...).

    `satisfied`: see `search.hypotheses.Found`.
    """

    words: list[int]
    log_probs: list[float]
    end_log_prob: float
    log_prob: float
    score: float
    record: Any
    satisfied: bool = True


class Captioner(nn.Module):
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
        self.search: Search = own_search(self.config)

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

    @torch.no_grad()
    def generate(self, images: Float[Tensor, "images 3 height width"] | Regions, search: AnySearch | None = None) -> list[list[Hypothesis]]:
        """Captions of prepared images, free-running, the best first; found by the model's own search where none is given."""
        regions = self.encode(images)
        memory, state = self.decoder.start(regions)
        return searched(search or self.search, Steps(self.decoder.step, memory), state, regions.features.shape[0], self.vocabulary)

    @overload
    def caption(  # type: ignore[overload-overlap]  # a path is a string, which is an iterable of strings
        self, images: One, beam: int | None = None, batch_size: int = 16, search: AnySearch | None = None
    ) -> DrawableCaption: ...

    @overload
    def caption(
        self, images: Iterable[One], beam: int | None = None, batch_size: int = 16, search: AnySearch | None = None
    ) -> list[DrawableCaption]: ...

    def caption(
        self, images: Any, beam: int | None = None, batch_size: int = 16, search: AnySearch | None = None
    ) -> DrawableCaption | list[DrawableCaption]:
        """Caption one image, or a list of them `batch_size` at a time. The model is set to evaluation.

        Captions are found by the model's own search; with `beam`, by beam search with that many beams and the own search's other
        settings; with `search`, by that.

        An image is a path, a PIL image, an array (height, width) or (height, width, channels), or a tensor (channels, height, width); an
        empty list gives an empty list. Raises: InputError, anything else by name, or a file that cannot be read.
        """
        self.eval()
        return caption_all(self, images, batch_size, search or searching(self.search, beam))

    def align(self, image: Any, caption: str) -> DrawableCaption:
        """Where the model looks, and how likely it finds each word, when it is made to say `caption`.

        image: as `caption` takes it. Raises: InputError, no words, or an image that is none or cannot be read.
        """
        self.eval()
        tokens = tokenize(caption)
        if not tokens:
            raise InputError(f"the caption {caption!r} holds no word to explain")
        picture = as_image(image)
        seen, (box,) = self.prepare([picture])
        hypothesis = forced(*self.teacher_force(seen, tokens), self.vocabulary.encode(tokens)[1:-1])
        explained = self.to_caption([hypothesis], seen, picture, box)
        explained.words, explained.text = tokens, " ".join(tokens)
        return explained

    @torch.no_grad()
    def teacher_force(self, seen: Regions, tokens: Sequence[str]) -> tuple[Float[Tensor, " steps"], Any]:
        """log p of each token, then of `<end>`, on one image; and the record, whose leaves begin (steps, ...)."""
        ids = torch.tensor([[self.vocabulary.encode(tokens)]], device=self.device)
        rollout = self.rollout(Batch(seen, ids, torch.zeros(1, dtype=torch.long)))
        return rollout.log_probs[0, 0], map_tensors(lambda leaf: leaf[0, 0], rollout.record)

    def prepare(self, images: Sequence[Image.Image]) -> tuple[Regions, tuple[Box, ...]]:
        """What `generate` takes of RGB images, and the pixels that their grids cover."""
        prepared, boxes = zip(*(self.transform.prepare(image) for image in images), strict=True)
        return self.encode_still(torch.stack(prepared)), boxes

    def set_attention_mode(self, how: str) -> None:
        """How hard attention looks in evaluation from now on: by expectation ("expect"), at the "peak", or by a "draw" (torch's seed
        decides, and the batch). Raises: InputError, this model has no hard attention; ValueError, another word."""
        mode = attention_mode(how)
        if not self.sampling_readouts:
            raise InputError(f"this model's attention draws nothing: it cannot be made to look by {how}")
        for readout in self.sampling_readouts:
            readout.eval_mode = mode

    @property
    def sampling_readouts(self) -> list[Any]:
        """The readouts that draw regions; none where attention is soft."""
        return [part for part in self.modules() if isinstance(part, Readout) and hasattr(part, "eval_mode")]

    @torch.no_grad()
    def encode_still(self, prepared: Float[Tensor, "images 3 height width"]) -> Regions:
        """What the encoder's base makes of images, on the captioner's device."""
        return self.encoder.backbone(prepared.to(self.device))

    def to_caption(self, found: list[Hypothesis], regions: Regions, image: Image.Image, box: Box) -> DrawableCaption:
        """The best hypothesis in words and maps, the others as alternatives."""
        grid = grid_size(regions.cells)
        width, height = original_size(image)
        whole: dict[str, Any] = {"box": box, "width": width, "height": height, "image": image}
        best, *others = (DrawableCaption(**self.said(one), **looks(one.record, *grid), **whole) for one in found)
        best.alternatives = others
        return best

    def said(self, found: Hypothesis) -> dict[str, Any]:
        words = self.vocabulary.decode(found.words)
        numbers = {name: getattr(found, name) for name in ("log_prob", "log_probs", "end_log_prob", "score", "satisfied")}
        return {"text": " ".join(words), "words": words, **numbers}

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
        path, device = Path(model), resolve_device(device)
        if path.suffix == ".ckpt" and not path.is_dir():
            config, vocabulary, tensors = read_checkpoint(path)
        else:
            path = path / "model" if folder_or_backup(path / "model").is_dir() else path
            tensors, config, vocabulary = bundle.load(path)
        if isinstance(config.get("encoder"), Mapping):
            config["encoder"] = portable_config(config["encoder"])
        folder = path.is_dir()
        words = named(path / bundle.VOCABULARY if folder else path, Vocabulary.from_json, vocabulary)
        if (outline := without_memory(cls.from_config, config, words)) is not None:
            bundle.check_shapes(outline, tensors, path)  # a damaged size may ask for more memory than there is
        captioner = named(path / bundle.CONFIG if folder else path, cls.from_config, config, words)
        bundle.load_state(captioner, tensors, path)
        return captioner.to(device).eval()


def without_memory(make: Callable[..., Made], *given: Any) -> Made | None:
    """What `make` gives, its tensors without memory; None where it refuses, or needs numbers to be made."""
    try:
        with torch.device("meta"):
            return make(*given)
    except (InputError, NotImplementedError, RuntimeError):
        return None


def own_search(config: Mapping[str, Any]) -> Search:
    """The search of a model's configuration. Raises: InputError, its section describes none."""
    section = config.get("search")
    if section is None:
        return BeamSearch()
    search = build(section, "search")
    if not isinstance(search, Search):
        raise InputError(f"the model's configuration builds a {type(search).__name__} as its search")
    return search


def searching(own: Search, beam: int | None) -> Search:
    """`own`, or a beam search with `beam` beams and the other settings of `own` that it has too. Raises: ValueError, `beam` below 1."""
    return own if beam is None else BeamSearch.like(own, beams=beam)


def looks(record: Any, rows: int, cols: int) -> dict[str, Any]:
    """What a hypothesis' record says of where it looked, on the grid."""
    if record is None:
        return {"alphas": np.zeros((0, rows, cols), np.float32)}
    heads = record.head_alphas
    heads = None if heads is None else heads.reshape(*heads.shape[:2], rows, cols)
    alphas = record.alphas.reshape(-1, rows, cols).astype(np.float32)
    return {"alphas": alphas, "gate": record.gate, "sentinel": record.sentinel, "head_alphas": heads}


def named(path: Path, make: Callable[..., Made], *given: Any) -> Made:
    """Call `make`; what it refuses is said of the file at `path`."""
    try:
        return make(*given)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """(config, vocabulary, tensors) of a Lightning checkpoint that holds `captioner: {config, vocabulary}` as JSON strings."""
    checkpoint = bundle.read_checkpoint(path)
    try:
        record = checkpoint["captioner"]
        config, vocabulary = upgraded(json.loads(record["config"])), json.loads(record["vocabulary"])
        tensors = {name.removeprefix(PREFIX): value for name, value in checkpoint["state_dict"].items() if name.startswith(PREFIX)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not a checkpoint of this captioner ({type(error).__name__}: {error})") from None
    return config, vocabulary, tensors


def searched(search: AnySearch, step: Say, state: Any, images: int, vocabulary: Vocabulary) -> list[list[Hypothesis]]:
    """What `search` finds over `step`, in the words of `vocabulary`; `<unk>` is never said."""
    if isinstance(search, Search):
        search = search.within(vocabulary)
    never = [vocabulary.pad, vocabulary.start, vocabulary.unknown]
    return hypotheses(search(step, state, images, vocabulary.start, vocabulary.end, never))


def caption_all(model: Any, images: Any, batch_size: int, search: AnySearch) -> Any:
    """One image's caption, or a list of them, by a model that can `prepare`, `generate` and `to_caption`."""
    opened, is_one = as_images(images)
    captions: list[DrawableCaption] = []
    for batch in batches(opened, batch_size):
        seen, boxes = model.prepare(batch)
        for image, box, found in zip(batch, boxes, model.generate(seen, search), strict=True):
            captions.append(model.to_caption(found, seen, image, box))
    return captions[0] if is_one else captions


def forced(log_probs: Float[Tensor, " steps"], record: Any, ids: list[int]) -> Hypothesis:
    """Given words as a hypothesis; its score is the mean. Raises: BrokenModelError, the model gives them no probability."""
    values = log_probs.tolist()
    if np.isnan(values).any():
        raise BrokenModelError(BROKEN)
    own = numpied(map_tensors(lambda leaf: leaf[: len(ids)].cpu(), record))
    return Hypothesis(ids, values[:-1], values[-1], sum(values), sum(values) / len(values), own)


def hypotheses(found: Found) -> list[list[Hypothesis]]:
    """What a search found as plain lists, each image's best first; beams that found nothing are left out.

    Raises: BrokenModelError, an image got no caption, or one without a probability.
    """
    record = None if found.record is None else numpied(map_tensors(lambda leaf: leaf.cpu(), found.record))
    lengths, scores, totals = found.lengths.tolist(), found.score.tolist(), found.log_prob.tolist()
    satisfied, words, log_probs, ends = (
        found.satisfied.tolist(),
        found.words.tolist(),
        found.log_probs.tolist(),
        found.end_log_prob.tolist(),
    )
    listed: list[list[Hypothesis]] = []
    for i, row in enumerate(lengths):
        listed.append([])
        for k, length in enumerate(row):
            if scores[i][k] == -np.inf:
                continue
            own = None if record is None else record._make(None if leaf is None else leaf[i, k, :length] for leaf in record)
            numbers = (log_probs[i][k][:length], ends[i][k], totals[i][k], scores[i][k])
            listed[-1].append(Hypothesis(words[i][k][:length], *numbers, own, satisfied[i][k]))
    if any(not found_here or np.isnan(found_here[0].log_prob) for found_here in listed):
        raise BrokenModelError(BROKEN)
    return listed


def numpied(record: Any) -> Any:
    """The same record of numpy arrays."""
    return record._make(None if leaf is None else leaf.float().numpy() for leaf in record)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size`, the last one shorter. Raises: ValueError, size below 1."""
    if size < 1:
        raise ArgumentError("batch_size", f"is a number of images and at least 1, not {size}")
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def default_card(captioner: Captioner) -> str:
    """A model card that says what is in the folder and how to use it."""
    count = sum(parameter.numel() for parameter in captioner.parameters())
    return (
        f"# An image captioner with spatial attention\n\n{count:,} parameters, {len(captioner.vocabulary):,} words.\n\n"
        "```python\nfrom captioner import Captioner\n\n"
        'model = Captioner.load("model")\ncaption = model.caption("photo.jpg")\ncaption.overlay().save("attention.png")\n```\n'
    )
