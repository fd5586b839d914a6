"""Help texts: as wide as the terminal, no word broken; and every example that one of them shows is run, on small made data."""

import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.cli.help import NARROWEST, WIDEST
from captioner.cli.main import COMMANDS, main

WIDTHS = (60, 80, 120)
SHRUNK = [
    *("decoder.embedding_size=8", "decoder.hidden_size=12", "attention.score.attention_size=10", "data.minimum_count=1"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=1", "data.batch_size=8", "data.num_workers=0"),
]
DRAWN = ["data.train=9", "data.val=5", "data.test=4", "data.workers=1", "data.root=drawn"]
PHOTOS = ["encoder=mobilenet_v2", "encoder.weights=null", "transform.size=64"]
RESNET = ["encoder.weights=null", "transform.size=64"]
SMALL = ["encoder=small", "encoder.channels=[5,7]", "encoder.features=7", "encoder.coordinates=false", "encoder.blocks=[0,1]", "transform.size=24"]  # fmt: skip
MOVED = {"/data/coco": "coco", "/scratch/features": "features"}
"""Places of examples that are not below the current folder, and where they are here."""
BESIDE: dict[str, list[str]] = {
    "captioner train": [*SHRUNK, *DRAWN],
    "captioner train experiment=coco data.root=/data/coco": [*SHRUNK, *PHOTOS, "callbacks.fine_tune.epoch=0"],
    "captioner train experiment=coco data.root=/data/coco encoder=resnet50 optimizer.lr=2e-4 trainer.devices=4 trainer.strategy=ddp": [
        *("--cfg", "job"),  # four GPUs are too much to ask: the configuration is composed
    ],
    "captioner train data=captions data.train.annotations=a.json data.train.images=a data.val.annotations=b.json data.val.images=b "
    "encoder=resnet50": [*SHRUNK, *RESNET],
    "captioner train attention=hard objective=hard attention/score=scaled_dot": [*SHRUNK, *DRAWN],
    "captioner train debug=fast data.train=200 data.val=20 data.test=20": [*SHRUNK, *DRAWN],
    "captioner train rerun=outputs/scenes/2025-01-31_12-00-00 seed=1": [],
    "captioner train resume=outputs/latest/checkpoints/last.ckpt": [],
    "captioner train resume=outputs/latest/checkpoints/last.ckpt trainer.max_epochs=20": ["trainer.max_epochs=2"],
    "captioner train init=outputs/latest data=folder data.root=photos": ["trainer.max_epochs=1", "trainer.accelerator=cpu"],
    "captioner demo": [*SHRUNK, *DRAWN],
    "captioner demo data.train=5000 trainer.max_epochs=2 seed=1": [*SHRUNK, *DRAWN],
    "captioner cache experiment=coco data.root=/data/coco callbacks.fine_tune.epoch=null": [*RESNET, "encoder=resnet18"],
    "captioner cache experiment=flickr8k data.train.annotations=captions_train.json data.train.images=train "
    "data.val.annotations=captions_val.json data.val.images=val": RESNET,
    "captioner cache data=folder data.root=photos encoder=mobilenet_v2 data.cache_folder=/scratch/features": RESNET,
}
"""What makes an example small: other values of its own, or of what it leaves as it is. Every example of `train`, `cache` and `demo` is here."""
FAILS_IN_PART = {"captioner evaluate results.json captions_val2017.json --metrics bleu,cider,meteor --json scores.json"}


def helped(capsys, command, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    if command == "predict" or command in ("evaluate", "explain", "demo"):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0
    else:
        assert main([command, "--help"] if command else ["--help"]) == 0
    return capsys.readouterr().out


def examples_of(text):
    """The commands below "examples:", without comments, those of several lines in one."""
    block = re.search(r"^examples:\n((?:  .*\n?)+)", text, re.M)
    assert block, "this help has no example"
    joined = re.sub(r" \\\n\s+", " ", block[1])
    return [line.strip() for line in joined.splitlines() if not line.startswith("  #")]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_wide_as_the_terminal_and_breaks_no_word(command, monkeypatch, capsys):
    texts = {width: helped(capsys, command, width, monkeypatch) for width in (20, *WIDTHS, 400)}
    for width in WIDTHS:
        long = [line for line in texts[width].splitlines() if len(line) > width - 2 and len(line.split()) > 2]
        assert long == [], f"at {width} columns"
    squeezed = {width: re.sub(r"[\s\\#]", "", text) for width, text in texts.items()}
    assert len(set(squeezed.values())) == 1, "the same text at every width, but for the breaks"
    known = set(re.split(r"[\s,]+", texts[400]))
    for width in WIDTHS:
        assert set(re.split(r"[\s,]+", texts[width])) <= known | {"#", "\\"}, f"a word is broken at {width} columns"
    assert max(map(len, texts[400].splitlines())) <= WIDEST
    assert NARROWEST < min(WIDTHS)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_examples_are_the_same_at_every_width_and_name_the_command_that_is_installed(command, monkeypatch, capsys):
    shown = [examples_of(helped(capsys, command, width, monkeypatch)) for width in WIDTHS]
    assert shown[0] == shown[1] == shown[2]
    assert all(re.search(rf"(^|\| )captioner {command or '(train|predict|evaluate|explain)'}\b", example) for example in shown[0])
    assert "python " not in helped(capsys, command, 80, monkeypatch)
