"""Variance of the gradient of hard attention for each baseline in conf, and for none, at an equal
number of samples per image.

Each is measured twice: where a sampled region is rewarded for the whole caption, and where it is
rewarded for the words from its step on (reward-to-go).

Images are drawn: a grid of regions, some of which hold an object, with more or less noise; the
caption names the objects in reading order. A small captioner is trained on them by objective=hard
for some steps. Then its weights stay fixed, and the gradient of likelihood and REINFORCE together
(all captions sampled, no other term) is computed repeatedly from new samples. Printed is its
variance, summed over the elements of the gradient. All baselines have the same mean gradient, so a
lower variance is the only possible gain. Leave-one-out gains where captions differ more than the
samples of one caption do; right after batches by expectation (as many --expectation-batches as
--steps) they do not.

python benchmarks/hard_gradient.py [--images 16] [--regions 9] [--objects 3] [--samples 4]
    [--steps 20 200 600] [--expectation-batches 0] [--repeats 100] [--seed 0]
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from captioner import build as configured
from captioner.decoders.decoder import Decoder
from captioner.objectives.baseline import Baseline
from captioner.objectives.objective import Objective
from captioner.records import Batch, Regions
from captioner.training.configuration import compose_run, conf_folder, groups, plain

KINDS, FEATURES, FIRST_WORD = 8, 20, 4
SIZES = [
    "decoder.hidden_size=32",
    "decoder.embedding_size=16",
    "attention.score.attention_size=24",
    "decoder.dropout=0.0",
    "objective.terms.doubly_stochastic.weight=0",
]
LEARNING_RATE = 0.01
WARM_UP_BATCHES = 40
"""Batches that the moving average has seen before its gradient is measured."""


class NoBaseline(Baseline):
    """Leaves the reward as it is."""

    def forward(
        self,
        rewards: Float[Tensor, "images captions draws words"],
        drew: Bool[Tensor, "images captions draws"],
        peaks: Float[Tensor, "images captions words"] | None,
    ) -> Float[Tensor, "images captions draws words"]:
        return torch.zeros_like(rewards)


class DecoderOnly(nn.Module):
    """A captioner whose images are regions already."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def encode(self, images: Any) -> Regions:
        return images


def draw_images(prototypes: Float[Tensor, "kinds features"], images: int, regions: int, objects: int) -> Batch:
    """Some images are clear and some are noisy, so captions are not all equally hard."""
    kinds = torch.randint(KINDS, (images, objects))
    cells = torch.stack([torch.randperm(regions)[:objects].sort().values for _ in range(images)])
    features = torch.rand(images, 1, 1) * torch.randn(images, regions, FEATURES)
    features.scatter_add_(1, cells[..., None].expand(-1, -1, FEATURES), prototypes[kinds])
    side = max(1, round(regions**0.5))
    grid = torch.tensor([[cell // side, cell % side] for cell in range(regions)], dtype=torch.float32)
    ends = torch.ones(images, 1, dtype=torch.long)
    captions = torch.cat([ends, kinds + FIRST_WORD, 2 * ends], 1)[:, None]
    return Batch(Regions(features, grid), captions, torch.arange(images))


def build(baseline: str, samples: int, expectation_batches: int = 0, reward_to_go: bool = True) -> tuple[Decoder, Objective]:
    words = [
        "attention=hard",
        "objective=hard",
        f"objective/baseline={baseline}",
        f"encoder.features={FEATURES}",
        f"objective.samples={samples}",
        f"objective.expectation_batches={expectation_batches}",
        f"objective.terms.reinforce.reward_to_go={reward_to_go}",
        *SIZES,
    ]
    config = plain(compose_run(words))
    return configured.build(config["decoder"], vocabulary_size=KINDS + FIRST_WORD), configured.build(config["objective"])


def all_sampled(objective: Objective) -> Objective:
    """Likelihood and REINFORCE alone, with every caption sampled."""
    return Objective({name: objective.terms[name] for name in ("likelihood", "reinforce")}, 0.0, objective.samples)  # type: ignore[misc]


def train(captioner: DecoderOnly, objective: Objective, draw: Callable[[], Batch], steps: int) -> float:
    """Train, each step on new images; return the last loss per word, in nats."""
    optimizer = torch.optim.Adam(captioner.parameters(), LEARNING_RATE)
    terms = {"likelihood": torch.tensor(float("nan"))}
    for _ in range(steps):
        terms = objective(captioner, draw())
        optimizer.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(captioner.parameters(), 1.0)
        optimizer.step()
    return terms["likelihood"].item()


def gradient_variance(captioner: DecoderOnly, objective: Objective, batch: Batch, repeats: int) -> tuple[float, float, float]:
    """(variance over the attention's parameters, over all parameters, milliseconds per
    gradient)."""
    inside = {id(parameter) for parameter in captioner.decoder.attention.parameters()}  # type: ignore[union-attr]
    parameters = sorted(captioner.parameters(), key=lambda parameter: id(parameter) not in inside)
    first = sum(parameter.numel() for parameter in parameters if id(parameter) in inside)

    def gradient() -> Tensor:
        loss = sum(objective(captioner, batch).values(), torch.zeros(()))
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts]).double()

    for _ in range(WARM_UP_BATCHES):
        objective(captioner, batch)
    began = time.perf_counter()
    variance = torch.stack([gradient() for _ in range(repeats)]).var(0)
    return variance[:first].sum().item(), variance.sum().item(), 1000 * (time.perf_counter() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--regions", type=int, default=9)
    parser.add_argument("--objects", type=int, default=3, help="per image; each is a word")
    parser.add_argument("--samples", type=int, default=4, help="per image, at least 2")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 200, 600], help="of training; the gradient is measured after each")
    parser.add_argument("--expectation-batches", type=int, default=0, help="the first steps of training, all by expectation")
    parser.add_argument("--repeats", type=int, default=100, help="gradients per baseline")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    draw = partial(draw_images, torch.randn(KINDS, FEATURES), options.images, options.regions, options.objects)
    batch = draw()
    decoder, trained = build("leave_one_out", options.samples, options.expectation_batches)
    captioner, done = DecoderOnly(decoder).train(), 0
    print(f"{options.images} images of {options.regions} regions, {options.samples} samples per image")
    print(f"{options.repeats} gradients per baseline")
    for steps in sorted(options.steps):
        loss, done = train(captioner, trained, draw, steps - done), steps
        report(captioner, batch, options, f"after {steps} steps of training" + (f" ({loss:.2f} nats per word)" if steps else ""))


def report(captioner: DecoderOnly, batch: Batch, options: argparse.Namespace, title: str) -> None:
    """One line per baseline; the unit of variance is that of the moving average with whole
    captions."""
    measured = {}
    kinds = ["none", *sorted(groups(conf_folder())["objective/baseline"], key=lambda name: name != "moving_average")]
    for kind, reward_to_go in itertools.product(kinds, (False, True)):
        objective = all_sampled(build("moving_average" if kind == "none" else kind, options.samples, reward_to_go=reward_to_go)[1])
        if kind == "none":
            objective.terms["reinforce"].baseline = NoBaseline()
        torch.manual_seed(options.seed + 1)
        measured[f"{kind}, to go" if reward_to_go else kind] = (
            options.samples + objective.needs_argmax,
            *gradient_variance(captioner, objective, batch, options.repeats),
        )
    unit = measured["moving_average"]
    print(f"\n{title}\n{'':<24}{'rows per image':>14}{'ms':>8}{'variance: attention':>22}{'all':>11}{'x moving average':>20}{'all':>8}")
    for kind, (rows, attention, whole, ms) in measured.items():
        relative = f"{attention / unit[1]:>20.3f}{whole / unit[2]:>8.3f}"
        print(f"{kind:<24}{rows:>14}{ms:>8.1f}{attention:>22.2e}{whole:>11.2e}{relative}")


if __name__ == "__main__":
    main()
