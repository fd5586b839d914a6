"""How alike the drawn captions of an image are."""

import math
from collections import Counter
from collections.abc import Sequence

from captioner.tokenizer import tokenize


def leave_one_out_bleu(references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 (a fraction) of every caption against the others of its image.

        BLEU = exp(min(0, 1 - r / c)) * (p1 p2 p3 p4)^(1/4)

    p_n the clipped n-gram precision over the corpus, c the captions' length, r that of the closest other caption (the shorter on a tie).
    Source: Papineni et al. 2002, sec. 2.
    """
    matched, said = [0] * 4, [0] * 4
    length = closest = 0
    for captions in references:
        tokens = [tokenize(caption) for caption in captions]
        for i, caption in enumerate(tokens):
            others = tokens[:i] + tokens[i + 1 :]
            length += len(caption)
            closest += min((len(other) for other in others), key=lambda size: (abs(size - len(caption)), size))
            for n in range(4):
                grams = _grams(caption, n + 1)
                most: Counter[tuple[str, ...]] = Counter()
                for other in others:
                    most |= _grams(other, n + 1)
                matched[n] += (grams & most).total()
                said[n] += grams.total()
    if not all(matched):
        return 0.0
    precision = sum(math.log(hits / total) for hits, total in zip(matched, said, strict=True)) / 4
    return math.exp(min(0.0, 1 - closest / length) + precision)


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
