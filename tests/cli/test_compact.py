"""`captioner compact`: a smaller model that says the same."""

import json
from pathlib import Path

import pytest
from test_model import photos, small

from captioner import packing
from captioner.cli.main import main
from captioner.model import Captioner


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_a_compact_model_is_smaller_and_its_maps_are_nearly_the_same(
    kind: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SMALLEST", 16)
    model = small()
    model.save("model", "# A card\n")
    assert main(["compact", "model", "packed", "--kind", kind]) == 0
    assert f"as {kind}" in capsys.readouterr().err
    sizes = [Path(folder, "model.safetensors").stat().st_size for folder in ("model", "packed")]
    assert sizes[1] < sizes[0]
    assert json.loads(Path("packed/config.json").read_text())["format"] == 3
    assert Path("packed/README.md").read_text() == "# A card\n"
    found = Captioner.load("packed")
    one, other = (each.align(photos()[0], "a dog runs").alphas for each in (model, found))
    assert abs(one - other).max() < 0.01
    assert not (one == other).all()


def test_a_folder_of_other_files_is_not_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small().save("model")
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("words")
    assert main(["compact", "model", "mine"]) == 2
    assert "thesis.tex" in capsys.readouterr().err
