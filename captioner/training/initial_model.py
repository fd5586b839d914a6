"""The model that a run starts from: a new one, a checkpoint's, or a trained one on new data, its vocabulary kept and grown."""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captioner import bundle
from captioner.data.captions import CaptionSet
from captioner.encoders.encoder import backbone_config, portable_config
from captioner.model import Captioner
from captioner.saved_models import read_model_of_checkpoint
from captioner.training.build import Parts
from captioner.training.image_checks import TRAINED_ON, warn_of_other_pictures
from captioner.vocabulary import Vocabulary, count_tokens

log = logging.getLogger(__name__)

MANY_UNKNOWN = 0.2
"""From this share of `<unk>` among the training captions' words on, training begins with a warning."""


def make_captioner(parts: Parts, captions: CaptionSet, resume: Path | None) -> Captioner:
    """A new model, `init` on these captions, or the model of a checkpoint."""
    if resume is not None:
        _, _, words, tensors = read_model_of_checkpoint(resume)
        captioner = Captioner.from_config(without_weights(parts.model), Vocabulary.from_json(words))
        bundle.load_state(captioner, tensors, resume)
        return captioner
    counts = count_tokens(captions.tokens())
    if parts.init is None:
        vocabulary = Vocabulary.count(counts, parts.minimum_count)
        warn_of_unknown(vocabulary, counts, parts.minimum_count)
        return Captioner.from_config(parts.model, vocabulary)
    before = Captioner.load(parts.init, "cpu")
    warn_of_other_pictures(before.config, parts.model[TRAINED_ON], parts.init)
    vocabulary = before.vocabulary.extended(counts, parts.minimum_count)
    warn_of_unknown(vocabulary, counts, parts.minimum_count)
    same_encoder = same_base(before.config, parts.model)
    captioner = Captioner.from_config(without_weights(parts.model) if same_encoder else parts.model, vocabulary)
    for line in carry_over(before, captioner, captions).lines():
        log.info("init=%s: %s", parts.init, line)
    return captioner


def warn_of_unknown(vocabulary: Vocabulary, counts: Counter[str], minimum_count: int) -> None:
    """A line where a fifth or more of the training captions' words is lost."""
    share = vocabulary.unknown_share(counts)
    if share >= MANY_UNKNOWN:
        log.warning(
            "data.minimum_count=%d leaves %s words: %.0f %% of the training captions' words become <unk>; data.minimum_count=1 keeps "
            "every word (a word is what stands between spaces)",
            *(minimum_count, f"{len(vocabulary) - 4:,}", 100 * share),
        )


def without_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's configuration without the trunk's first weights: others will be filled in."""
    return {**model, "encoder": portable_config(model["encoder"])}


class Carried(NamedTuple):
    """What a model brought along: `added` words are new, `unused` ones the new data never says; `left` tensors found no place."""

    kept: int
    added: tuple[str, ...]
    unused: tuple[str, ...]
    left: tuple[str, ...]
    fresh: tuple[str, ...]

    def lines(self) -> list[str]:
        lines = [f"{self.kept} words kept, {_some(self.added, 'added')}, {_some(self.unused, 'not in the new captions')}"]
        if self.left:
            lines.append(f"not taken along: {_some(self.left, 'tensors')}")
        if self.fresh:
            lines.append(f"new and untrained: {_some(self.fresh, 'tensors')}")
        return lines


def _some(names: tuple[str, ...], what: str) -> str:
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")


def same_base(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two configurations have the same part that sees pixels, so that its tensors go over from one to the other."""
    old, new = (backbone_config(parts["encoder"]) for parts in (before, now))
    return all(old.get(key) == new.get(key) for key in ("_target_", "name"))


@torch.no_grad()
def carry_over(source: Captioner, target: Captioner, captions: CaptionSet) -> Carried:
    """Copy into `target` every tensor of the same name and shape; where new words follow the old ones, the old ones' rows."""
    words = len(source.vocabulary)
    mine, theirs = target.state_dict(), source.state_dict()
    left, fresh = [], [name for name in mine if name not in theirs]
    for name, tensor in theirs.items():
        if name in mine and mine[name].shape == tensor.shape:
            mine[name].copy_(tensor)
        elif name in mine and _only_more_words(mine[name], tensor, words, len(target.vocabulary)):
            mine[name][:words].copy_(tensor)
        else:
            left.append(name)
            fresh += [name] * (name in mine)
    said = {token for tokens in captions.tokens() for token in tokens}
    unused = tuple(word for word in source.vocabulary.words[4:] if word not in said)
    return Carried(words - 4, target.vocabulary.words[words:], unused, tuple(left), tuple(fresh))


def _only_more_words(mine: Tensor, theirs: Tensor, words: int, more: int) -> bool:
    return mine.dim() == theirs.dim() > 0 and theirs.shape[0] == words and mine.shape[0] == more and mine.shape[1:] == theirs.shape[1:]
