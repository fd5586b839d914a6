import json
import re
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.demo import main
from captioner.errors import InputError

TINY = [
    "data.train=48",
    "data.val=12",
    "data.test=12",
    "data.workers=1",
    "data.batch_size=16",
    "trainer.max_epochs=1",
    "decoder.hidden_size=12",
    "decoder.embedding_size=8",
]


def test_the_demo_draws_trains_scores_and_shows(tmp_path, capsys):
    """Small in everything: what it prints is there, the controls are what they must be for any model."""
    root = tmp_path / "scenes"
    assert main([*TINY, f"data.root={root}", f"outputs={tmp_path}", "--beam", "2"]) == 0
    printed = capsys.readouterr().out
    rows = {m[1].strip(): (float(m[2]), float(m[3])) for m in re.finditer(r"^(.{42})\s*([\d.]+)\s+([\d.]+)$", printed, re.M)}
    assert rows["references"] == (100.0, 100.0)
    assert max(rows["references of other scenes"]) <= 20
    assert 0 < rows.get("uniform map", (1.0,))[0] < 30, "none, where no caption names anything"
    assert {"BLEU-4", "ROUGE-L", "CIDEr", "CIDEr of a sixth caption", "captions true of their scene", "claims per caption"} <= set(rows)
    assert re.search(r"seconds\s+drawing \d+\s+training \d+\s+scoring \d+\s+gallery \d+", printed)
    (run,) = (tmp_path / "demo").iterdir()
    assert not (tmp_path / "latest").exists()
    assert (run / "gallery" / "index.html").is_file()
    lines = [json.loads(line) for line in (run / "gallery" / "captions.jsonl").read_text().splitlines()]
    assert len(lines) == 12 + 8 + 2
    assert [Path(line["image"]).stem for line in lines[-2:]] == ["cyclist", "skateboarder"]
    assert json.loads((run / "results" / "demo.json").read_text())["val"]["true"] * 100 == pytest.approx(
        rows["captions true of their scene"][0], abs=0.06
    )


def test_the_demo_is_about_scenes(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "captions.csv").write_text("file,caption\na.png,a dog\n")
    with pytest.raises(InputError, match="drawn scenes"):
        main(["data=folder", f"data.root={tmp_path}", "trainer.max_epochs=1"])
