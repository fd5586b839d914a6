"""What a caption becomes in the gallery and in captions.jsonl."""

import json

import numpy as np
import pytest
from PIL import Image

from captioner.caption import Caption
from captioner.cli.references import References
from captioner.cli.results import gallery_entry, json_line
from captioner.metrics.scores import Scorer

CAPTIONS = {3: ["a red ball", "the ball is red ."], 5: ["two dogs run", "dogs run on grass"], 7: ["a man sits"]}


@pytest.fixture
def references(tmp_path):
    images = [{"id": image, "file_name": f"{image}.png"} for image in CAPTIONS]
    annotations = [{"image_id": image, "caption": caption} for image, captions in CAPTIONS.items() for caption in captions]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [*images, {"id": 9, "file_name": "9.png"}], "annotations": annotations}))
    return References(path, [*(f"x/{image}.png" for image in CAPTIONS), "9.png", "unknown.png"])


def caption(**changes):
    words = {"text": "a red dog", "words": ["a", "red", "dog"], "alphas": np.full((3, 2, 3), 1 / 6, np.float32)}
    numbers = {"log_prob": -2.0, "log_probs": [-0.5, -0.5, -0.75], "end_log_prob": -0.25, "score": -0.5}
    image = {"box": (0.0, 0.0, 6.0, 4.0), "width": 6, "height": 4, "image": Image.new("RGB", (6, 4))}
    return Caption(**{**words, **numbers, **image, **changes})


def other(satisfied=True):
    """An alternative as the model gives it: with arrays, which are no JSON."""
    maps = {"alphas": np.full((2, 2, 3), 1 / 6, np.float32), "gate": np.array([0.5, 0.25])}
    numbers = {"log_prob": -3.0, "log_probs": [-1.0, -1.5], "end_log_prob": -0.5, "score": -1.0}
    return caption(text="a dog", words=["a", "dog"], satisfied=satisfied, **numbers, **maps)


def test_a_caption_has_the_scores_that_the_scorer_gives_it_among_all_references(references):
    """An image's CIDEr and ROUGE-L are terms of the corpus means, so that three images' mean is the scorer's."""
    said = {3: "a red dog", 5: "two dogs", 7: "a man sits"}
    found = [references.scores(f"x/{image}.png", text) for image, text in said.items()]
    whole = Scorer(CAPTIONS)(said)
    for name in ("CIDEr", "ROUGE-L"):
        assert np.mean([scores[name] for scores in found]) == pytest.approx(100 * whole[name], abs=1e-9)
    assert references.scores("9.png", "a man") == references.scores("unknown.png", "a man") == {}


def test_an_entry_of_the_gallery_has_maps_scores_references_and_alternatives(references):
    one = caption(alternatives=[other()], head_alphas=np.full((3, 2, 2, 3), 1 / 6, np.float32))
    result = gallery_entry("x/3.png", one, {"attention": one.alphas, "gradcam": one.alphas}, references)
    assert list(result.explanations) == ["attention", "gradcam", "head 1", "head 2"]
    assert list(result.scores) == ["CIDEr", "ROUGE-L", "log p", "score"]
    assert result.references == CAPTIONS[3]
    assert result.caption.alternatives[0].probabilities == pytest.approx(np.exp([-1.0, -1.5]))
    assert result.caption.alternatives[0].alphas.shape == (2, 2, 3)


def test_a_line_holds_an_alternative_without_its_arrays():
    whole = caption(alternatives=[other(), other(satisfied=False)])
    record = {"text": "a dog", "words": ["a", "dog"], "log_prob": -3.0, "score": -1.0}
    assert json.loads(json_line("3.png", whole, {}))["alternatives"] == [record, {**record, "satisfied": False}]
