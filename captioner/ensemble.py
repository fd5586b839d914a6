"""Several captioners that say one caption together."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from captioner.box import Box
from captioner.captioning import DrawableCaption
from captioner.data.image_inputs import as_image
from captioner.data.transforms import Transform
from captioner.errors import ArgumentError, InputError
from captioner.model import AnySearch, Captioner, Hypothesis, One, Steps, caption_all, forced, searched, searching
from captioner.records import Regions, Step, StepRecord
from captioner.search.search import Search
from captioner.tokenizer import tokenize
from captioner.vocabulary import Vocabulary


class Ensemble:
    """p(w | words so far) = mean_m p_m(w | words so far), so that each word is weighed by all and every search works as over one model.

    Each member sees an image through its own transform and encoder. The members know the same words, in any order; ids are the first's.
    Maps are the mean over those members that look at the same grid over the same pixels as the first (a member without a sentinel
    counts as one that never uses it; a gate or heads are given only where they can be: every such member has a gate; there is only one).
    Raises: InputError, members whose words differ; ArgumentError, no members.
    """

    def __init__(self, members: Sequence[Captioner]) -> None:
        if not members:
            raise ArgumentError("members", "is a list of captioners and at least one, not empty")
        self.members = list(members)
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
    def search(self) -> Search:
        """The first member's own search."""
        return self.members[0].search

    @property
    def vocabulary(self) -> Vocabulary:
        return self.members[0].vocabulary

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
        """As `Captioner.caption`, by the first member's own search."""
        for member in self.members:
            member.eval()
        return caption_all(self, images, batch_size, search or searching(self.search, beam))

    def align(self, image: Any, caption: str) -> DrawableCaption:
        """As `Captioner.align`: each word's probability is the mean of the members'."""
        tokens = tokenize(caption)
        if not tokens:
            raise InputError(f"the caption {caption!r} holds no word to explain")
        for member in self.members:
            member.eval()
        picture = as_image(image)
        seen, (box,) = self.prepare([picture])
        said = [member.teacher_force(regions, tokens) for member, regions in zip(self.members, seen, strict=True)]
        record = mean_record([said[m][1] for m in self.shown(seen)])
        hypothesis = forced(log_mean([log_probs for log_probs, _ in said]), record, self.vocabulary.encode(tokens)[1:-1])
        explained = self.to_caption([hypothesis], seen, picture, box)
        explained.words, explained.text = tokens, " ".join(tokens)
        return explained

    def prepare(self, images: Sequence[Image.Image]) -> tuple[list[Regions], tuple[Box, ...]]:
        """Each member's regions; the boxes are the first's."""
        seen, boxes = zip(*(member.prepare(images) for member in self.members), strict=True)
        return list(seen), boxes[0]

    @torch.no_grad()
    def generate(self, images: Sequence[Any], search: AnySearch | None = None) -> list[list[Hypothesis]]:
        """Captions of images that each member has prepared for itself (pixels or regions, one entry a member), the best first."""
        regions = [member.encode(own) for member, own in zip(self.members, images, strict=True)]
        begun = [member.decoder.start(own) for member, own in zip(self.members, regions, strict=True)]
        memories, states = zip(*begun, strict=True)
        shown = self.shown(regions)

        def step(memories: tuple[Any, ...], state: tuple[Any, ...], words: Int[Tensor, "images queries"]) -> Step:
            parts = zip(self.members, memories, state, self.ids, strict=True)
            steps = [member.decoder.step(memory, own, ids[words]) for member, memory, own, ids in parts]
            log_probs = log_mean([one.log_probs[..., ids] for one, ids in zip(steps, self.ids, strict=True)])
            return Step(log_probs, tuple(one.state for one in steps), mean_record([steps[m].record for m in shown]))

        return searched(search or self.search, Steps(step, tuple(memories)), tuple(states), regions[0].features.shape[0], self.vocabulary)

    def shown(self, seen: Sequence[Regions]) -> list[int]:
        """The members whose maps lie on the first's."""
        first, view = seen[0].cells, self.members[0].transform
        return [
            number
            for number, (member, regions) in enumerate(zip(self.members, seen, strict=True))
            if same_view(member.transform, view) and torch.equal(regions.cells, first)
        ]

    def to_caption(self, found: list[Hypothesis], seen: Sequence[Regions], image: Image.Image, box: Box) -> DrawableCaption:
        return self.members[0].to_caption(found, seen[0], image, box)

    def set_attention_mode(self, how: str) -> None:
        """As `Captioner.rest`, for every member that has hard attention. Raises: InputError, none has."""
        refused = 0
        for member in self.members:
            try:
                member.set_attention_mode(how)
            except InputError:
                refused += 1
                if refused == len(self.members):
                    raise


def ids_in(own: Vocabulary, common: Vocabulary) -> Int[Tensor, " vocab"]:
    """The `own` id of each word of `common`. Raises: InputError, one has a word that the other lacks."""
    for has, lacks, which in ((common, own, "it lacks"), (own, common, "it alone has")):
        lost = [word for word in has.words if word not in lacks]
        if lost:
            more = f" and {len(lost) - 3} words more" if len(lost) > 3 else ""
            raise InputError(f"models caption together when they know the same words; {which} {', '.join(lost[:3])}{more}")
    return torch.tensor([*range(4), *(own.encode([word])[1] for word in common.words[4:])])


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
