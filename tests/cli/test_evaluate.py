"""`captioner evaluate`: the table and the file, the stated rules, and one clear line for whatever is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from captioner.cli.main import main
from captioner.metrics.scores import score

ROOT = Path(__file__).resolve().parent.parent.parent
REFERENCES = {
    7: ["A red dog runs on the grass.", "a dog is running"],
    9: ["Two cats sit on a mat", "cats on a mat in the sun"],
    4: ["a man rides a blue bike", "A man on a bike."],
}
CAPTIONS = {9: "two cats sit on the grass", 7: "a red dog runs", 4: "a man rides a bike"}


def results(captions):
    return [{"image_id": image, "caption": caption} for image, caption in captions.items()]


def annotations(references):
    spoken = [{"image_id": image, "caption": caption} for image, captions in references.items() for caption in captions]
    return {
        "images": [{"id": image, "file_name": f"{image}.png"} for image in references],
        "annotations": [{"id": index, **entry} for index, entry in enumerate(spoken)],
    }


@pytest.fixture
def evaluate(tmp_path, capsys):
    """Run the command on results and references given as objects; (exit code, standard output, standard error)."""

    def run(record=None, references=REFERENCES, *options):
        mine, theirs = tmp_path / "results.json", tmp_path / "annotations.json"
        mine.write_text(json.dumps(results(CAPTIONS) if record is None else record))
        theirs.write_text(json.dumps(annotations(references)))
        code = main(["evaluate", str(mine), str(theirs), *map(str, options)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_table_shows_a_hundred_times_and_the_file_fractions(evaluate, tmp_path):
    code, printed, error = evaluate(None, REFERENCES, "--json", tmp_path / "deep" / "scores.json")
    assert (code, error) == (0, "")
    expected = score(CAPTIONS, REFERENCES)
    names, values = (line.split() for line in printed.splitlines())
    assert names == list(expected)
    assert [float(value) for value in values[:-1]] == pytest.approx([100 * value for value in list(expected.values())[:-1]], abs=0.051)
    assert values[-1] == "3"
    written = json.loads((tmp_path / "deep" / "scores.json").read_text())
    assert {name: written[name] for name in expected} == expected
    assert written["images"] == 3
    assert written["results"].endswith("results.json")


def test_columns_stand_under_their_names(evaluate):
    names, values = evaluate()[1].splitlines()
    assert len(names) == len(values)
    assert [i for i, c in enumerate(names) if c != " " and names[i + 1 : i + 2] in (" ", "")] == [
        i for i, c in enumerate(values) if c != " " and values[i + 1 : i + 2] in (" ", "")
    ]


def test_metrics_are_chosen_and_those_that_cannot_be_had_left_out(evaluate):
    code, printed, error = evaluate(None, REFERENCES, "--metrics", "METEOR,cider, rouge")
    assert code == 0
    assert printed.split()[:3] == ["ROUGE-L", "CIDEr", "images"]
    assert error == "captioner: METEOR is left out: this version does not compute it\n"


def test_partial_results_are_scored_only_when_asked(evaluate):
    some = results({image: CAPTIONS[image] for image in (4, 7)})
    code, _, error = evaluate(some)
    assert code == 2
    assert "without a caption: 1 (9) of 3" in error
    assert "--partial" in error
    code, printed, error = evaluate(some, REFERENCES, "--partial")
    assert code == 0
    assert printed.split()[-1] == "2"
    assert "2 of 3 images" in error


def test_a_caption_without_words_is_scored_and_named(evaluate):
    code, _, error = evaluate(results({**CAPTIONS, 7: " . "}))
    assert code == 0
    assert "score 0: images 1 (7)" in error


def test_one_image_alone_says_that_cider_is_zero(evaluate):
    code, printed, error = evaluate(results({7: "a dog"}), {7: REFERENCES[7]})
    assert code == 0
    assert printed.split()[-2:] == ["0.0", "1"]
    assert "CIDEr is 0 with one image" in error


good = results(CAPTIONS)


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"results": good}, "found an object"),
        ([], "list of results is empty"),
        ([*good, "a dog"], "[3] must be an object with `image_id` and `caption`, found a string"),
        ([*good, {"image_id": 7, "caption": "again"}], "[3].image_id is 7, which has a caption already"),
        ([*good, {"image_id": 8, "caption": "a stranger"}], "without a reference"),
        ([{"image_id": "7", "caption": "a"}], "[0].image_id must be a whole number, found a string"),
        ([{"image_id": True, "caption": "a"}], "[0].image_id must be a whole number, found true or false"),
        ([{"image_id": 7.0, "caption": "a"}], "[0].image_id must be a whole number, found a number"),
        ([{"image_id": 7, "caption": ["a", "dog"]}], "[0].caption must be a string, found a list"),
        ([{"image_id": 7, "caption": None}], "[0].caption must be a string, found null"),
        ([{"caption": "a"}], "[0] has no `image_id`"),
        ([{"image_id": 7}], "[0] has no `caption`"),
    ],
)
def test_wrong_results_end_with_one_line_that_names_file_and_key(evaluate, record, line):
    code, printed, error = evaluate(record, REFERENCES)
    assert (code, printed) == (2, "")
    assert error.startswith("captioner: error: ")
    assert "results.json" in error
    assert line in error
    assert error.count("\n") == 1


def test_missing_files_and_files_that_are_not_json(evaluate, tmp_path, capsys):
    evaluate()
    good_file = str(tmp_path / "results.json")
    assert main(["evaluate", str(tmp_path / "none.json"), str(tmp_path / "annotations.json")]) == 2
    assert "none.json: caption results not found" in capsys.readouterr().err
    (tmp_path / "broken.json").write_text('[{"image_id": 1,')
    assert main(["evaluate", str(tmp_path / "broken.json"), str(tmp_path / "annotations.json")]) == 2
    assert "broken.json: caption results is not JSON" in capsys.readouterr().err
    assert main(["evaluate", good_file, good_file]) == 2
    assert "COCO captions format" in capsys.readouterr().err
    assert main(["evaluate", good_file, str(tmp_path / "none.json")]) == 2
    assert "none.json: caption annotations not found" in capsys.readouterr().err


@pytest.mark.parametrize(("metrics", "line"), [("blue", "'blue'"), ("meteor", "no metric is left"), (",", "no metric is left")])
def test_metrics_nobody_knows(evaluate, metrics, line):
    code, _, error = evaluate(None, REFERENCES, "--metrics", metrics)
    assert code == 2
    assert line in error


@pytest.mark.parametrize(
    "words", [[], ["one.json"], ["a", "b", "c"], ["--model", "m", "a.json"], ["a", "b", "--images", "d"], ["a", "b", "--beam", "0"]]
)
def test_usage_mistakes_exit_with_two(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *words])
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.fixture
def photos(tmp_path):
    """A folder of images, each of one grey that says which it is, and their annotations."""
    for image in REFERENCES:
        Image.new("RGB", (6, 5), (image, image, image)).save(tmp_path / f"{image}.png")
    (tmp_path / "annotations.json").write_text(json.dumps(annotations(REFERENCES)))
    return tmp_path


class Parrot:
    """Says what CAPTIONS has for the image's grey."""

    def __init__(self):
        self.asked = []

    def caption(self, images, beam, batch_size):
        self.asked.append((len(images), beam, batch_size))
        return [SimpleNamespace(text=CAPTIONS[image.getpixel((0, 0))[0]]) for image in images]


@pytest.fixture
def parrot(monkeypatch):
    from captioner.cli import predict

    bird = Parrot()
    monkeypatch.setattr(predict, "load", lambda model, device: bird)
    return bird


def test_a_model_captions_every_image_and_is_scored(photos, parrot, capsys):
    files = [str(photos / name) for name in ("scores.json", "said.json", "annotations.json")]
    words = ["--json", files[0], "--results", files[1], "--beam", "5", "--batch-size", "2"]
    assert main(["evaluate", "--model", "m", files[2], "--images", str(photos), *words]) == 0
    assert parrot.asked == [(2, 5, 2), (1, 5, 2)]
    written = json.loads(Path(files[0]).read_text())
    assert written | score(CAPTIONS, REFERENCES) == written
    assert written["search"] == "beam 5"
    assert sorted(json.loads(Path(files[1]).read_text()), key=str) == sorted(results(CAPTIONS), key=str)
    table = capsys.readouterr().out
    assert main(["evaluate", *files[1:]]) == 0
    assert capsys.readouterr().out == table


def test_an_image_that_cannot_be_read_is_an_error_and_left_out_only_when_asked(photos, parrot, capsys):
    (photos / "9.png").write_bytes(b"no image")
    words = ["evaluate", "--model", "m", str(photos / "annotations.json"), "--images", str(photos)]
    assert main(words) == 2
    assert "9.png" in capsys.readouterr().err
    assert main([*words, "--partial"]) == 1
    printed = capsys.readouterr()
    assert printed.out.split()[-1] == "2"
    assert "9.png" in printed.err


def test_a_listed_image_that_is_not_there_likewise(photos, parrot, capsys):
    (photos / "9.png").unlink()
    words = ["evaluate", "--model", "m", str(photos / "annotations.json"), "--images", str(photos)]
    assert main(words) == 2
    assert "9.png" in capsys.readouterr().err
    assert main([*words, "--partial"]) == 1


def test_a_model_that_is_none_ends_with_one_line(photos, capsys):
    assert main(["evaluate", "--model", str(photos), str(photos / "annotations.json"), "--images", str(photos)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("captioner: error: ")
    assert error.count("\n") == 1


def test_scoring_a_results_file_needs_no_torch(evaluate, tmp_path):
    evaluate()
    code = "import sys; sys.modules['torch'] = None; from captioner.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["evaluate", str(tmp_path / "results.json"), str(tmp_path / "annotations.json")]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
