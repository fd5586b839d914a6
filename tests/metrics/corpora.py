"""Corpora for the scores: drawn by hypothesis over few words, so that n-grams repeat, and a larger one that looks like captions."""

import random
from itertools import product

from hypothesis import strategies as st

WORDS = ["a", "red", "dog", "runs", "on", "the", "grass"]

Corpus = tuple[list[list[str]], list[list[list[str]]]]


def captions(most: int = 9) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(WORDS), max_size=most)


def corpora(fewest: int = 1) -> st.SearchStrategy[Corpus]:
    """Candidates, and one to four references each; captions may be empty."""
    image = st.tuples(captions(), st.lists(captions(), min_size=1, max_size=4))
    return st.lists(image, min_size=fewest, max_size=5).map(lambda images: ([c for c, _ in images], [r for _, r in images]))


def synthetic(images: int, references: int = 5, seed: int = 0) -> Corpus:
    """Captions of Zipf-like words: the candidate and the references of an image are drawn from one sentence, each with its slips."""
    rng = random.Random(seed)
    vocabulary = ["q" + "".join(letters) for letters in product("abcdefghijklmn", repeat=3)][:2000]
    weights = [1 / (i + 3) for i in range(2000)]

    def slip(sentence: list[str]) -> list[str]:
        words = [rng.choices(vocabulary, weights)[0] if rng.random() < 0.3 else word for word in sentence if rng.random() > 0.1]
        return words or sentence

    sentences = [rng.choices(vocabulary, weights, k=rng.randint(4, 16)) for _ in range(images)]
    return [slip(s) for s in sentences], [[slip(s) for _ in range(references)] for s in sentences]


def as_coco(corpus: Corpus) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """What pycocoevalcap takes: references and candidates, by image."""
    candidates, references = corpus
    gts = {i: [" ".join(r) for r in of_image] for i, of_image in enumerate(references)}
    return gts, {i: [" ".join(c)] for i, c in enumerate(candidates)}
