"""The model that a run starts from: a new one, a checkpoint's, or a trained one on new data, with its vocabulary."""

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
from captioner.errors import listed
from captioner.model import Captioner
from captioner.saved_models import read_model_of_checkpoint
from captioner.training.image_checks import TRAINED_ON, warn_of_other_pictures
from captioner.training.run_parts import Parts
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
    same = same_backbone(before.config, parts.model)
    captioner = Captioner.from_config(without_weights(parts.model) if same else parts.model, vocabulary)
    for line in transfer_weights(before, captioner, captions).lines():
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


class TransferReport(NamedTuple):
    """Which words and tensors a trained model took along into another one. Unused words are those that the new captions never say."""

    kept_words: int
    added_words: tuple[str, ...]
    unused_words: tuple[str, ...]
    dropped_tensors: tuple[str, ...]
    new_tensors: tuple[str, ...]

    def lines(self) -> list[str]:
        words = f"{_counted(self.added_words, 'added')}, {_counted(self.unused_words, 'not in the new captions')}"
        lines = [f"{self.kept_words} words kept, {words}"]
        lines += [f"not taken along: {_counted(self.dropped_tensors, 'tensors')}"] if self.dropped_tensors else []
        lines += [f"new and untrained: {_counted(self.new_tensors, 'tensors')}"] if self.new_tensors else []
        return lines


def _counted(names: tuple[str, ...], what: str) -> str:
    return f"{len(names)} {what}" + (f" ({listed(names, 5)})" if names else "")


def same_backbone(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two configurations have the same backbone, so that its tensors go over from one to the other."""
    old, new = (backbone_config(model["encoder"]) for model in (before, now))
    return all(old.get(key) == new.get(key) for key in ("_target_", "name"))


@torch.no_grad()
def transfer_weights(source: Captioner, target: Captioner, captions: CaptionSet) -> TransferReport:
    """Copy into `target` every tensor of the same name and shape; where new words follow the old ones, the old ones' rows."""
    words = len(source.vocabulary)
    targets, sources = target.state_dict(), source.state_dict()
    dropped, new = [], [name for name in targets if name not in sources]
    for name, tensor in sources.items():
        if name in targets and targets[name].shape == tensor.shape:
            targets[name].copy_(tensor)
        elif name in targets and _has_more_words(targets[name], tensor, words, len(target.vocabulary)):
            targets[name][:words].copy_(tensor)
        else:
            dropped.append(name)
            new += [name] * (name in targets)
    used = {token for tokens in captions.tokens() for token in tokens}
    unused = tuple(word for word in source.vocabulary.words[4:] if word not in used)
    return TransferReport(words - 4, target.vocabulary.words[words:], unused, tuple(dropped), tuple(new))


def _has_more_words(target: Tensor, source: Tensor, words: int, more: int) -> bool:
    return target.dim() == source.dim() > 0 and (len(source), len(target)) == (words, more) and target.shape[1:] == source.shape[1:]
