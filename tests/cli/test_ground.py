"""`captioner ground`: the table and the file, on photos and on drawn scenes, and one line for whatever is wrong."""

import json

import numpy as np
import pytest
import torch
from kinds import attention, part
from PIL import Image

from captioner.cli.main import main
from captioner.explain.grounding import MEASURES, METHODS
from captioner.model import Captioner
from captioner.scenes.scenes import Scenes
from captioner.vocabulary import Vocabulary


def saved(folder, words):
    torch.manual_seed(4)
    trunk = {"_target_": "captioner.encoders.small.SmallConv", "channels": [5, 7], "blocks": [0, 0], "coordinates": False}
    decoder = part("decoder", "lstm", attention=attention(), features=7, embedding_size=4, hidden_size=6)
    transform = {"_target_": "captioner.data.transforms.Transform", "size": [32, 40], "fit": "crop"}
    Captioner.from_config({"encoder": trunk, "decoder": decoder, "transform": transform}, Vocabulary(words)).save(folder)
    return folder


def triangle(x, y, width, height):
    """The lower left half of a box."""
    return [[x, y, x, y + height, x + width, y + height]]


@pytest.fixture
def explain(tmp_path, capsys):
    """Run the command on three photos of dogs and cups; (exit code, standard output, standard error)."""
    noise = np.random.default_rng(0)
    for image in (1, 2, 3):
        Image.fromarray(noise.integers(0, 255, (48, 60, 3), np.uint8)).save(tmp_path / f"{image}.png")
    images = [{"id": image, "file_name": f"{image}.png", "width": 60, "height": 48} for image in (1, 2, 3)]
    boxes = [(1, 1, [0, 0, 20, 20]), (2, 1, [30, 10, 20, 30]), (2, 2, [5, 5, 10, 10]), (3, 2, [20, 20, 15, 15])]
    objects = [
        {"id": i, "image_id": image, "category_id": kind, "bbox": box, "segmentation": triangle(*box)}
        for i, (image, kind, box) in enumerate(boxes)
    ]
    said = [(1, "A dog runs."), (1, "two puppies and a cup"), (2, "a dog with a red mug"), (3, "a cup"), (3, "the horse")]
    captions = [{"id": i, "image_id": image, "caption": caption} for i, (image, caption) in enumerate(said)]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cup"}]
    (tmp_path / "instances.json").write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    model = saved(tmp_path / "model", ["a", "red", "dog", "cup", "runs", "with"])

    def run(*options, **changes):
        given = {"annotations": tmp_path / "instances.json", "captions": tmp_path / "captions.json", "images": tmp_path, **changes}
        listed = {name: value if isinstance(value, list) else [value] for name, value in given.items() if value is not None}
        words = [str(word) for name, values in listed.items() for word in (f"--{name.replace('_', '-')}", *values)]
        code = main(["ground", str(model), *words, *map(str, options)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_table_and_the_file_say_the_same(explain, tmp_path):
    code, printed, error = explain("--json", tmp_path / "found.json", "--bootstrap", 50, "--explain", "attention,gradcam")
    assert (code, error) == (0, "")
    written = json.loads((tmp_path / "found.json").read_text())
    references = written["references"]
    assert "references: 3 object words in 3 of 3 images; left out: 2 " in printed
    assert references["left_out"] == {"naming nothing in the image": 2, "unknown to the model": 2}, "cup, horse; puppies, mug"
    for kind in ("attention", "gradcam"):
        found = references[kind]
        assert list(found) == list(MEASURES)
        assert all(list(row) == list(METHODS) for row in found.values())
        assert all(0 <= one["low"] <= one["value"] <= one["high"] <= 1 for row in found.values() for one in row.values())
        value = 100 * found["correctness"]["map"]["value"]
        table = printed.partition("references: ")[2].partition(f"{kind}, x 100")[2]
        line = next(line for line in table.splitlines() if "best word of a phrase" in line)
        assert line.split("phrase")[1].split()[0] == f"{value:.1f}"
    counted = references["by_class"]["attention"]
    assert sum(row["words"] for row in counted.values()) == references["words"]


def changed_instances(tmp_path, change):
    """Another file of instances: `change` is given the record."""
    record = json.loads((tmp_path / "instances.json").read_text())
    change(record)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(record))
    return path


def test_without_masks_nothing_is_said_of_masks_and_with_some_the_words_that_have_them_are_counted(explain, tmp_path):
    def drop(record, number):
        for thing in record["annotations"][:number]:
            thing["segmentation"] = []

    for number, there in ((0, 3), (1, 2), (4, 0)):
        path = changed_instances(tmp_path, lambda record, number=number: drop(record, number))
        code, printed, _ = explain("--of", "references", "--json", tmp_path / "found.json", annotations=path)
        assert code == 0
        found = json.loads((tmp_path / "found.json").read_text())["references"]
        assert (found["words"], found["masked_words"]) == (3, there)
        lines = [line for line in printed.splitlines() if "peak in the mask" in line]
        assert len(lines) == {3: 1, 2: 2, 0: 0}[there]
        assert there != 2 or lines[-1] == "peak in the mask: of the 2 words whose objects all have a mask in the annotations"
        assert ("the annotations draw no mask of these objects" in printed) == (there == 0)
        assert bool(found["attention"]["pointing_mask"]) == (there > 0)
        assert "NaN" not in (tmp_path / "found.json").read_text()


@pytest.mark.parametrize("spell", [str.upper, str.title, lambda name: f"_{name} "])
def test_categories_are_known_whatever_their_letters_case(explain, tmp_path, spell):
    def respell(record):
        for category in record["categories"]:
            category["name"] = spell(category["name"])

    assert explain("--of", "references", "--json", tmp_path / "a.json")[0] == 0
    assert explain("--of", "references", "--json", tmp_path / "b.json", annotations=changed_instances(tmp_path, respell))[0] == 0
    plain, other = (json.loads((tmp_path / f"{name}.json").read_text())["references"] for name in "ab")
    assert plain["words"] == other["words"] == 3
    assert plain["attention"] == other["attention"]
    assert list(other["by_class"]["attention"]) == [spell("cup"), spell("dog")]


def test_photos_at_another_size_have_boxes_and_masks_scaled_and_this_is_said(explain, tmp_path):
    """Everything in the file is drawn for photos of twice the size."""

    def double(record):
        for image in record["images"]:
            image |= {"width": 2 * image["width"], "height": 2 * image["height"]}
        for thing in record["annotations"]:
            thing["bbox"] = [2 * side for side in thing["bbox"]]
            thing["segmentation"] = [[2 * at for at in polygon] for polygon in thing["segmentation"]]

    assert explain("--json", tmp_path / "a.json", "--bootstrap", 0)[0] == 0
    code, _, error = explain("--json", tmp_path / "b.json", "--bootstrap", 0, annotations=changed_instances(tmp_path, double))
    assert code == 0
    assert "3 photos have another size than their annotations say (1.png has 60 x 48 pixels); boxes and masks are scaled" in error
    plain, scaled = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert plain["references"] == scaled["references"]
    assert plain["generated"] == scaled["generated"]


def test_photos_of_another_shape_are_left_out_and_named_never_scored(explain, tmp_path):
    def square(record, number):
        for image in record["images"][:number]:
            image |= {"width": 50, "height": 50}

    code, printed, error = explain("--of", "references", annotations=changed_instances(tmp_path, lambda record: square(record, 1)))
    assert code == 1
    assert "in 2 of 2 images" in printed
    told = "1.png: the photo has 60 x 48 pixels, and its objects were marked on one of 50 x 50; 1 photos like this are left out"
    assert told in error
    code, printed, error = explain("--of", "references", annotations=changed_instances(tmp_path, lambda record: square(record, 3)))
    assert (code, printed) == (1, "")
    assert "3 photos like this are left out: give the photos that the annotations describe" in error


def test_references_alone_and_the_first_images(explain):
    code, printed, _ = explain("--of", "references", "--limit", 1)
    assert code == 0
    assert "generated" not in printed
    assert "in 1 of 1 images" in printed
    assert printed.splitlines()[1].split()[-3:] == ["map", "uniform", "centre"], "one image has no other, and no interval"


def test_several_splits_are_scored_as_one_and_hold_each_image_once(explain, tmp_path):
    found = {}
    for name, parts in (("whole", [(1, 2, 3)]), ("parts", [(1,), (2, 3)])):
        files: dict[str, list] = {"annotations": [], "captions": []}
        for number, ids in enumerate(parts):
            for kind, own in (("annotations", "instances"), ("captions", "captions")):
                record = json.loads((tmp_path / f"{own}.json").read_text())
                record["images"] = [image for image in record["images"] if image["id"] in ids]
                record["annotations"] = [entry for entry in record["annotations"] if entry["image_id"] in ids]
                files[kind].append(tmp_path / f"{own}_{name}_{number}.json")
                files[kind][-1].write_text(json.dumps(record))
        folders = [tmp_path] * len(parts)
        assert explain("--json", tmp_path / f"{name}.json", "--bootstrap", 20, images=folders, **files)[0] == 0
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())
        del found[name]["annotations"]
    assert found["whole"] == found["parts"]
    twice = {name: [tmp_path / f"{own}.json"] * 2 for name, own in (("annotations", "instances"), ("captions", "captions"))}
    code, _, error = explain(images=[tmp_path] * 2, **twice)
    assert code == 2
    assert "image 1 is in several of the splits" in error
    code, _, error = explain(images=[tmp_path] * 2)
    assert code == 2
    assert "one file of each kind for every split" in error


def test_thresholds_come_from_training_images_or_are_given(explain, tmp_path):
    training = {"train_annotations": tmp_path / "instances.json", "train_captions": tmp_path / "captions.json", "train_images": tmp_path}
    assert explain("--of", "references", "--json", tmp_path / "a.json", **training)[0] == 0
    chosen = json.loads((tmp_path / "a.json").read_text())["references"]["thresholds"]["attention"]["all"]
    assert 0.01 <= chosen <= 0.95
    assert explain("--of", "references", "--threshold", chosen, "--json", tmp_path / "b.json")[0] == 0
    ious = [json.loads((tmp_path / name).read_text())["references"]["attention"]["iou"]["map"]["value"] for name in ("a.json", "b.json")]
    assert ious[0] == ious[1]
    assert explain("--threshold", 0.3, **training)[0] == 2


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_scored(explain, tmp_path):
    (tmp_path / "2.png").write_bytes(b"no image")
    code, printed, error = explain("--of", "references", "--json", tmp_path / "found.json")
    assert code == 1
    assert "2.png" in error
    assert "of 2 images" in printed
    assert json.loads((tmp_path / "found.json").read_text())["failed"] == [2]
    (tmp_path / "2.png").unlink()
    code, _, error = explain("--of", "references", "--json", tmp_path / "found.json")
    assert code == 1
    assert "1 of 3 listed images are not in" in error
    assert json.loads((tmp_path / "found.json").read_text())["failed"] == [2]
    for image in (1, 3):
        (tmp_path / f"{image}.png").write_bytes(b"no image")
    code, printed, error = explain("--of", "references")
    assert (code, printed) == (1, "")
    assert "there is nothing to score" in error


def test_faithfulness_is_of_the_nouns_that_the_model_says(explain, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "captioner.explain.evaluation.caption_tokens", lambda *given: {"generated": [[["a", "dog"]], [["a", "dog"]], [["a", "cup"]]]}
    )
    code, printed, _ = explain("--of", "generated", "--faithfulness", "--json", tmp_path / "found.json", "--bootstrap", 20)
    assert code == 0
    assert "p of the word while pixels go" in printed
    found = json.loads((tmp_path / "found.json").read_text())["faithfulness"]
    assert found.keys() == {"attention", "random"}
    assert found["attention"]["deletion"]["words"] == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--explain", "magic"], "'magic' is not among attention, gradcam"),
        (["--explain", ","], "'nothing' is not among"),
        (["--of", "others"], "'others' is not among generated, references"),
        (["--threshold", "1.5"], "is not a share"),
        (["--train-images", "x"], "--train-images: give --train-annotations, --train-captions and --train-images together"),
        (["--faithfulness", "--of", "references"], "--faithfulness is of generated captions"),
        (["--json", "."], "is a folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_two(explain, options, told):
    try:
        code, _, error = explain(*options)
    except SystemExit as gone:
        code, error = gone.code, told  # argparse's own
    assert code == 2
    assert told in error
    assert error.count("\n") <= 1


def entities(folder):
    """The boxes of `explain`'s instances, of the photos' captions, as Flickr30k Entities has them."""
    boxes = {1: [(0, 0, 20, 20)], 2: [(30, 10, 50, 40), (5, 5, 15, 15)], 3: [(20, 20, 35, 35)]}
    sentences = {1: "[/EN#1/animals A dog] runs .\n", 2: "[/EN#1/animals a dog] with [/EN#2/other a red mug]\n", 3: "[/EN#1/other a cup]\n"}
    for name in ("Annotations", "Sentences"):
        (folder / name).mkdir(parents=True)
    for image, of_image in boxes.items():
        edges = [dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)) for box in of_image]
        lines = ["".join(f"<{edge}>{at}</{edge}>" for edge, at in box.items()) for box in edges]
        objects = "".join(f"<object><name>{n}</name><bndbox>{line}</bndbox></object>" for n, line in enumerate(lines, 1))
        size = "<size><width>60</width><height>48</height></size>"
        (folder / "Annotations" / f"{image}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
        (folder / "Sentences" / f"{image}.txt").write_text(sentences[image])
    return folder


def test_entities_and_instances_with_the_same_boxes_give_the_same_numbers(explain, tmp_path):
    """Of the words that both name; the instances' masks, and "two puppies and a cup", are of the one alone."""
    code, printed, _ = explain(annotations=None, entities=entities(tmp_path / "entities"), of="references", json=tmp_path / "one.json")
    assert code == 0
    assert "animals" in printed
    record = json.loads((tmp_path / "captions.json").read_text())
    record["annotations"] = [one for one in record["annotations"] if one["id"] in (0, 2, 3)]
    (tmp_path / "captions.json").write_text(json.dumps(record))
    assert explain(of="references", json=tmp_path / "other.json")[0] == 0
    one, other = (json.loads((tmp_path / f"{name}.json").read_text())["references"] for name in ("one", "other"))
    assert one["words"] + one["left_out"].get("unknown to the model", 0) == 4
    for measure in ("pointing_box", "correctness_noun", "iou"):
        assert one["attention"][measure]["map"] == pytest.approx(other["attention"][measure]["map"])
    assert explain(entities=tmp_path / "entities")[0] == 2
    assert explain(annotations=None)[0] == 2


def test_files_of_other_images_are_refused(explain, tmp_path):
    other = {"images": [{"id": 99}], "annotations": [], "categories": []}
    (tmp_path / "other.json").write_text(json.dumps(other))
    code, _, error = explain(annotations=tmp_path / "other.json")
    assert code == 2
    assert "lists none of the images" in error
    (tmp_path / "scenes.json").write_text(json.dumps({"lexicon": {"kinds": {}, "kind_plurals": {}}, "scenes": {}}))
    code, _, error = explain("--scenes", tmp_path / "scenes.json")
    assert code == 2
    assert "scenes.json: is not of the images of" in error


def test_drawn_scenes_are_scored_by_what_was_drawn(tmp_path, capsys):
    source = Scenes(tmp_path / "scenes", 2, 3, 2, workers=1)
    captions = source.splits()["val"]
    words = sorted({word for tokens in captions.tokens() for word in tokens})
    model = saved(tmp_path / "model", words)
    listed = tmp_path / "scenes" / "annotations"
    files = [
        "--annotations",
        listed / "instances_val.json",
        "--captions",
        listed / "captions_val.json",
        "--images",
        tmp_path / "scenes" / "val",
    ]
    options = [
        "--images",
        tmp_path / "scenes" / "val",
        "--scenes",
        listed / "scenes_val.json",
        "--of",
        "references",
        "--json",
        tmp_path / "found.json",
    ]
    assert main(["ground", str(model), *map(str, [*files, *options])]) == 0
    assert "left out: none" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())["references"]
    assert found["words"] >= 15
    assert 0 < found["attention"]["correctness"]["uniform"]["value"] < 0.3
