"""Several captioners that decode together and give one caption."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from captioner.box import Box
from captioner.captioning import BaseCaptioner, SearchStart, TeacherForcedCaption
from captioner.data.transforms import Transform
from captioner.errors import ArgumentError, InputError
from captioner.model import Captioner
from captioner.records import Regions, Step, StepRecord
from captioner.vocabulary import Vocabulary


class Ensemble(BaseCaptioner):
    """p(w | words so far) = mean_m p_m(w | words so far), so that every search works as over one model.

    Each member sees an image through its own transform and encoder. The members have the same words, in any order; ids and search
    are the first member's. Maps are the mean over those members whose grid lies over the same pixels as the first's; a member
    without a sentinel counts as one that never uses it; there is a gate where every such member has one, and heads where there
    is one such member. Raises: InputError, members whose words differ; ArgumentError, no members.
    """

    def __init__(self, members: Sequence[Captioner]) -> None:
        if not members:
            raise ArgumentError("members", "is a list of captioners and at least one, not empty")
        self._members = list(members)
        self.vocabulary, self.search = members[0].vocabulary, members[0].search
        self.ids = [ids_in(member.vocabulary, self.vocabulary).to(member.device) for member in members]

    @classmethod
    def load(cls, models: Sequence[str | Path], device: str | torch.device = "auto") -> "Ensemble":
        """From what `Captioner.load` takes. Raises: InputError, see there; words that differ, by the names of the models."""
        members = [Captioner.load(model, device) for model in models]
        for model, member in zip(models, members, strict=True):
            try:
                ids_in(member.vocabulary, members[0].vocabulary)
            except InputError as error:
                raise InputError(f"{model} cannot caption together with {models[0]}: {error}") from None
        return cls(members)

    @property
    def members(self) -> list[Captioner]:
        return self._members

    def prepare(self, images: Sequence[Image.Image]) -> tuple[list[Regions], tuple[Box, ...]]:
        """Each member's regions; the boxes are the first member's."""
        prepared, boxes = zip(*(member.prepare(images) for member in self.members), strict=True)
        return list(prepared), boxes[0]

    def start(self, images: Sequence[Any]) -> SearchStart:
        """`images`: what each member has prepared for itself, pixels or regions."""
        starts = [member.start(prepared) for member, prepared in zip(self.members, images, strict=True)]
        step = JointStep([start.step for start in starts], self.ids, self._members_with_maps([start.cells for start in starts]))
        return SearchStart(step, tuple(start.state for start in starts), starts[0].images, starts[0].cells)

    def teacher_force(self, images: Sequence[Any], tokens: Sequence[str]) -> TeacherForcedCaption:
        forced = [member.teacher_force(prepared, tokens) for member, prepared in zip(self.members, images, strict=True)]
        record = mean_record([forced[m].record for m in self._members_with_maps([one.cells for one in forced])])
        return TeacherForcedCaption(log_mean([one.log_probs for one in forced]), record, forced[0].cells)

    def _members_with_maps(self, cells: Sequence[Float[Tensor, "_ 2"]]) -> list[int]:
        """The members whose grid lies over the same pixels as the first's."""
        view = self.members[0].transform
        return [m for m, member in enumerate(self.members) if same_view(member.transform, view) and torch.equal(cells[m], cells[0])]


@dataclass(frozen=True)
class JointStep:
    """One step of all members, in the words of the first one; its record is that of the members `with_maps`."""

    steps: Sequence[Any]
    ids: Sequence[Int[Tensor, " vocab"]]
    """For each member, its own id of each word of the first."""
    with_maps: Sequence[int]

    def __call__(self, state: tuple[Any, ...], words: Int[Tensor, "images queries"]) -> Step:
        steps = [step(own, ids[words]) for step, own, ids in zip(self.steps, state, self.ids, strict=True)]
        log_probs = log_mean([step.log_probs[..., ids] for step, ids in zip(steps, self.ids, strict=True)])
        return Step(log_probs, tuple(step.state for step in steps), mean_record([steps[m].record for m in self.with_maps]))

    def only(self, images: Int[Tensor, " images"]) -> "JointStep":
        return replace(self, steps=[step.only(images) for step in self.steps])


def load_captioner(models: Sequence[str | Path], device: str | torch.device = "auto") -> BaseCaptioner:
    """One model, or the ensemble of several. Raises: InputError, as `Captioner.load` and `Ensemble.load`."""
    return Captioner.load(models[0], device) if len(models) == 1 else Ensemble.load(models, device)


def ids_in(vocabulary: Vocabulary, common: Vocabulary) -> Int[Tensor, " vocab"]:
    """The id in `vocabulary` of each word of `common`. Raises: InputError, one of them has a word that the other lacks."""
    for larger, smaller, relation in ((common, vocabulary, "it lacks"), (vocabulary, common, "it alone has")):
        missing = [word for word in larger.words if word not in smaller]
        if missing:
            more = f" and {len(missing) - 3} words more" if len(missing) > 3 else ""
            raise InputError(f"models caption together when they have the same words; {relation} {', '.join(missing[:3])}{more}")
    return torch.tensor([*range(4), *(vocabulary.encode([word])[1] for word in common.words[4:])])


def log_mean(log_probs: Sequence[Float[Tensor, "*lead"]]) -> Float[Tensor, "*lead"]:
    """The logarithm of the mean of probabilities."""
    count = torch.tensor(float(len(log_probs)))
    return torch.stack(list(log_probs)).logsumexp(0) - count.log().to(log_probs[0])


def mean_record(records: Sequence[StepRecord]) -> StepRecord:
    """One record of several on the same grid."""
    first = records[0]
    if len(records) == 1:
        return first
    gates = [record.gate for record in records if record.gate is not None]
    sentinels = [torch.zeros_like(record.log_prob) if record.sentinel is None else record.sentinel for record in records]
    return StepRecord(
        torch.stack([record.alphas for record in records]).mean(0),
        torch.stack([record.log_prob for record in records]).sum(0),
        torch.stack(gates).mean(0) if len(gates) == len(records) else None,
        torch.stack(sentinels).mean(0) if any(record.sentinel is not None for record in records) else None,
    )


def same_view(one: Transform, other: Transform) -> bool:
    """Whether both show the same part of any image."""
    return one.fit == other.fit and one.height * other.width == other.height * one.width
