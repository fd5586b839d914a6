"""`captioner evaluate`: the table and the file, the stated rules, and one clear line for whatever is wrong."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from captioner.cli.main import main
from captioner.metrics import java
from captioner.metrics.bootstrap import intervals
from captioner.metrics.diversity import diversity
from captioner.metrics.frequencies import DocumentFrequencies
from captioner.metrics.ngrams import References
from captioner.metrics.scores import Scorer, score
from captioner.search.beam import BeamSearch
from captioner.tokenizer import tokenize
from captioner.vocabulary import Vocabulary

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


def rows(printed):
    """The table's lines by name, as words."""
    return {line.split()[0]: line.split()[1:] for line in printed.splitlines()[1:]}


def test_the_table_shows_a_hundred_times_and_the_file_fractions(evaluate, tmp_path):
    code, printed, error = evaluate(None, REFERENCES, "--json", tmp_path / "deep" / "scores.json", "--bootstrap", 0)
    assert (code, error) == (0, "")
    expected = score(CAPTIONS, REFERENCES)
    found = rows(printed)
    assert list(found) == list(expected)
    assert found.pop("images") == ["3"]
    assert [float(value) for (value,) in found.values()] == pytest.approx([100 * expected[name] for name in found], abs=0.051)
    written = json.loads((tmp_path / "deep" / "scores.json").read_text())
    assert {name: written[name] for name in expected} == expected
    assert written["images"] == 3
    assert written["results"].endswith("results.json")
    assert "intervals" not in written


def test_intervals_stand_beside_the_scores_and_in_the_file(evaluate, tmp_path):
    printed = evaluate(None, REFERENCES, "--json", tmp_path / "scores.json", "--bootstrap", 200, "--seed", 5)[1]
    written = json.loads((tmp_path / "scores.json").read_text())
    scorer = Scorer(REFERENCES)
    assert written["intervals"] == {name: list(ends) for name, ends in intervals(scorer.statistics(CAPTIONS), 200, 5).items()}
    assert written["bootstrap"] == {"resamples": 200, "seed": 5, "level": 0.95}
    low, high = written["intervals"]["CIDEr"]
    assert low < written["CIDEr"] < high
    assert f"{100 * written['CIDEr']:.1f}  [{100 * low:.1f}, {100 * high:.1f}]" in printed
    assert evaluate(None, REFERENCES, "--bootstrap", 200, "--seed", 5)[1] == printed


def test_columns_stand_under_their_names(evaluate):
    lines = evaluate(None, REFERENCES, "--diversity")[1].splitlines()
    value = lines[0].index("x 100") + len("x 100")
    assert {line[value - 1] == " " for line in lines} == {False}
    assert {line[value : value + 1] for line in lines} <= {" ", ""}


def test_metrics_are_chosen_and_those_that_cannot_be_had_left_out(evaluate, monkeypatch, tmp_path):
    monkeypatch.setattr(java, "find_spec", lambda name: None)
    code, printed, error = evaluate(None, REFERENCES, "--metrics", "SPICE,cider, rouge", "--json", tmp_path / "scores.json")
    assert code == 0
    assert list(rows(printed)) == ["ROUGE-L", "CIDEr", "images"]
    assert 'SPICE is left out: it needs an extra that is not installed: pip install "captioner[java]"' in error
    assert "SPICE" not in json.loads((tmp_path / "scores.json").read_text())
    code, printed, error = evaluate(None, REFERENCES, "--metrics", "spice")
    assert (code, printed) == (2, "")
    assert "--metrics spice: none of them can be had here" in error


def test_partial_results_are_scored_only_when_asked(evaluate):
    some = results({image: CAPTIONS[image] for image in (4, 7)})
    code, _, error = evaluate(some)
    assert code == 2
    assert "without a caption: 1 (9) of 3" in error
    assert "--partial" in error
    code, printed, error = evaluate(some, REFERENCES, "--partial")
    assert code == 0
    assert rows(printed)["images"] == ["2", "of", "3"]
    assert "2 of 3 images" in error


def test_a_caption_without_words_is_scored_and_named(evaluate):
    code, _, error = evaluate(results({**CAPTIONS, 7: " . "}))
    assert code == 0
    assert "score 0: images 1 (7)" in error


def test_one_image_alone_says_that_cider_is_zero_and_has_no_interval(evaluate):
    code, printed, error = evaluate(results({7: "a dog"}), {7: REFERENCES[7]})
    assert code == 0
    assert rows(printed)["CIDEr"] == ["0.0"]
    assert "CIDEr is 0 with one image" in error


def test_diversity_is_shown_and_written(evaluate, tmp_path):
    said = {**CAPTIONS, 4: "a man rides a <unk> on the"}
    training = tmp_path / "training.json"
    training.write_text(json.dumps(annotations({1: ["A red dog runs.", "the sun"]})))
    words = ["--training-captions", training, "--json", tmp_path / "scores.json"]
    code, printed, _ = evaluate(results(said), REFERENCES, *words)
    written = json.loads((tmp_path / "scores.json").read_text())["diversity"]
    assert code == 0
    assert written == pytest.approx(diversity([tokenize(said[image]) for image in REFERENCES], [["a", "red", "dog", "runs"]]))
    assert written["novel"] == 2 / 3
    found = rows(printed)
    assert (found["novel"], found["vocabulary"], found["length"]) == (["66.7"], ["13"], ["5.7"])
    assert printed.count("33.3") == 2  # ends in a function word, holds <unk>
    assert "novel" not in evaluate(results(said), REFERENCES, "--diversity")[1]
    assert "distinct" not in evaluate(results(said), REFERENCES)[1]


def test_document_frequencies_of_another_corpus_count_for_cider_alone(evaluate, tmp_path):
    other, saved = tmp_path / "other.json", tmp_path / "df.npz"
    corpus = {**REFERENCES, 12: ["a dog"], 13: ["a cat"], 14: ["a dog", "a blue bike"]}
    other.write_text(json.dumps(annotations(corpus)))
    own = rows(evaluate()[1])
    code, printed, _ = evaluate(None, REFERENCES, "--df", other, "--save-df", saved, "--json", tmp_path / "s.json")
    assert code == 0
    expected = score(CAPTIONS, REFERENCES, frequencies=DocumentFrequencies.of(Scorer(corpus).references))
    assert json.loads((tmp_path / "s.json").read_text())["CIDEr"] == pytest.approx(expected["CIDEr"])
    found = rows(printed)
    assert {name for name in own if own[name] != found[name]} == {"CIDEr"}
    assert evaluate(None, REFERENCES, "--df", saved)[1] == printed
    saved.write_bytes(b"no archive")
    code, _, error = evaluate(None, REFERENCES, "--df", saved)
    assert code == 2
    assert "df.npz" in error


def test_document_frequencies_of_shorter_n_grams_are_refused(evaluate, tmp_path):
    DocumentFrequencies.of(References([[["a", "dog"]]], 2)).save(tmp_path / "df.npz")
    code, _, error = evaluate(None, REFERENCES, "--df", tmp_path / "df.npz")
    assert code == 2
    assert "n-grams up to 2 words" in error


@pytest.fixture
def compare(evaluate, tmp_path):
    def run(other, *options, record=None, references=REFERENCES):
        (tmp_path / "other.json").write_text(json.dumps(results(other)))
        return evaluate(record, references, "--compare", tmp_path / "other.json", *options)

    return run


def often(of_image, times=4):
    """The same again for as many images more: three are too few for any difference to be told from chance."""
    return {image + 100 * i: entry for i in range(times) for image, entry in of_image.items()}


WORSE = {**CAPTIONS, 7: "red", 9: "a cat", 4: "man"}


def test_a_comparison_shows_both_the_difference_and_says_who_is_better(compare, tmp_path):
    references, record = often(REFERENCES), results(often(CAPTIONS))
    code, printed, error = compare(often(WORSE), "--json", tmp_path / "scores.json", record=record, references=references)
    assert (code, error) == (0, "")
    written = json.loads((tmp_path / "scores.json").read_text())
    expected = score(often(WORSE), references)
    assert {name: written["compare"][name] for name in expected} == expected
    gain = written["differences"]["ROUGE-L"]
    assert gain["value"] == pytest.approx(written["ROUGE-L"] - expected["ROUGE-L"])
    assert 0 < gain["low"] <= gain["value"] <= gain["high"]
    assert f"A is {tmp_path / 'results.json'}, B is {tmp_path / 'other.json'}" in printed
    ends = f"{100 * gain['value']:.1f} [{100 * gain['low']:.1f}, {100 * gain['high']:.1f}]"
    assert gain["p"] < 0.01
    assert f"A is better than B on ROUGE-L by {ends}, p " in printed
    assert "may be noise" not in printed


def test_changing_sides_names_the_other_as_better(compare):
    printed = compare(often(CAPTIONS), record=results(often(WORSE)), references=often(REFERENCES))[1]
    assert "B is better than A on ROUGE-L by " in printed


def test_what_may_be_noise_is_called_so_and_nobody_better(compare, tmp_path):
    mixed = {**CAPTIONS, 7: "the red dog", 9: "two cats sit on a mat"}  # one worse, one better
    printed = compare(mixed, "--json", tmp_path / "scores.json")[1]
    gain = json.loads((tmp_path / "scores.json").read_text())["differences"]["ROUGE-L"]
    assert f"B scores higher than A on ROUGE-L by {-100 * gain['value']:.1f} [" in printed
    assert f"p = {gain['p']:.3f}, which may be noise\n" in printed
    assert "better" not in printed


def test_as_many_resamples_as_are_asked_for_suffice_to_call_a_system_better(compare):
    options = {"record": results(often(CAPTIONS, 8)), "references": often(REFERENCES, 8)}
    assert "A is better than B on CIDEr by " in compare(often(WORSE, 8), "--bootstrap", 20, **options)[1]


def test_three_images_are_too_few_to_call_a_system_better(compare):
    """Two of the eight ways in which chance may deal their captions out look as good: p = 0.25 at least."""
    assert "better" not in compare(WORSE)[1]


def test_a_system_compared_with_itself_is_the_same(compare):
    printed = compare(CAPTIONS)[1]
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"):
        assert f"A and B have the same {name}\n" in printed


def test_systems_are_compared_on_the_images_that_both_caption(compare):
    code, _, error = compare({7: "a dog", 9: "cats"})
    assert code == 2
    assert "other.json: images without a caption: 1 (4) of 3" in error
    code, printed, _ = compare({7: "a dog", 9: "cats"}, "--partial")
    assert code == 0
    assert rows(printed)["images"] == ["2", "of", "3", "2", "of", "3"]
    code, _, error = compare({7: "a dog"}, "--partial", record=results({9: "cats"}))
    assert code == 2
    assert "no image in common" in error
    code, _, error = compare({7: "a dog"}, "--partial")
    assert code == 2
    assert "one image does not tell two systems apart" in error
    code, _, error = compare({**CAPTIONS, 8: "a stranger"})
    assert code == 2
    assert "other.json: images without a reference" in error


def test_scoring_asks_for_ids_and_captions_alone(evaluate, tmp_path):
    bare = annotations(REFERENCES)
    bare["images"] = [{"id": image["id"]} for image in bare["images"]]
    bare["annotations"] = [{"image_id": entry["image_id"], "caption": entry["caption"]} for entry in bare["annotations"]]
    (tmp_path / "results.json").write_text(json.dumps(results(CAPTIONS)))
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    for name, written in (("bare", bare), ("annotations", annotations(REFERENCES))):
        (tmp_path / f"{name}.json").write_text(json.dumps(written))
        out = tmp_path / f"{name}_scores.json"
        assert (
            main(["evaluate", str(tmp_path / "results.json"), str(tmp_path / f"{name}.json"), "--bootstrap", "0", "--json", str(out)]) == 0
        )
    one, other = (json.loads((tmp_path / f"{name}_scores.json").read_text()) for name in ("bare", "annotations"))
    assert one | {"annotations": ""} == other | {"annotations": ""}


@pytest.mark.parametrize("spell", [str, float, lambda image: image + 15513034351195312651, lambda image: f"n0{image}"])
def test_ids_of_any_size_and_spelling_are_scored_the_same(evaluate, spell):
    plain = evaluate(None, REFERENCES, "--bootstrap", 0)
    far = {spell(image): captions for image, captions in REFERENCES.items()}
    assert evaluate(results({spell(image): said for image, said in CAPTIONS.items()}), far, "--bootstrap", 0) == plain


def test_rejected_and_canned_references_are_left_out_said_and_can_be_kept(evaluate, tmp_path, capsys):
    """As VizWiz's own scorer does; a caption of nothing but what was canned is then worth nothing."""
    canned = "Quality issues are too severe to recognize visual content"
    record = annotations({**REFERENCES, 11: []})
    record["annotations"] += [{"image_id": image, "caption": canned, "is_precanned": True} for image in (*REFERENCES, 11)]
    record["annotations"] += [{"image_id": 7, "caption": "spam", "is_rejected": True}]
    (tmp_path / "viz.json").write_text(json.dumps(record))
    (tmp_path / "canned.json").write_text(json.dumps(results(dict.fromkeys([*REFERENCES, 11], canned))))
    words = ["evaluate", str(tmp_path / "canned.json"), str(tmp_path / "viz.json"), "--bootstrap", "0"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert rows(printed.out)["BLEU-4"] == ["0.0"]
    assert rows(printed.out)["images"] == ["3"]
    assert "5 of 11 captions are left out: captions marked is_rejected or is_precanned" in printed.err
    assert "1 captions are of images whose references" in printed.err
    assert main([*words, "--keep-rejected"]) == 0
    assert rows(capsys.readouterr().out)["BLEU-4"] == ["100.0"]


def test_files_that_were_read_are_not_written_over(evaluate, tmp_path, capsys):
    for path, why in (("results.json", "read by this command"), ("annotations.json", "read by this command"), (".", "a folder")):
        with pytest.raises(SystemExit) as end:
            evaluate(None, REFERENCES, "--json", tmp_path / path)
        assert end.value.code == 2
        assert why in capsys.readouterr().err


def test_a_file_that_cannot_be_written_ends_with_one_line(evaluate, tmp_path):
    (tmp_path / "file").write_text("")
    for option in ("--json", "--save-df"):
        code, _, error = evaluate(None, REFERENCES, option, tmp_path / "file" / "below")
        assert code == 2
        assert "cannot be written" in error
        assert error.count("\n") == 1


good = results(CAPTIONS)


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"results": good}, "found an object"),
        ([], "list of results is empty"),
        ([*good, "a dog"], "[3] must be an object with `image_id` and `caption`, found a string"),
        ([*good, {"image_id": 7, "caption": "again"}], "[3].image_id is 7, which has a caption already"),
        ([*good, {"image_id": 8, "caption": "a stranger"}], "without a reference"),
        ([{"image_id": "", "caption": "a"}], "[0].image_id must be an id, a whole number or a string, found a string"),
        ([{"image_id": True, "caption": "a"}], "[0].image_id must be an id, a whole number or a string, found true or false"),
        ([{"image_id": 7, "caption": "a"}, {"image_id": "7", "caption": "b"}], "[1].image_id is '7', which has a caption already"),
        ([{"image_id": 7.5, "caption": "a"}], "[0].image_id must be an id, a whole number or a string, found a number"),
        ([{"image_id": 7, "caption": ["a", "dog"]}], "[0].caption must be a string, found a list"),
        ([{"image_id": 7, "caption": None}], "[0].caption must be a string, found nothing"),
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
    for strange in (b"[" * 100_000, b'[{"image_id": ' + b"9" * 5000 + b"}]", b'["\xff"]'):
        (tmp_path / "broken.json").write_bytes(strange)
        assert main(["evaluate", str(tmp_path / "broken.json"), str(tmp_path / "annotations.json")]) == 2
        assert "broken.json: caption results cannot be read" in capsys.readouterr().err
    assert main(["evaluate", good_file, good_file]) == 2
    assert "COCO captions format" in capsys.readouterr().err
    assert main(["evaluate", good_file, str(tmp_path / "none.json")]) == 2
    assert "none.json: caption annotations not found" in capsys.readouterr().err


@pytest.mark.parametrize(("metrics", "line"), [("blue", "'blue'"), (",", "no metric is named")])
def test_metrics_nobody_knows(evaluate, metrics, line):
    code, _, error = evaluate(None, REFERENCES, "--metrics", metrics)
    assert code == 2
    assert line in error


@pytest.mark.parametrize(
    "words",
    [
        "a b --compare c --bootstrap 0",
        "a b --compare c --bootstrap 19",
        "",
        "one.json",
        "a b c",
        "--model m a.json",
        "a b --images d",
        "a b --beam 0",
        "a b --bootstrap -1",
        "a b --results c",
    ],
)
def test_usage_mistakes_exit_with_two(words, capsys):
    with pytest.raises(SystemExit) as end:
        main(["evaluate", *words.split()])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("captioner: error: ")
    assert error.count("\n") == 1
    assert "`captioner evaluate --help`" in error


@pytest.fixture
def photos(tmp_path):
    """A folder of images, each of one grey that says which it is, and their annotations."""
    for image in REFERENCES:
        Image.new("RGB", (6, 5), (image, image, image)).save(tmp_path / f"{image}.png")
    (tmp_path / "annotations.json").write_text(json.dumps(annotations(REFERENCES)))
    return tmp_path


class Parrot:
    """Says what CAPTIONS has for the image's grey."""

    vocabulary = Vocabulary(["dog", "cat"])
    search = BeamSearch(4, alpha=0.7)

    def __init__(self):
        self.asked, self.dumb_at = [], []

    def caption(self, images, search, batch_size):
        self.asked.append((len(images), str(search), batch_size))
        if any(image.getpixel((0, 0))[0] in self.dumb_at for image in images):
            raise RuntimeError("out of memory")
        return [SimpleNamespace(text=CAPTIONS[image.getpixel((0, 0))[0]]) for image in images]


@pytest.fixture
def parrot(monkeypatch):
    from captioner.cli import predict

    bird = Parrot()
    monkeypatch.setattr(predict, "load_models", lambda models, device: bird)
    return bird


def test_a_model_captions_every_image_and_is_scored(photos, parrot, capsys):
    files = [str(photos / name) for name in ("scores.json", "said.json", "annotations.json")]
    words = ["--json", files[0], "--results", files[1], "--beam", "5", "--batch-size", "2"]
    assert main(["evaluate", "--model", "m", files[2], "--images", str(photos), *words]) == 0
    assert parrot.asked == [(2, "beam 5, alpha 0.7", 2), (1, "beam 5, alpha 0.7", 1)]
    written = json.loads(Path(files[0]).read_text())
    assert written | score(CAPTIONS, REFERENCES) == written
    assert written["search"] == "beam 5, alpha 0.7"
    assert sorted(json.loads(Path(files[1]).read_text()), key=str) == sorted(results(CAPTIONS), key=str)
    table = capsys.readouterr().out
    assert main(["evaluate", *files[1:]]) == 0
    assert capsys.readouterr().out == table


@pytest.mark.parametrize("fate", ["damaged", "absent", "not captioned"])
def test_an_image_that_fails_is_named_and_the_others_are_scored(photos, parrot, capsys, fate):
    if fate == "damaged":
        (photos / "9.png").write_bytes(b"no image")
    elif fate == "absent":
        (photos / "9.png").unlink()
    else:
        parrot.dumb_at = [9]
    files = [str(photos / name) for name in ("scores.json", "said.json", "annotations.json")]
    words = ["evaluate", "--model", "m", files[2], "--images", str(photos), "--json", files[0], "--results", files[1]]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert rows(printed.out)["images"] == ["2", "of", "3"]
    assert "9.png" in printed.err
    others = {image: CAPTIONS[image] for image in (7, 4)}
    written = json.loads(Path(files[0]).read_text())
    assert written["failed"] == [9]
    assert written | score(others, REFERENCES) == written
    assert json.loads(Path(files[1]).read_text()) == results(others)
    assert main([*words, "--partial"]) == (0 if fate == "absent" else 1)


def test_when_every_image_fails_nothing_is_scored(photos, parrot, capsys):
    for image in REFERENCES:
        (photos / f"{image}.png").write_bytes(b"no image")
    assert main(["evaluate", "--model", "m", str(photos / "annotations.json"), "--images", str(photos)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "no image could be captioned" in printed.err


def test_a_model_is_compared_with_a_file_on_the_images_that_it_captioned(photos, parrot, capsys):
    (photos / "9.png").write_bytes(b"no image")
    (photos / "other.json").write_text(json.dumps(results({**CAPTIONS, 4: "a bike"})))
    words = ["--images", str(photos), "--compare", str(photos / "other.json")]
    assert main(["evaluate", "--model", "m", str(photos / "annotations.json"), *words]) == 1
    printed = capsys.readouterr().out
    assert rows(printed)["images"] == ["2", "of", "3", "2", "of", "3"]
    assert f"A is m, B is {photos / 'other.json'}" in printed


def test_several_captions_are_drawn_or_not_asked_for(photos, parrot, capsys):
    words = ["evaluate", "--model", "m", str(photos / "annotations.json"), "--images", str(photos), "--captions", "2"]
    assert main([*words, "--search", "sample"]) == 0
    assert parrot.asked[-1][1] == "sampling 2 at temperature 1, alpha 0.7"
    assert main(words) == 2
    assert "--captions belongs to --search sample" in capsys.readouterr().err


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
