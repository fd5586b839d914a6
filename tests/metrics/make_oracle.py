"""Write oracle.json: captions in raw text, and what pycocoevalcap (its Java tokenizer and METEOR included) says of them.

python tests/metrics/make_oracle.py          needs pycocoevalcap and Java
The captions are a scene's, made by the drawn scenes' grammar, and some of our own that are hard on a tokenizer.
"""

import json
import random
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from captioner.scenes.example import sample_captioned_scene
from captioner.scenes.layout import unseen_combinations

HERE = Path(__file__).parent

OUR_OWN = [
    ("A dog is running.", ["The dog's running on the grass!", "A dog runs, and runs, and runs...", "dog running"]),
    ("a man can't see the T-shirt", ["The man cannot see his t-shirt .", 'A man in a "T-shirt"', "he can't see it"]),
    ("two kids (a boy and a girl) play", ["Two children play: a boy & a girl", "kids playing; one's a boy"]),
    ("A 3-year-old eats 1/2 of a $5.00 cake", ["a 3 year old eats half a cake", "A child, 3, eats cake - with a fork"]),
    ("mr. smith rides at 5 p.m.", ["Mr. Smith rides a bike at 5 P.M.", "A man rides."]),
    ("", ["An empty street", "the street is empty"]),
    ("...", ["A cat sleeps", "sleeping cat", "the cat's asleep"]),
    ("the the the the the", ["The man on the bike on the road", "the bike"]),
    ("A black-and-white dog jumps over the log.", ["A black and white dog jumps over a log.", "A black-and-white dog jumps over the log."]),
]


def corpus(scenes: int, seed: int) -> tuple[dict[int, str], dict[int, list[str]]]:
    """The candidate of a scene is one of its captions, or of the scene before it for every third, some words left out."""
    rng = random.Random(seed)
    unseen = unseen_combinations(0)
    said, texts, before = {}, {}, "a red circle"
    for image in range(scenes):
        captions = sample_captioned_scene(rng, "train", unseen, 96)[1]
        texts[image] = captions[1:]
        chosen = before if image % 3 == 0 else captions[0]
        said[image] = " ".join(word for word in chosen.split() if rng.random() > 0.1)
        before = captions[0]
    for image, (caption, captions) in enumerate(OUR_OWN, scenes):
        said[image], texts[image] = caption, captions
    return said, texts


def judged(said: dict[int, str], texts: dict[int, list[str]]) -> dict[str, dict[str, object]]:
    """Corpus scores, and those of each image."""
    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize({image: [{"caption": text} for text in captions] for image, captions in texts.items()})
    res = tokenizer.tokenize({image: [{"caption": caption}] for image, caption in said.items()})
    scores = {}
    bleu, of_each = Bleu(4).compute_score(gts, res, verbose=0)
    for n in range(4):
        scores[f"BLEU-{n + 1}"] = {"corpus": bleu[n], "images": None}
    for name, scorer in (("ROUGE-L", Rouge()), ("CIDEr", Cider()), ("METEOR", Meteor())):
        corpus_score, of_each = scorer.compute_score(gts, res)
        scores[name] = {"corpus": float(corpus_score), "images": [round(float(value), 12) for value in of_each]}
    return scores


if __name__ == "__main__":
    said, texts = corpus(60, seed=7)
    record = {"captions": said, "references": texts, "scores": judged(said, texts)}
    (HERE / "oracle.json").write_text(json.dumps(record, indent=0, ensure_ascii=False) + "\n")
