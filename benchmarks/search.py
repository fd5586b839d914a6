"""Captions per second of beam search, compared with decoder steps alone and with the search of
tutorials (docs/tools/tutorial_search.py).

The decoder is the paper's, with random weights: vocabulary 9,490; hidden state, attention and
embedding 512; float32 on the CPU, no gradients. <end> is never likely, so that all captions of both
searches have the same number of words. If lengths differ, a batch goes on until its last caption
has ended, and the gain is smaller by about the mean length over the longest. Captions per second
include what is computed once per image. Ratio: the time of a search, with the memory computed
before, to that of its `step` calls alone on the same shapes. Runs alternate; medians are printed.
With one thread, seconds are those of the process, which depend less on other load.

python benchmarks/search.py [--quick] [--regions 49x1280 ...] [--batches 50] [--beams 3]
                            [--repeats 5] [--words 12] [--threads 1]
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captioner.attention.attention import Attention
from captioner.attention.distribution import Softmax
from captioner.attention.locality import Everywhere
from captioner.attention.readout import Expectation
from captioner.attention.score import Additive
from captioner.decoders.lstm import LSTMDecoder
from captioner.records import Regions, map_tensors
from captioner.search.beam import BeamSearch

sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "tools"))
from tutorial_search import Caption, TutorialDecoder, caption_image

START, END, EXCLUDED = 1, 2, [0, 1, 3]
CEILING = 1.3
FLOORS = {"196x2048": 12.0, "49x1280": 8.0}


class Case(NamedTuple):
    name: str
    decoder: LSTMDecoder
    regions: Regions
    words: int
    clock: Callable[[], float]


def build(name: str, images: int, options: argparse.Namespace) -> Case:
    torch.manual_seed(0)
    regions, features = map(int, name.split("x"))
    size = 512
    attention = Attention(Additive(features, size, size), Everywhere(), Softmax(), Expectation(), features)
    decoder = LSTMDecoder(9490, features, attention, embedding_size=size, hidden_size=size).eval()
    with torch.no_grad():
        decoder.output.weight.mul_(10)  # log-probabilities spread as a trained model's are, so that beams do not tie
        decoder.output.bias[END] = -100.0
    side = torch.arange(float(round(regions**0.5)))
    clock = time.process_time if options.threads == 1 else time.perf_counter
    encoded = Regions(torch.randn(images, regions, features).clamp_min(0), torch.cartesian_prod(side, side))
    return Case(name, decoder, encoded, options.words, clock)


def seconds(clock: Callable[[], float], function: Callable[[], Any]) -> tuple[float, Any]:
    began = clock()
    result = function()
    return clock() - began, result


class Times(NamedTuple):
    start: float
    search: float
    steps: float


@torch.no_grad()
def measure(case: Case, batch: int, beams: int, repeats: int) -> tuple[Times, Any]:
    """Median seconds of `start`, of the search, and of its `step` calls; and the result of the
    search."""
    regions = Regions(case.regions.features[:batch].contiguous(), case.regions.cells)
    search, clock = BeamSearch(beams, case.words, "none"), case.clock
    calls: list[Tensor] = []

    def recorded_step(state: Any, words: Tensor) -> Any:
        calls.append(words)
        return case.decoder.step(memory, state, words)

    memory, first = case.decoder.start(regions)
    search(recorded_step, first, batch, START, END, EXCLUDED)
    states = [map_tensors(lambda leaf: leaf.repeat_interleave(words.shape[1], 1), first) for words in calls]  # noqa: B023

    def steps_alone() -> None:
        for state, words in zip(states, calls, strict=True):
            case.decoder.step(memory, state, words)

    def whole_search() -> Any:
        return search(lambda state, words: case.decoder.step(memory, state, words), first, batch, START, END, EXCLUDED)

    runs = []
    for _ in range(repeats):
        started, (memory, first) = seconds(clock, lambda: case.decoder.start(regions))
        spent, result = seconds(clock, whole_search)
        runs.append(Times(started, spent, seconds(clock, steps_alone)[0]))
    return Times(*map(statistics.median, zip(*runs, strict=True))), result


def compare(case: Case, batch: int, beams: int, repeats: int, images: int) -> tuple[float, float, int]:
    """Captions per second of our search and of the tutorials' (on the first `images`), and how many
    of their captions are equal."""
    tutorial = TutorialDecoder(case.decoder)

    def theirs() -> list[Caption]:
        return [caption_image(tutorial, regions, beams, case.words, START, END, EXCLUDED)[0] for regions in case.regions.features[:images]]

    caption_image(tutorial, case.regions.features[0], beams, case.words, START, END, EXCLUDED)
    ours, peer = [], []
    for _ in range(repeats):
        times, result = measure(case, batch, beams, 1)
        spent, captions = seconds(case.clock, theirs)
        ours.append(times.start + times.search)
        peer.append(spent)
    same = sum(result.words[i, 0, : result.lengths[i, 0]].tolist() == caption.words for i, caption in enumerate(captions))
    return batch / statistics.median(ours), images / statistics.median(peer), same


def verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def compare_with_steps(cases: list[str], options: argparse.Namespace) -> None:
    print(f"{'regions':<12}{'batch':>6}{'beams':>7}{'captions/s':>13}{'step calls':>13}{'search':>11}{'ratio':>8}")
    for name in cases:
        case = build(name, max(options.batches), options)
        for batch in options.batches:
            for beams in options.beams:
                print(f"{name}, batch {batch}, beams {beams}", file=sys.stderr)
                times, _ = measure(case, batch, beams, options.repeats)
                ratio = times.search / times.steps
                note = f"   at most {CEILING}: {verdict(ratio <= CEILING)}" if batch == 50 else ""
                rate = batch / (times.start + times.search)
                spent = f"{times.steps * 1e3:>10.0f} ms{times.search * 1e3:>8.0f} ms"
                print(f"{name:<12}{batch:>6}{beams:>7}{rate:>13.1f}{spent}{ratio:>8.2f}{note}", flush=True)


def compare_with_tutorial(cases: list[str], options: argparse.Namespace) -> None:
    print(f"\n{'regions':<12}{'batch':>6}{'beams':>7}{'captions/s':>13}{'tutorial':>11}{'times':>8}{'same captions':>16}")
    for name in cases:
        print(f"{name} and the tutorials' search", file=sys.stderr)
        ours, peer, same = compare(build(name, 50, options), 50, 3, options.repeats, options.peer_images)
        floor = FLOORS.get(name)
        note = f"   at least {floor:g}: {verdict(ours / peer >= floor)}" if floor else ""
        print(f"{name:<12}{50:>6}{3:>7}{ours:>13.1f}{peer:>11.2f}{ours / peer:>8.1f}{same:>10} of {options.peer_images}{note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", nargs="+", default=["49x1280", "196x512", "196x2048"], help="regions x features")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 50])
    parser.add_argument("--beams", nargs="+", type=int, default=[1, 3, 5])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--words", type=int, default=12, help="per caption, without <end>")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer-images", type=int, default=8, help="number of images on which the tutorials' search is timed")
    parser.add_argument("--quick", action="store_true", help="batch 50 and beam 3 only, three repeats")
    options = parser.parse_args()
    if options.quick:
        options.batches, options.beams, options.repeats = [50], [3], 3
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), captions of {options.words} words, median of {options.repeats}\n")
    compare_with_steps(options.regions, options)
    compare_with_tutorial(options.regions, options)


if __name__ == "__main__":
    main()
