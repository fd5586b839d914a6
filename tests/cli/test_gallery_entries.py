import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.cli.references import References
from captioner.cli.results import entry, line
from captioner.metrics.scores import Scorer

CAPTIONS = {3: ["a red ball", "the ball is red ."], 5: ["two dogs run", "dogs run on grass"], 7: ["a man sits"]}


@pytest.fixture
def references(tmp_path):
    images = [{"id": image, "file_name": f"{image}.png"} for image in CAPTIONS]
    annotations = [{"image_id": image, "caption": caption} for image, captions in CAPTIONS.items() for caption in captions]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [*images, {"id": 9, "file_name": "9.png"}], "annotations": annotations}))
    return References(path, [*(f"x/{image}.png" for image in CAPTIONS), "9.png", "unknown.png"])


@dataclass
class Said:
    text: str = "a red dog"
    words: tuple = ("a", "red", "dog")
    log_prob: float = -2.0
    log_probs: tuple = (-0.5, -0.5, -0.75)
    end_log_prob: float = -0.25
    score: float = -0.5
    alphas: Any = field(default_factory=lambda: np.full((3, 2, 3), 1 / 6, np.float32))
    box: tuple = (0.0, 0.0, 6.0, 4.0)
    width: int = 6
    height: int = 4
    gate: Any = None
    sentinel: Any = None
    head_alphas: Any = None
    alternatives: list = field(default_factory=list)
    satisfied: bool = True


def other(satisfied=True):
    """As the model says an alternative: with arrays, which are no JSON."""
    maps = {"alphas": np.full((2, 2, 3), 1 / 6, np.float32), "gate": np.array([0.5, 0.25]), "sentinel": None, "head_alphas": None}
    numbers = {"log_prob": -3.0, "log_probs": [-1.0, -1.5], "end_log_prob": -0.5, "score": -1.0}
    return {"text": "a dog", "words": ["a", "dog"], **numbers, **maps, "satisfied": satisfied}


def test_a_caption_has_the_scores_that_the_scorer_gives_it_among_all_references(references):
    """An image's CIDEr and ROUGE-L are terms of the corpus means, so that three images' mean is the scorer's."""
    said = {3: "a red dog", 5: "two dogs", 7: "a man sits"}
    found = [references.scores(f"x/{image}.png", text) for image, text in said.items()]
    whole = Scorer(CAPTIONS)(said)
    for name in ("CIDEr", "ROUGE-L"):
        assert np.mean([scores[name] for scores in found]) == pytest.approx(100 * whole[name], abs=1e-9)
    assert references.scores("9.png", "a man") == references.scores("unknown.png", "a man") == {}


def test_an_entry_of_the_gallery_has_all_that_is_known(references):
    caption = Said(alternatives=[other()], head_alphas=np.full((3, 2, 2, 3), 1 / 6, np.float32))
    found = entry("x/3.png", Image.new("RGB", (6, 4)), caption, {"attention": caption.alphas, "gradcam": caption.alphas}, references)
    assert list(found.maps) == ["attention", "gradcam", "head 1", "head 2"]
    assert list(found.scores) == ["CIDEr", "ROUGE-L", "log p", "score"]
    assert found.references == CAPTIONS[3]
    assert found.alternatives[0]["probabilities"] == pytest.approx(np.exp([-1.0, -1.5]))
    assert found.alternatives[0]["maps"]["attention"].shape == (2, 2, 3)


def test_a_line_tells_an_alternative_without_its_arrays():
    caption = Said(alternatives=[other(), other(satisfied=False)])
    told = {"text": "a dog", "words": ["a", "dog"], "log_prob": -3.0, "score": -1.0}
    assert json.loads(line("3.png", caption, {}))["alternatives"] == [told, {**told, "satisfied": False}]
