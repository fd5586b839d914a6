"""A trained model on new data: its vocabulary kept and grown, its tensors carried over."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captioner.data.captions import CaptionSet
from captioner.encoders.encoder import backbone_config
from captioner.model import Captioner


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
