"""Help texts: as wide as the terminal, no word broken; and every example that one of them shows is run, on small made data."""

import io
import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.cli.help import NARROWEST, WIDEST
from captioner.cli.main import COMMANDS, main
from captioner.scenes.scenes import Scenes

WIDTHS = (60, 80, 120)
LITTLE = ["data.minimum_count=1", "trainer.accelerator=cpu", "trainer.max_epochs=1", "data.batch_size=8", "data.num_workers=0"]
NARROW = ["decoder.embedding_size=8", "decoder.hidden_size=12", "attention.score.attention_size=10"]
SMALL = [
    *("encoder=small", "encoder.channels=[5,7]", "encoder.features=7", "encoder.coordinates=false", "encoder.blocks=[0,1]"),
    *("transform.size=24", "callbacks.fine_tune.epoch=null"),
]
DRAWN = ["data.train=6", "data.val=2", "data.test=2", "data.workers=1", "data.root=drawn"]
TRUNK = ["encoder.weights=null", "transform.size=64"]
MOVED = {"/data/coco": "coco", "/scratch/features": "features"}
"""Places of examples that are not below the current folder, and where they are here."""
ALL = [*LITTLE, *NARROW, *SMALL]
BESIDE = {
    "captioner train": [*ALL, *DRAWN],
    "captioner train experiment=coco data.root=/data/coco": ALL,
    "captioner train experiment=coco data.root=/data/coco encoder=resnet50 optimizer.lr=2e-4 trainer.devices=4 trainer.strategy=ddp": [
        *("--cfg", "job"),  # nobody has four GPUs here: the configuration is composed
    ],
    "captioner train data=captions data.train.annotations=a.json data.train.images=a data.val.annotations=b.json data.val.images=b "
    "encoder=resnet50": ALL,
    "captioner train attention=hard objective=hard attention/score=scaled_dot": [*ALL, *DRAWN],
    "captioner train debug=fast data.train=200 data.val=20 data.test=20": [*ALL, *DRAWN],
    "captioner train rerun=outputs/scenes/2025-01-31_12-00-00 seed=1": [],
    "captioner train resume=outputs/latest/checkpoints/last.ckpt": [],
    "captioner train resume=outputs/latest/checkpoints/last.ckpt trainer.max_epochs=20": ["trainer.max_epochs=2"],
    "captioner train init=outputs/latest data=folder data.root=photos": LITTLE,
    "captioner demo": ["--help"],  # tests/cli/test_demo.py runs it
    "captioner demo data.train=5000 trainer.max_epochs=2 seed=1": [*ALL, *DRAWN],
    "captioner cache experiment=coco data.root=/data/coco callbacks.fine_tune.epoch=null": [*TRUNK, "encoder=mobilenet_v2"],
    "captioner cache experiment=flickr8k data.train.annotations=captions_train.json data.train.images=train "
    "data.val.annotations=captions_val.json data.val.images=val": [word.replace("encoder.", "encoder.trunk.") for word in TRUNK],
    "captioner cache data=folder data.root=photos encoder=mobilenet_v2 data.cache_folder=/scratch/features": TRUNK,
    "--faithfulness": ["--explain", "attention", "--limit", "1", "--bootstrap", "2"],
}
"""Words beside an example, or beside every one with this flag, that make it small. Each example that trains or caches has its line."""


def helped(capsys, command, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    if command in ("predict", "evaluate", "ground", "compact", "demo"):
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
    assert min(WIDTHS) > NARROWEST


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_examples_are_the_same_at_every_width_and_name_the_command_that_is_installed(command, monkeypatch, capsys):
    shown = [examples_of(helped(capsys, command, width, monkeypatch)) for width in WIDTHS]
    assert shown[0] == shown[1] == shown[2]
    assert all(re.search(rf"(^|\| )captioner {command or '(train|predict|evaluate|ground|compact)'}\b", example) for example in shown[0])
    assert "python " not in helped(capsys, command, 80, monkeypatch)


WORDS = ("a red square", "a dog runs", "a blue ball on the grass", "a dog with a ball")


def coco(folder, names, first):
    """Noise images called `names` in `folder`; their captions and instances in COCO's format."""
    noise = np.random.default_rng(first)
    Path(folder).mkdir(parents=True, exist_ok=True)
    record = {"images": [], "annotations": []}
    boxes = {"images": record["images"], "annotations": [], "categories": [{"id": 18, "name": "dog"}, {"id": 37, "name": "sports ball"}]}
    for image, name in enumerate(names, first):
        Image.fromarray(noise.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(Path(folder) / name)
        record["images"].append({"id": image, "file_name": name, "width": 50, "height": 40})
        spoken = [{"image_id": image, "caption": WORDS[(image + k) % len(WORDS)]} for k in range(2)]
        record["annotations"] += [{"id": 10 * image + k, **one} for k, one in enumerate(spoken)]
        for k, category in enumerate((18, 37)):
            shape = [4.0 + k, 5.0, 24.0, 5.0, 24.0, 30.0, 4.0 + k, 30.0]
            box = {"bbox": [4.0, 5.0, 20.0, 25.0], "area": 500.0, "iscrowd": 0, "segmentation": [shape]}
            boxes["annotations"].append({"id": 10 * image + k, "image_id": image, "category_id": category, **box})
    return record, boxes


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder in which the examples find what they name: photos, annotations, results, trained models, drawn scenes."""
    root = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        files = {}
        for folder, split, count, first in (("coco/train2017", "train2017", 8, 1), ("coco/val2017", "val2017", 4, 51)):
            captions, instances = coco(folder, [f"{image:03}.jpg" for image in range(count)], first)
            files |= {f"captions_{split}.json": captions, f"instances_{split}.json": instances}
            results = [{"image_id": image["id"], "caption": WORDS[image["id"] % 4]} for image in captions["images"]]
            files |= {"results.json": results, "others.json": [{**one, "caption": "a dog"} for one in results]}
        files |= {name.replace("2017", ""): content for name, content in files.items()}
        for place in ("coco/annotations", "annotations", "."):
            Path(place).mkdir(exist_ok=True)
            for name, content in files.items():
                (Path(place) / name).write_text(json.dumps(content))
        for name, target in {"train": "coco/train2017", "val": "coco/val2017", "val2017": "coco/val2017", "a": "train", "b": "val"}.items():
            Path(name).symlink_to(target)
        for name, source in {"a": "captions_train2017", "b": "captions_val2017"}.items():
            Path(f"{name}.json").write_text(Path(f"{source}.json").read_text())
        coco("photos", [f"{image}.png" for image in range(4)], 91)
        (Path("photos") / "captions.csv").write_text("file_name,caption\n" + "".join(f"{k}.png,{WORDS[k]}\n" for k in range(4)))
        Image.new("RGB", (50, 40), (200, 30, 30)).save("photo.jpg")
        with zipfile.ZipFile("annotations.zip", "w") as archive:
            for image in range(4):
                size = "<size><width>50</width><height>40</height></size>"
                box = "<object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox></object>"
                archive.writestr(f"Annotations/{image:03}.xml", f"<annotation>{size}{box}</annotation>")
                archive.writestr(f"Sentences/{image:03}.txt", "".join(f"[/EN#1/other {words}]\n" for words in WORDS))
        assert main(["train", "data=coco", "data.root=coco", *ALL, "run_folder=outputs/scenes/2026-01-31_12-00-00"]) == 0
        shutil.copytree("outputs/latest", "outputs/scenes/2025-01-31_12-00-00")
        for name in ("one", "two"):
            Path(name).symlink_to("outputs/latest")
        Scenes("drawn", train=6, val=2, test=2, workers=1).draw()
        drawn_world(Path("of_scenes").resolve(), next(Path("drawn").resolve().rglob("scenes_val.json")).parent)
    return root


def drawn_world(folder, annotations):
    """The same for examples about drawn scenes, whose files have names that the others use, too."""
    folder.mkdir()
    for source in (*annotations.glob("*.json"), *(path for path in annotations.parent.iterdir() if path.is_dir())):
        (folder / source.name).symlink_to(source)
    (folder / "outputs").symlink_to(folder.parent / "outputs")


def every_example():
    """Read from the help of each command, in a fresh copy of its text."""
    from captioner.cli import cache, compact, demo, evaluate, ground, main, predict, train

    return [command for module in (main, train, predict, evaluate, ground, cache, compact, demo) for command, _ in module.EXAMPLES]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_examples_that_are_run_are_those_that_help_shows(command, monkeypatch, capsys):
    assert set(examples_of(helped(capsys, command, 400, monkeypatch))) <= set(every_example())


@pytest.mark.parametrize("example", dict.fromkeys(every_example()))
def test_every_example_of_a_help_text_runs(example, world, monkeypatch, capsys):
    monkeypatch.chdir(world / "of_scenes" if "--scenes" in example else world)
    command = example
    if "|" in example:
        command = example.split("|")[1].strip()
        monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, sorted(Path().rglob("val2017/*.jpg"))))))
    words = [MOVED.get(word, word) for word in shlex.split(command)[1:]]
    words = [re.sub(r"(?<==)/\S+$", lambda found: MOVED[found[0]], word) for word in words]
    words += [word for flag, more in BESIDE.items() if flag in words for word in more]
    if words[0] in ("train", "cache", "demo"):
        assert example in BESIDE, "say in BESIDE what makes this example small"
        words += [*BESIDE[example], *(["outputs=elsewhere"] if words[0] != "cache" else [])]
    if "--help" not in words:
        assert main(words) == 0, capsys.readouterr().err
