"""What a folder of drawn scenes says of itself: how many, which combinations are unseen, how alike its captions are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from captioner.metrics.bleu import Bleu
from captioner.scenes.example import Example
from captioner.scenes.layout import unseen_combinations
from captioner.tokenizer import tokenize


def summarize(examples: Mapping[str, Sequence[Example]], seed: int) -> dict[str, Any]:
    """Figures of a data set that was drawn with `seed`, by split: those of captions are of the validation split."""
    references = [example.captions for example in examples["val"]]
    covered = [example.covered for of_split in examples.values() for example in of_split]
    return {
        "images": {split: len(of_split) for split, of_split in examples.items()},
        "unseen_combinations": sorted(f"{colour} {kind}" for kind, colour in unseen_combinations(seed)),
        "references_BLEU-4": round(leave_one_out_bleu(references), 4),
        "covered": round(float(np.mean(covered)), 4),
    }


def leave_one_out_bleu(references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 (a fraction) of each caption, with the other captions of its image as its references.

    It is zero where no n-gram of some order matches: there `Bleu` itself, as coco-caption does, gives a number near zero.
    """
    tokens = [[tokenize(caption) for caption in captions] for captions in references]
    others = [captions[:i] + captions[i + 1 :] for captions in tokens for i in range(len(captions))]
    statistics = Bleu(others).statistics([caption for captions in tokens for caption in captions])
    return statistics.additive().corpus()["BLEU-4"] if statistics.matches.any(0).all() else 0.0
