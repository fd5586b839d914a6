"""Every notebook runs from its first cell to its last, on another model and another image than its own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds import attention, part
from PIL import Image

from captioner.model import Captioner
from captioner.vocabulary import Vocabulary

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


WORDS = Vocabulary(["a", "the", "red", "blue", "dog", "cat", "star", "runs"])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A model that nobody trained, and that says no special word but `<end>`."""
    torch.manual_seed(0)
    encoder = {"_target_": "captioner.encoders.small.SmallConv", "channels": [5, 7], "blocks": [0, 0], "coordinates": False}
    decoder = part("decoder", "lstm", attention=attention(), features=7, embedding_size=4, hidden_size=6)
    transform = {"_target_": "captioner.data.transforms.Transform", "size": [32, 40], "fit": "crop"}
    model = Captioner.from_config({"encoder": encoder, "decoder": decoder, "transform": transform}, WORDS)
    with torch.no_grad():
        model.decoder.output.bias[[Vocabulary.pad, Vocabulary.start, Vocabulary.unknown]] = -20.0
    model.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(path: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.frombytes("RGB", (41, 30), bytes(range(246)) * 15).save(tmp_path / "photo.png")
    monkeypatch.setenv("CAPTIONER_MODEL", str(small))
    monkeypatch.setenv("CAPTIONER_IMAGE", str(tmp_path / "photo.png"))
    monkeypatch.chdir(path.parent)
    names: dict[str, Any] = {}
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 2
    for cell in cells:
        exec(compile("".join(cell["source"]), f"{path.name} {cell['id']}", "exec"), names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_shows_came_from_one_run_without_an_error(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
