"""Seconds to score captions, beside pycocoevalcap where it is installed: the same tokens, one process, one thread, medians.

python benchmarks/scores.py [--images 5000] [--references 4] [--repeats 3]
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import Any

from captioner.metrics.bleu import Bleu
from captioner.metrics.cider import Cider
from captioner.metrics.ngrams import References
from captioner.metrics.rouge import rouge_l
from captioner.metrics.scores import score

Tokens = list[str]


def draw(images: int, references: int, seed: int = 0) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Captions of 4 to 18 words out of 8,000 by Zipf's law; those of an image share a sentence, each with its own slips."""
    rng = random.Random(seed)
    words = ["q" + "".join(letters) for letters in product("abcdefghijklmnopqrst", repeat=3)]
    weights = [1 / (i + 3) for i in range(8000)]

    def slip(sentence: Tokens) -> Tokens:
        fresh = rng.choices(words, weights, k=len(sentence))
        return [new if rng.random() < 0.4 else old for new, old in zip(fresh, sentence, strict=True) if rng.random() > 0.1] or sentence

    sentences = [rng.choices(words, weights, k=rng.randint(4, 18)) for _ in range(images)]
    return [slip(s) for s in sentences], [[slip(s) for _ in range(references)] for s in sentences]


def median(function: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def ours(candidates: list[Tokens], references: list[list[Tokens]]) -> dict[str, Callable[[], Any]]:
    return {
        "BLEU": lambda: Bleu(references).scores(candidates),
        "ROUGE-L": lambda: rouge_l(candidates, references).mean(),
        "CIDEr": lambda: Cider(references).scores(candidates).mean(),
    }


def theirs(candidates: list[Tokens], references: list[list[Tokens]]) -> dict[str, Callable[[], Any]]:
    """The same of pycocoevalcap; empty where it is not installed."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu as TheirBleu
        from pycocoevalcap.cider.cider import Cider as TheirCider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        return {}
    gts = {i: [" ".join(r) for r in captions] for i, captions in enumerate(references)}
    res = {i: [" ".join(c)] for i, c in enumerate(candidates)}
    return {
        "BLEU": lambda: TheirBleu(4).compute_score(gts, res, verbose=0),
        "ROUGE-L": lambda: Rouge().compute_score(gts, res),
        "CIDEr": lambda: TheirCider().compute_score(gts, res),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=4, help="an image")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    candidates, references = draw(options.images, options.references)
    print(f"{options.images} images x {options.references} references + 1 candidate, median of {options.repeats}")
    mine = {name: median(run, options.repeats) for name, run in ours(candidates, references).items()}
    peer = {name: median(run, options.repeats) for name, run in theirs(candidates, references).items()}
    mine["all"], peer["all"] = sum(mine.values()), sum(peer.values())
    print(f"{'':<10}{'ours':>9}{'pycocoevalcap':>16}{'times faster':>15}")
    for name, seconds in mine.items():
        other = f"{peer[name]:>14.2f} s{peer[name] / seconds:>15.1f}" if len(peer) > 1 else f"{'not installed':>16}"
        print(f"{name:<10}{seconds:>7.2f} s{other}")
    texts = {i: " ".join(c) for i, c in enumerate(candidates)}
    spoken = {i: [" ".join(r) for r in captions] for i, captions in enumerate(references)}
    print(f"from raw text, our tokenizer and all three: {median(lambda: score(texts, spoken), options.repeats):.2f} s")
    counted = Cider(References(references))
    rate = len(candidates) / median(lambda: counted.scores(candidates), 5)
    print(f"CIDEr with references counted beforehand: {rate:,.0f} captions a second")


if __name__ == "__main__":
    main()
