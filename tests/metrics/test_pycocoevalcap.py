"""From raw text to pycocoevalcap's numbers: kept ones (of `make_oracle.py`), and fresh ones over thousands of real captions."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from captioner.data.captions import read_references
from captioner.metrics.bleu import Bleu
from captioner.metrics.cider import Cider
from captioner.metrics.java import meteor
from captioner.metrics.ngrams import References
from captioner.metrics.rouge import rouge_l
from captioner.metrics.scores import Scorer, score
from captioner.tokenizer import tokenize

ORACLE = json.loads((Path(__file__).parent / "oracle.json").read_text())
CAPTIONS = {int(image): caption for image, caption in ORACLE["captions"].items()}
REFERENCES = {int(image): captions for image, captions in ORACLE["references"].items()}
FREE = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"]


def test_scores_from_raw_text_are_the_kept_ones():
    row = score(CAPTIONS, REFERENCES)
    assert {name: row[name] for name in FREE} == pytest.approx({name: ORACLE["scores"][name]["corpus"] for name in FREE}, abs=1e-6)


def test_scores_of_each_image_are_the_kept_ones():
    parts = {part.names[0]: part for part in Scorer(REFERENCES, ["rouge", "cider"]).statistics(CAPTIONS)}
    for name in ("ROUGE-L", "CIDEr"):
        assert parts[name].scores(parts[name].rows)[:, 0].tolist() == pytest.approx(ORACLE["scores"][name]["images"], abs=1e-9)


def test_meteor_is_the_programs_own():
    pytest.importorskip("pycocoevalcap.meteor.meteor")
    if shutil.which("java") is None:
        pytest.skip("there is no Java here")
    part = meteor(
        [tokenize(caption) for caption in CAPTIONS.values()], [[tokenize(text) for text in texts] for texts in REFERENCES.values()]
    )
    assert part.scores(part.rows)[:, 0].tolist() == pytest.approx(ORACLE["scores"]["METEOR"]["images"], abs=1e-9)
    assert part.corpus()["METEOR"] == pytest.approx(ORACLE["scores"]["METEOR"]["corpus"], abs=1e-9)


def test_scores_of_thousands_of_real_captions_are_pycocoevalcaps(real_data):
    """6,000 images x 5 references; a candidate begins as one reference and goes on as a caption of another image."""
    ptb = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    if shutil.which("java") is None:
        pytest.skip("there is no Java here")
    references = read_references(real_data / "flickr8k" / "annotations" / "captions_train.json")
    references = {image: texts[:5] for image, texts in references.items()}
    assert len(references) >= 5000
    assert all(len(texts) == 5 for texts in references.values())
    rng, texts = random.Random(0), [text for of_image in references.values() for text in of_image]
    captions = {image: " ".join(of[0].split()[: rng.randint(2, 9)] + rng.choice(texts).split()[-4:]) for image, of in references.items()}
    gts = ptb.PTBTokenizer().tokenize({image: [{"caption": text} for text in of_image] for image, of_image in references.items()})
    res = ptb.PTBTokenizer().tokenize({image: [{"caption": caption}] for image, caption in captions.items()})
    theirs, of_each = of_pycocoevalcap(gts, res)
    mine = score(captions, references)
    assert {name: mine[name] for name in FREE[:5]} == pytest.approx({name: theirs[name] for name in FREE[:5]}, abs=1e-4)
    assert mine["CIDEr"] == pytest.approx(theirs["CIDEr"], abs=1e-3)

    candidates, texts = [said.split() for [said] in res.values()], [[text.split() for text in of_image] for of_image in gts.values()]
    counted = References(texts)
    assert Bleu(counted).scores(candidates) == pytest.approx([theirs[name] for name in FREE[:4]], abs=1e-6)
    assert np.abs(rouge_l(candidates, texts) - of_each["ROUGE-L"]).max() < 1e-6
    assert np.abs(Cider(counted).scores(candidates) - of_each["CIDEr"]).max() < 1e-6


def of_pycocoevalcap(gts, res):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    rouge, rouges = Rouge().compute_score(gts, res)
    cider, ciders = Cider().compute_score(gts, res)
    return dict(zip(FREE, [*bleu, rouge, cider], strict=True)), {"ROUGE-L": rouges, "CIDEr": ciders}
