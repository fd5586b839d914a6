"""The figures of the drawn captions, against nltk."""

import random

import pytest
from nltk.translate.bleu_score import corpus_bleu

from captioner.scenes.example import CAPTIONS, sample_captioned_scene
from captioner.scenes.layout import unseen_combinations
from captioner.scenes.summary import leave_one_out_bleu
from captioner.tokenizer import tokenize


def test_leave_one_out_bleu_is_nltks_over_all_captions() -> None:
    rng, unseen = random.Random(3), unseen_combinations(3)
    references = [sample_captioned_scene(rng, "val", unseen, 96)[1][:CAPTIONS] for _ in range(31)]
    tokens = [[tokenize(text) for text in captions] for captions in references]
    others = [captions[:i] + captions[i + 1 :] for captions in tokens for i in range(CAPTIONS)]
    expected = corpus_bleu(others, [text for captions in tokens for text in captions])
    assert leave_one_out_bleu(references) == pytest.approx(expected, abs=1e-12)
    assert leave_one_out_bleu([["a b", "c d"]]) == 0.0
