"""METEOR as nltk counts it: another metric than METEOR 1.5, for where there is no Java."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from captioner.metrics.java import Unavailable
from captioner.metrics.ngrams import Tokens
from captioner.metrics.statistics import ImageStatistics, mean_statistics


def meteor_nltk(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]], wordnet: Any = None) -> ImageStatistics:
    """Of each image the best over its references, 0 to 1; the corpus score is their mean. `wordnet`: left out, the one nltk finds.

    Matches words, stems and WordNet's synonyms; alpha 0.9, beta 3, gamma 0.5. Values are not comparable with METEOR's: no paraphrases,
    no weights for function words, another penalty. Source: Banerjee and Lavie 2005; `nltk.translate.meteor_score`.
    Raises: Unavailable, nltk or its WordNet is not installed.
    """
    try:
        from nltk.corpus import wordnet as installed  # here, since nltk takes its time and prediction does without
        from nltk.translate.meteor_score import meteor_score

        known = installed if wordnet is None else wordnet
        known.synsets("dog")
    except ImportError:
        raise Unavailable("it needs nltk, which is not installed: pip install nltk") from None
    except LookupError:
        raise Unavailable("it needs nltk's WordNet, which is not installed: python -m nltk.downloader wordnet") from None
    scores = [
        meteor_score([list(text) for text in texts], list(said), wordnet=known) for said, texts in zip(candidates, references, strict=True)
    ]
    return mean_statistics("METEOR-nltk", np.array(scores, float))
