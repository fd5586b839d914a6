"""Seconds to score captions, and the same of pycocoevalcap if it and Java are installed: one
process, one thread, medians.

python benchmarks/scores.py [--images 5000] [--references 4] [--repeats 3]
Captions are those of Flickr8k if CAPTIONER_DATA is set (a candidate is a fifth caption); else they
are random, with 4 to 18 words by Zipf's law.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from captioner.data.captions import read_references
from captioner.metrics.bleu import Bleu
from captioner.metrics.cider import Cider, CiderReward
from captioner.metrics.rouge import rouge_l
from captioner.metrics.scores import score
from captioner.tokenizer import tokenize

Texts = Mapping[int, list[str]]


class Requirement(NamedTuple):
    value: float
    floor: float
    unit: str

    def __str__(self) -> str:
        reached = self.value >= self.floor
        return f"{self.value:,.1f} {self.unit}, at least {self.floor:,.0f} required: {'reached' if reached else 'NOT REACHED'}"


def flickr8k_captions(folder: Path, images: int, references: int) -> tuple[dict[int, str], Texts]:
    texts: dict[int, list[str]] = {}
    for split in ("train", "val"):
        texts |= {len(texts) + i: of for i, of in enumerate(read_references(folder / f"captions_{split}.json").captions.values())}
    chosen = dict(list(texts.items())[:images])
    return {image: of[0] for image, of in chosen.items()}, {image: of[1 : references + 1] for image, of in chosen.items()}


def random_captions(images: int, references: int, seed: int = 0) -> tuple[dict[int, str], Texts]:
    """Of 8,000 words. The captions of an image are one sentence, each with other random changes."""
    rng = random.Random(seed)
    words = ["q" + "".join(letters) for letters in product("abcdefghijklmnopqrst", repeat=3)]
    weights = [1 / (i + 3) for i in range(8000)]

    def changed(sentence: list[str]) -> str:
        others = rng.choices(words, weights, k=len(sentence))
        kept = [new if rng.random() < 0.4 else old for new, old in zip(others, sentence, strict=True) if rng.random() > 0.1]
        return " ".join(kept or sentence).capitalize() + "."

    sentences = [rng.choices(words, weights, k=rng.randint(4, 18)) for _ in range(images)]
    return {i: changed(s) for i, s in enumerate(sentences)}, {i: [changed(s) for _ in range(references)] for i, s in enumerate(sentences)}


@contextmanager
def without_stderr() -> Iterator[None]:
    """Discard standard error, also that of child processes: the Java tokenizer writes its speed
    there."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def median(function: Callable[[], Any], repeats: int) -> float:
    return medians([function], repeats)[0]


def medians(functions: Sequence[Callable[[], Any]], repeats: int) -> list[float]:
    """Median seconds of each; they run alternately, so that other load on the machine affects all
    of them."""
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, measured in zip(functions, seconds, strict=True):
            start = time.perf_counter()
            with redirect_stdout(StringIO()):
                function()
            measured.append(time.perf_counter() - start)
    return [statistics.median(measured) for measured in seconds]


def ours(captions: Mapping[int, str], texts: Texts) -> dict[str, Callable[[], Any]]:
    """Each score alone, which counts the references every time; and all of them from raw text,
    which counts them once."""
    candidates = [tokenize(caption) for caption in captions.values()]
    references = [[tokenize(text) for text in of] for of in texts.values()]
    return {
        "tokenizer": lambda: ([tokenize(c) for c in captions.values()], [[tokenize(text) for text in of] for of in texts.values()]),
        "BLEU": lambda: Bleu(references).scores(candidates),
        "ROUGE-L": lambda: rouge_l(candidates, references).mean(),
        "CIDEr": lambda: Cider(references).scores(candidates).mean(),
        "all": lambda: score(captions, texts),
    }


def theirs(captions: Mapping[int, str], texts: Texts) -> dict[str, Callable[[], Any]]:
    """The same of pycocoevalcap; empty if it or Java is not installed."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu as TheirBleu
        from pycocoevalcap.cider.cider import Cider as TheirCider
        from pycocoevalcap.rouge.rouge import Rouge
        from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    except ImportError:
        return {}
    if shutil.which("java") is None:
        return {}
    raw = {image: [{"caption": text} for text in of] for image, of in texts.items()}
    candidates = {image: [{"caption": caption}] for image, caption in captions.items()}

    def tokens() -> tuple[Any, Any]:
        return PTBTokenizer().tokenize(raw), PTBTokenizer().tokenize(candidates)

    gts, res = tokens()
    parts: dict[str, Callable[[], Any]] = {
        "BLEU": lambda: TheirBleu(4).compute_score(gts, res, verbose=0),
        "ROUGE-L": lambda: Rouge().compute_score(gts, res),
        "CIDEr": lambda: TheirCider().compute_score(gts, res),
    }
    return {"tokenizer": tokens, **parts, "all": lambda: (tokens(), [part() for part in parts.values()])}


def command_seconds(captions: Mapping[int, str], texts: Texts, repeats: int) -> float:
    """Seconds of `captioner evaluate`, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        results, annotations = Path(folder) / "results.json", Path(folder) / "annotations.json"
        results.write_text(json.dumps([{"image_id": image, "caption": caption} for image, caption in captions.items()]))
        entries = [{"image_id": image, "caption": text} for image, of in texts.items() for text in of]
        images = [{"id": image, "file_name": f"{image}.jpg"} for image in texts]
        annotations.write_text(json.dumps({"images": images, "annotations": [{"id": i, **entry} for i, entry in enumerate(entries)]}))
        program = "import sys; from captioner.cli.main import main; sys.exit(main())"
        line = [sys.executable, "-c", program, "evaluate", str(results), str(annotations)]
        return median(lambda: subprocess.run(line, check=True, capture_output=True), repeats)


def reward_rate(captions: Mapping[int, str], texts: Texts, batch: int, repeats: int) -> float:
    """Captions per second, scored in batches; references are counted beforehand."""
    reward = CiderReward(texts)
    images, candidates = list(captions), [tokenize(caption) for caption in captions.values()]
    starts = range(0, len(candidates), batch)
    return len(candidates) / median(lambda: [reward(images[i : i + batch], candidates[i : i + batch]) for i in starts], repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=4, help="per image")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    folder = Path(os.environ.get("CAPTIONER_DATA", "")) / "flickr8k" / "annotations"
    real = (folder / "captions_train.json").is_file() and options.references <= 4 and options.images <= 7000
    captions, texts = (
        flickr8k_captions(folder, options.images, options.references) if real else random_captions(options.images, options.references)
    )
    source = "Flickr8k" if real else "random"
    print(f"{len(captions)} images x {options.references} references + 1 candidate ({source}), median of {options.repeats}", flush=True)
    with without_stderr():
        others = theirs(captions, texts)
        pairs = {name: medians([run, others[name]] if others else [run], options.repeats) for name, run in ours(captions, texts).items()}
    mine = {name: pair[0] for name, pair in pairs.items()}
    peer = {name: pair[1] for name, pair in pairs.items() if others}
    print(f"{'':<10}{'ours':>9}{'pycocoevalcap':>16}{'times faster':>15}")
    for name, seconds in mine.items():
        other = f"{peer[name]:>14.2f} s{peer[name] / seconds:>15.1f}" if peer else f"{'no package, or no Java':>25}"
        print(f"{name:<10}{seconds:>7.2f} s{other}")
    if peer:
        print(f"all from raw text    {Requirement(peer['all'] / mine['all'], 4, 'times faster')}")
        print(f"CIDEr alone          {Requirement(peer['CIDEr'] / mine['CIDEr'], 10, 'times faster')}")
    whole = command_seconds(captions, texts, options.repeats)
    print(f"captioner evaluate   {whole:.2f} s with start-up, less than 3 required: {'reached' if whole < 3 else 'NOT REACHED'}")
    for batch in (80, 500):
        rate = reward_rate(captions, texts, batch, options.repeats)
        print(f"reward, {batch:>3} per batch {Requirement(rate, 30_000, 'captions per second')}")


if __name__ == "__main__":
    main()
