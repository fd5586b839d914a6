"""What scores against references do not see: do the captions repeat one another, the training captions, or stop too soon?"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from captioner.errors import ArgumentError
from captioner.metrics.ngrams import Counts, Numbering, Tokens, check_tokens, lengths

LIST = """
a an the this that these those my your his her its our their some any every each no
about above across after against along among around as at atop before behind below beneath beside between by during for from in inside
into near of on onto over through to toward towards under until upon with within without
and or but nor so than because while if when where who which whose
am is are was were be been being has have had do does did can could will would should may might must
"""
FUNCTION_WORDS = frozenset(LIST.split())
"""Articles, possessives, prepositions, conjunctions and auxiliaries. Captions by people rarely end in one ("as two dogs look on", "a hat
on her"): 1.65 % of Flickr8k's 30,000 training captions do."""

UNKNOWN = frozenset(("<unk>", "unk"))


def diversity(captions: Sequence[Tokens], training: Iterable[Tokens] | None = None) -> dict[str, float]:
    """Of a system's captions, one an image: vocabulary and self-BLEU look at all together, shares and the length at each alone.

    - `distinct-1`, `distinct-2`: different words, different bigrams, each divided by the number of words; `self-BLEU`: see there.
      All three depend on the number of captions: compare systems on the same images.
    - `vocabulary`: how many different words are used. `length`: words a caption, the mean.
    - `novel`: the share of captions that are not, word for word, among those of `training`; absent without them.
    - `function-word endings`: the share of captions whose last word is one of FUNCTION_WORDS. `unknown words`: the share that hold `<unk>`.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function", sec. 5.1 (distinct-n, which divides by words for bigrams too).
    Raises: ArgumentError, no captions.
    """
    if len(captions) == 0:
        raise ArgumentError("captions", "are none: there is nothing to measure")
    check_tokens(captions)
    numbering, _ = Numbering.of(captions, 2)
    words = int(lengths(captions).sum())
    shares = {f"distinct-{n}": size / max(words, 1) for n, size in enumerate(numbering.sizes, 1)}
    shares |= {"self-BLEU": float(self_bleu(captions).mean()), "vocabulary": float(numbering.sizes[0]), "length": words / len(captions)}
    if training is not None:
        known = set(map(tuple, training))
        shares["novel"] = share(tuple(caption) not in known for caption in captions)
    shares["function-word endings"] = share(len(caption) > 0 and caption[-1] in FUNCTION_WORDS for caption in captions)
    shares["unknown words"] = share(not UNKNOWN.isdisjoint(caption) for caption in captions)
    return shares


def share(holds: Iterable[bool]) -> float:
    return float(np.mean(list(holds)))


def self_bleu(captions: Sequence[Tokens], order: int = 4) -> Float[np.ndarray, " captions"]:
    """BLEU of each caption with all others as its references: 0 to 1, and 1 where every caption is the same; the corpus's is the mean.

        self-BLEU_i = (precision_1 ... precision_order)^(1/order) * min(1, exp(1 - closest_i / length_i))

    A precision without a match counts 0.1 matches, one without an n-gram 1 n-gram (nltk's smoothing method 1), and a caption without a
    word of the others is 0. A caption alone has no others: 0. What the others hold of an n-gram is the most that any caption holds or,
    for that caption itself, the second most: so each n-gram is looked at once, and not once for every pair of captions.
    Source: Zhu et al. 2018 (Texygen), sec. 3; their program takes 500 captions at most as references, this one all.
    Raises: ArgumentError, order below 1.
    """
    if order < 1:
        raise ArgumentError("order", f"is a number of words and must be 1 or more, not {order}")
    if len(captions) < 2:
        return np.zeros(len(captions))
    size = lengths(captions)
    _, counts = Numbering.of(captions, order)
    matches = np.stack(
        [np.bincount(each.caption, np.minimum(each.times, largest_counts_elsewhere(each)), len(captions)) for each in counts]
    )
    guesses = np.maximum(size - np.arange(order)[:, None], 1)
    precision = np.where(matches > 0, matches, 0.1) / guesses
    brevity = np.exp(np.minimum(1 - closest_lengths_elsewhere(size) / np.maximum(size, 1), 0))
    return np.exp(np.log(precision).mean(0)) * brevity * (matches[0] > 0)


def largest_counts_elsewhere(counts: Counts) -> Int[np.ndarray, " entries"]:
    """For each entry, how often its n-gram stands in the one of the other captions that holds most of it."""
    order = np.lexsort((counts.times, counts.ngram))
    ngram, times = counts.ngram[order], counts.times[order]
    last = np.append(np.flatnonzero(np.diff(ngram)), len(ngram) - 1) if len(ngram) else np.empty(0, np.int64)
    number = np.diff(last, prepend=-1)
    most = np.repeat(times[last], number)
    most[last] = np.where(number > 1, times[last - 1], 0)
    result = np.empty_like(most)
    result[order] = most
    return result


def closest_lengths_elsewhere(size: Int[np.ndarray, " captions"]) -> Int[np.ndarray, " captions"]:
    """For each caption, the length among the others that is closest to its own, the shorter of two as close."""
    kinds, kind, number = np.unique(size, return_inverse=True, return_counts=True)
    far = kinds[-1] - kinds[0] + 1
    below, above = np.append(kinds[0] - 2 * far, kinds[:-1]), np.append(kinds[1:], kinds[-1] + 2 * far)
    neighbour = np.where(kinds - below <= above - kinds, below, above)
    return np.where(number > 1, kinds, neighbour)[kind]
