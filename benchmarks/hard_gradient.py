"""Variance of the gradient of hard attention for each baseline in conf, and for none, at equal draws an image: where a draw answers
for the whole caption, and where it answers for the words from its own on (to go).

Drawn images: a grid of regions of which some hold an object, more or less noisy; the caption names the objects in reading order. A small
captioner is trained on them by objective=hard for some steps. Then its weights rest, and the gradient of likelihood and REINFORCE together
(no coin, no other term) is made again and again from new draws: its variance, summed over the numbers of the gradient, is printed. All
baselines have the same mean gradient, so less variance is all there is to gain. Leave-one-out gains where captions differ more than the
draws of one caption do; right after looks by expectation (--expect-first as many as --steps) they do not.

python benchmarks/hard_gradient.py [--images 16] [--regions 9] [--objects 3] [--draws 4] [--steps 20 200 600] [--expect-first 0]
                                   [--repeats 100] [--seed 0]
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
RATE = 0.01
MEMORY = 40
"""Batches that the moving average follows before its gradient counts."""


class Nothing(Baseline):
    """The reward as it is."""

    def forward(
        self,
        rewards: Float[Tensor, "images captions draws words"],
        drew: Bool[Tensor, "images captions draws"],
        peaks: Float[Tensor, "images captions words"] | None,
    ) -> Float[Tensor, "images captions draws words"]:
        return torch.zeros_like(rewards)


class Toy(nn.Module):
    """A decoder before regions that are there already."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def encode(self, images: Any) -> Regions:
        return images


def draw_images(looks: Float[Tensor, "kinds features"], images: int, regions: int, objects: int) -> Batch:
    """Some images clear and some noisy: captions are not all equally hard to say."""
    kinds = torch.randint(KINDS, (images, objects))
    cells = torch.stack([torch.randperm(regions)[:objects].sort().values for _ in range(images)])
    features = torch.rand(images, 1, 1) * torch.randn(images, regions, FEATURES)
    features.scatter_add_(1, cells[..., None].expand(-1, -1, FEATURES), looks[kinds])
    side = max(1, round(regions**0.5))
    grid = torch.tensor([[cell // side, cell % side] for cell in range(regions)], dtype=torch.float32)
    ends = torch.ones(images, 1, dtype=torch.long)
    captions = torch.cat([ends, kinds + FIRST_WORD, 2 * ends], 1)[:, None]
    return Batch(Regions(features, grid), captions, torch.arange(images))


def build(baseline: str, draws: int, expectation_batches: int = 0, reward_to_go: bool = True) -> tuple[Decoder, Objective]:
    words = [
        "attention=hard",
        "objective=hard",
        f"objective/baseline={baseline}",
        f"encoder.features={FEATURES}",
        f"objective.samples={draws}",
        f"objective.expectation_batches={expectation_batches}",
        f"objective.terms.reinforce.reward_to_go={reward_to_go}",
        *SIZES,
    ]
    config = plain(compose_run(words))
    return configured.build(config["decoder"], vocabulary_size=KINDS + FIRST_WORD), configured.build(config["objective"])


def plainly(objective: Objective) -> Objective:
    """Likelihood and REINFORCE alone, without the coin."""
    return Objective({name: objective.terms[name] for name in ("likelihood", "reinforce")}, 0.0, objective.samples)  # type: ignore[misc]


def train(toy: Toy, objective: Objective, draw: Callable[[], Batch], steps: int) -> float:
    """Each step on new images. The last loss a word, in nats."""
    optimizer = torch.optim.Adam(toy.parameters(), RATE)
    terms = {"likelihood": torch.tensor(float("nan"))}
    for _ in range(steps):
        terms = objective(toy, draw())
        optimizer.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        nn.utils.clip_grad_norm_(toy.parameters(), 1.0)
        optimizer.step()
    return terms["likelihood"].item()


def spread(toy: Toy, objective: Objective, batch: Batch, repeats: int) -> tuple[float, float, float]:
    """(variance over the attention's parameters, over all, milliseconds a gradient)."""
    inside = {id(parameter) for parameter in toy.decoder.attention.parameters()}  # type: ignore[union-attr]
    parameters = sorted(toy.parameters(), key=lambda parameter: id(parameter) not in inside)
    first = sum(parameter.numel() for parameter in parameters if id(parameter) in inside)

    def gradient() -> Tensor:
        loss = sum(objective(toy, batch).values(), torch.zeros(()))
        parts = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts]).double()

    for _ in range(MEMORY):
        objective(toy, batch)
    began = time.perf_counter()
    variance = torch.stack([gradient() for _ in range(repeats)]).var(0)
    return variance[:first].sum().item(), variance.sum().item(), 1000 * (time.perf_counter() - began) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--regions", type=int, default=9)
    parser.add_argument("--objects", type=int, default=3, help="an image, each a word")
    parser.add_argument("--draws", type=int, default=4, help="an image, at least 2")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 200, 600], help="of training, after which the gradient is measured")
    parser.add_argument("--expect-first", type=int, default=0, help="steps of training in which every look is by expectation")
    parser.add_argument("--repeats", type=int, default=100, help="gradients a baseline")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    draw = partial(draw_images, torch.randn(KINDS, FEATURES), options.images, options.regions, options.objects)
    batch = draw()
    decoder, trained = build("leave_one_out", options.draws, options.expectation_batches)
    toy, done = Toy(decoder).train(), 0
    print(f"{options.images} images of {options.regions} regions, {options.draws} draws an image, {options.repeats} gradients a baseline")
    for steps in sorted(options.steps):
        loss, done = train(toy, trained, draw, steps - done), steps
        report(toy, batch, options, f"after {steps} steps of training" + (f" ({loss:.2f} nats a word)" if steps else ""))


def report(toy: Toy, batch: Batch, options: argparse.Namespace, title: str) -> None:
    """A line a baseline, the variance with the moving average and whole captions as the unit of all."""
    found = {}
    kinds = ["none", *sorted(groups(conf_folder())["objective/baseline"], key=lambda name: name != "moving_average")]
    for kind, reward_to_go in itertools.product(kinds, (False, True)):
        objective = plainly(build("moving_average" if kind == "none" else kind, options.draws, reward_to_go=reward_to_go)[1])
        if kind == "none":
            objective.terms["reinforce"].baseline = Nothing()
        torch.manual_seed(options.seed + 1)
        found[f"{kind}, to go" if reward_to_go else kind] = (
            options.draws + objective.needs_argmax,
            *spread(toy, objective, batch, options.repeats),
        )
    unit = found["moving_average"]
    print(f"\n{title}\n{'':<24}{'rows an image':>14}{'ms':>8}{'variance: attention':>22}{'all':>11}{'x moving average':>20}{'all':>8}")
    for kind, (rows, attention, whole, ms) in found.items():
        relative = f"{attention / unit[1]:>20.3f}{whole / unit[2]:>8.3f}"
        print(f"{kind:<24}{rows:>14}{ms:>8.1f}{attention:>22.2e}{whole:>11.2e}{relative}")


if __name__ == "__main__":
    main()
