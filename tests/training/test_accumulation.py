"""Gradients accumulated over batches equal those of one batch of all their images, with the real
module, data and trainer."""

import numpy as np
import pytest
import torch
from kinds import lstm
from lightning.pytorch import Trainer
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from captioner.build import build
from captioner.data.boxes import WordBoxes
from captioner.data.captions import CaptionSet
from captioner.data.instances import Instance
from captioner.data.transforms import Transform
from captioner.encoders.encoder import Encoder, as_regions
from captioner.metrics.metric import CorpusScores
from captioner.model import Captioner
from captioner.objectives.baseline import LeaveOneOut, MovingAverage, SelfCritical
from captioner.objectives.doubly_stochastic import DoublyStochastic
from captioner.objectives.entropy import Entropy
from captioner.objectives.likelihood import Likelihood
from captioner.objectives.reinforce import Reinforce
from captioner.objectives.supervised import Supervised
from captioner.objectives.term import CollectedRollouts
from captioner.records import AccumulationShares, AttentionMode, Batch, BoxTargets, Rollout, StepRecord, map_tensors
from captioner.search.beam import BeamSearch
from captioner.training.accumulation import GroupedBatches, with_shares
from captioner.training.data import CaptioningData
from captioner.training.module import CaptioningModule
from captioner.vocabulary import Vocabulary

CAPTIONS = [["a b", "c b a c b a"], ["a"], ["c", "b b", "a c"], ["c"], ["b a c a b c a"], ["a c b", "c"], ["b c"]]
"""Of seven images, with different numbers of captions and words."""
WORDS = Vocabulary(list("abc"))


class Patches(Encoder):
    """Regions without batch norm, whose statistics would be those of each batch."""

    features, stride, receptive_field = 7, 8, 8

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 7, 8, 8)

    def forward(self, images):
        return as_regions(torch.tanh(self.layer(images)))


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> CaptionSet:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for image in range(len(CAPTIONS)):
        Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(folder / f"{image}.png")
    return CaptionSet(folder, [f"{image}.png" for image in range(len(CAPTIONS))], list(range(len(CAPTIONS))), CAPTIONS)


def boxes(captions: CaptionSet) -> WordBoxes:
    """`b` names the object of each image; the box of one object is not visible."""
    instances = {
        i: [Instance("b", (2.0 + i, 1.0, 9.0, 7.0) if i != 2 else (30.0, 0.0, 4.0, 4.0), False, None)] for i in range(len(CAPTIONS))
    }

    def name_phrases(image, tokens):
        return [(place, place + 1, "b", [0]) for place, token in enumerate(tokens) if token == "b"]

    return WordBoxes(captions, instances, dict.fromkeys(range(len(CAPTIONS)), (24, 16)), name_phrases, Transform((16, 24), fit="squash"))


def train_two_epochs(captions: CaptionSet, batch_size: int, accumulate: int, **options) -> tuple[CaptioningModule, list[Batch]]:
    """Two epochs of gradient descent in float64, and the batches that the module received."""
    torch.manual_seed(0)
    model = Captioner(Patches(), lstm(len(WORDS), dropout=0.0), WORDS, Transform((16, 24), fit="squash"))
    terms = {
        "likelihood": {"_target_": "captioner.objectives.likelihood.Likelihood", "label_smoothing": 0.1},
        "doubly_stochastic": {"_target_": "captioner.objectives.doubly_stochastic.DoublyStochastic"},
        "supervised": {"_target_": "captioner.objectives.supervised.Supervised"},
    }
    objective = build({"_target_": "captioner.objectives.objective.Objective", "terms": terms})
    module = CaptioningModule(
        model,
        objective,
        BeamSearch(1),
        CorpusScores(captions.references),
        lambda captioner: torch.optim.SGD(captioner.parameters(), lr=0.5),
        lambda optimizer, epoch_steps: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / epoch_steps)),
        {},
    )
    batches = []
    collect = objective.collect
    objective.collect = lambda captioner, batch: (batches.append(batch), collect(captioner, batch))[1]
    data = CaptioningData({"train": captions, "val": captions}, WORDS, model.transform, batch_size=batch_size, boxes=boxes(captions))
    trainer = Trainer(
        max_epochs=2,
        accumulate_grad_batches=accumulate,
        accelerator="cpu",
        precision="64-true",
        gradient_clip_val=0.3,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(module, datamodule=data)
    return module, batches


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return max(float((left - right).detach().abs().max()) for left, right in pairs)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(2, 2), (1, 4), (2, 3)])
def test_accumulated_batches_take_the_steps_of_one_large_batch(batch_size: int, accumulate: int, captions: CaptionSet) -> None:
    """Also where the last group of an epoch has fewer batches: 7 images are 4 and 3, or 6 and 1."""
    large, _ = train_two_epochs(captions, batch_size * accumulate, 1)
    small, batches = train_two_epochs(captions, batch_size, accumulate)
    assert len(batches) == 2 * -(-len(CAPTIONS) // batch_size)
    assert largest_difference(large.captioner, small.captioner) < 1e-12
    torch.manual_seed(0)
    assert largest_difference(large.captioner, Captioner(Patches(), lstm(len(WORDS)), WORDS, Transform(16))) > 0.01


def test_a_group_ends_where_the_epoch_is_cut(captions: CaptionSet) -> None:
    """Five batches of one image each are groups of four and of one; the loader has more batches."""
    _, batches = train_two_epochs(captions, 1, 4, limit_train_batches=5)
    assert [
        sum(batch.accumulation_shares.captions for batch in part) for part in (batches[:4], batches[4:5], batches[5:9], batches[9:])
    ] == [pytest.approx(total) for total in (1, batches[4].accumulation_shares.captions, 1, batches[9].accumulation_shares.captions)]
    assert {batches[4].accumulation_shares.words, batches[9].accumulation_shares.words} <= {0.0, 1.0}


def test_without_accumulation_a_batch_has_no_shares_and_its_loss_is_the_plain_sum(captions: CaptionSet) -> None:
    _, batches = train_two_epochs(captions, 3, 1)
    assert [batch.accumulation_shares for batch in batches] == [None] * 6


def some_rollouts(box_targets: BoxTargets, samples: int) -> CollectedRollouts:
    generator = torch.Generator().manual_seed(4)
    mask = torch.tensor([[3, 1], [0, 4], [2, 2], [4, 0], [1, 3]])[..., None] > torch.arange(4)
    mask = mask.repeat_interleave(samples, 1)
    rows = mask.shape[:2]

    def some(*more):
        return torch.rand(*rows, 4, *more, generator=generator).double()

    alphas = some(6).softmax(-1) * mask[..., None]
    mode = torch.where(torch.rand(5, 2, generator=generator) < 0.7, AttentionMode.SAMPLE, AttentionMode.EXPECTATION).repeat_interleave(
        samples, 1
    )
    rollout = Rollout(
        -some() * mask, -some() * mask, mask, mode, StepRecord(alphas, -some() * mask * (mode == AttentionMode.SAMPLE)[..., None])
    )
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(3)).double()
    return CollectedRollouts(rollout, samples, (-some() * mask)[:, ::samples], box_targets, cells)


def select_images(collected: CollectedRollouts, images: slice) -> CollectedRollouts:
    assert collected.box_targets is not None
    inside = (collected.box_targets.words[:, 0] >= images.start) & (collected.box_targets.words[:, 0] < images.stop)
    box_targets = BoxTargets(collected.box_targets.words[inside] - torch.tensor([images.start, 0, 0]), collected.box_targets.boxes[inside])
    return CollectedRollouts(
        map_tensors(lambda leaf: leaf[images], collected.rollout),
        collected.samples,
        collected.argmax_log_probs[images],
        box_targets,
        collected.cells,
    )


def started(baseline: MovingAverage) -> MovingAverage:
    baseline.value.fill_(-0.4)
    baseline.started.fill_(True)
    return baseline.eval()


TERMS = {
    "likelihood": Likelihood(0.2),
    "doubly stochastic": DoublyStochastic(0.5, share=True),
    "entropy": Entropy(0.3),
    "leave one out": Reinforce(LeaveOneOut(), reward_to_go=True),
    "moving average": Reinforce(started(MovingAverage())),
    "self-critical": Reinforce(SelfCritical()),
    "supervised": Supervised(),
}


@pytest.mark.parametrize("name", TERMS)
def test_a_term_of_the_whole_is_the_sum_over_parts_weighted_by_their_shares(name: str) -> None:
    term = TERMS[name].eval()
    words = torch.tensor([[0, 0, 0], [0, 0, 2], [0, 0, 2], [1, 1, 3], [2, 0, 1], [2, 1, 1], [4, 1, 3], [4, 0, 1], [3, 0, 0]])
    sides = torch.tensor([[0, 0, 1, 1], [0.2, 0, 0.9, 0.4], [0, 0.5, 0.3, 2], [-1, 0, 0.5, 1], [0, 0, 1, 0.5], [1, 0, 1.5, 1]]).double()
    collected = some_rollouts(BoxTargets(words, sides[torch.arange(9) % 6]), term.minimum_samples)
    captions = torch.nn.functional.pad(collected.rollout.mask[:, :: collected.samples].long(), (1, 0), value=1)
    slices = [slice(0, 2), slice(2, 3), slice(3, 5)]
    parts = [select_images(collected, images) for images in slices]
    batches = [
        Batch(torch.zeros(len(captions[i]), 3, 1, 1), captions[i], torch.arange(len(captions[i])), part.box_targets)
        for i, part in zip(slices, parts, strict=True)
    ]
    shares = [getattr(batch.accumulation_shares, term.mean_over) for batch in with_shares(batches)]
    assert len(set(shares)) > 1
    total = sum(share * term(part) for share, part in zip(shares, parts, strict=True))
    assert total.item() == pytest.approx(term(collected).item(), rel=1e-12)


def test_a_group_is_read_before_it_is_handed_out_and_no_further() -> None:
    class Read(Dataset):
        times = 0

        def __len__(self):
            return 5

        def __getitem__(self, image):
            self.times += 1
            return Batch(torch.zeros(1, 3, 1, 1), torch.ones(1, 1, 2 + image, dtype=torch.long), torch.tensor([image]))

    loader = DataLoader(images := Read(), batch_size=None)
    grouped = GroupedBatches(loader, lambda: (2, 5))
    assert len(grouped) == 5
    assert grouped.sampler is loader.sampler
    read = [(images.times, batch.accumulation_shares) for batch in grouped]
    assert [count for count, _ in read] == [2, 2, 4, 4, 5]
    assert [shares.words for _, shares in read] == pytest.approx([1 / 3, 2 / 3, 3 / 7, 4 / 7, 1])
    assert [shares.last for _, shares in read] == [False, True, False, True, True]
    assert read[-1][1] == AccumulationShares(1, 1, 0, last=True)


def test_what_counts_batches_counts_groups(captions: CaptionSet) -> None:
    """So that all look by expectation for as many steps (`objective.expectation_batches`)."""
    for batch_size, accumulate in ((4, 1), (2, 2)):
        module, _ = train_two_epochs(captions, batch_size, accumulate)
        assert int(module.objective.batches) == 4
