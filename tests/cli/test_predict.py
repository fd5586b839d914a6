import errno
import io
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_model import small

from captioner import saved_models
from captioner.caption import Caption
from captioner.cli import predict
from captioner.cli.inputs import image_paths, result_names
from captioner.cli.main import main
from captioner.cli.references import References
from captioner.errors import BrokenModelError, InputError
from captioner.locks import locked_folder
from captioner.maps.geometry import heat_maps
from captioner.model import Captioner
from captioner.search.beam import BeamSearch
from captioner.vocabulary import Vocabulary


def caption_of(image, words):
    alphas = np.zeros((len(words), 3, 5), np.float32)
    alphas[:, 1, 2] = 1
    numbers = {"log_prob": float("-inf"), "log_probs": [float("-inf")], "end_log_prob": 0.0, "score": -1.0}
    other = Caption(text="another", words=["another"], alphas=alphas[:1], image=image, **numbers)
    return Caption(
        text=" ".join(words),
        words=list(words),
        log_prob=-0.5 * len(words) - 0.25,
        log_probs=[-0.5] * len(words),
        end_log_prob=-0.25,
        score=-0.4,
        alphas=alphas,
        gate=np.full(len(words), 0.75, np.float32),
        box=(0.0, 0.0, float(image.width), float(image.height)),
        width=image.width,
        height=image.height,
        alternatives=[other],
        image=image,
        satisfied="unmet" not in words,
    )


class StandIn:
    """Captions an image by its width; refuses whole batches with an image 13 pixels wide, and is interrupted by one of 7."""

    vocabulary = Vocabulary(["dog", "cat", "with"])

    def __init__(self):
        self.batches = []
        self.search = BeamSearch(4, alpha=0.7)
        self.members = [self]
        self.used = None

    def set_attention_mode(self, how):
        raise InputError(f"nothing to {how}")

    def caption(self, images, search=None, batch_size=16):
        if isinstance(images, Image.Image):
            return self.caption([images], search, 1)[0]
        self.batches.append(len(images))
        self.used = search
        widths = [image.width for image in images]
        if 13 in widths:
            raise RuntimeError("an unlucky\nsize")
        if 7 in widths:
            raise KeyboardInterrupt
        return [caption_of(image, ["width", str(image.width)]) for image in images]

    def align(self, image, caption):
        return caption_of(image, caption.split())


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    stand_in = StandIn()
    monkeypatch.setattr(predict, "load_models", lambda models, device: stand_in)
    monkeypatch.setattr(predict, "default_model", lambda: predict.LATEST)
    monkeypatch.chdir(tmp_path)
    return stand_in


def draw(*names, width=20):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (width, 15), (90, 20, 200)).save(name)


def lines(folder="out"):
    return [json.loads(line) for line in (Path(folder) / "captions.jsonl").read_text(encoding="utf-8").splitlines()]


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["photos/a.jpg"], ["a"]),
        (["photos/a.jpg", "photos/b.png"], ["a", "b"]),
        (["photos/a.jpg", "photos/a.png"], ["a.jpg", "a.png"]),
        (["x/one/a.jpg", "x/two/a.jpg", "x/b.tar.jpg"], ["one/a", "two/a", "b.tar"]),
        (["x/a.jpg", "x/A.png", "x/a/b.png"], ["a.jpg", "A.png", "a/b"]),
        (["./x/a.jpg", "x/../y/a.jpg"], ["x/a", "y/a"]),
        ([], []),
        (["/a.jpg"], ["a"]),
        (["/data/photos/a.jpg", "/home/me/b.jpg"], ["a", "b"]),
        (["/data/set/cat/1.jpg", "/data/set/dog/1.jpg", "/home/me/b.jpg"], ["cat/1", "dog/1", "b"]),
        (["/data/photos/a.jpg", "/home/me/a.png"], ["photos/a", "me/a"]),
        (["/data/x/a.jpg", "/home/X/A.png", "/mnt/x_2/a.jpg"], ["x/a", "X_2/A", "x_2_2/a"]),
        (["/data/x/a.jpg", "/data/x/a.png", "/b.jpg"], ["a.jpg", "a.png", "b"]),
        (["/data/x/a.jpg", "/a.jpg"], ["x/a", "root/a"]),
    ],
)
def test_results_are_named_below_the_common_folder(paths, names):
    assert result_names(paths) == names


@given(st.sets(st.lists(st.sampled_from(["x", "y", "x_2", "root", "1"]), min_size=1, max_size=4).map(tuple), min_size=1, max_size=8))
def test_names_of_results_are_short_apart_and_lead_nowhere_else(places):
    paths = ["/" + "/".join(place) + ".jpg" for place in sorted(places)]
    names = result_names(paths)
    assert len(set(map(str.casefold, names))) == len(paths)
    assert all(not name.startswith("/") and ".." not in name.split("/") for name in names)
    assert all(len(name) <= len(path) + len("root") for name, path in zip(names, paths, strict=True))


def test_everything_the_contract_promises_is_written(stand_in, capsys):
    draw("in/a.png", "in/b.jpg", "in/c.gif")
    assert main(["predict", "in", "--out", "out", "--save", "overlay,words,arrays,gallery", "--batch-size", "2"]) == 0
    assert capsys.readouterr().out == "in/a.png\twidth 20\nin/b.jpg\twidth 20\nin/c.gif\twidth 20\n"
    assert stand_in.batches == [2, 1]
    per_image = [f"{name}{end}" for name in "abc" for end in (".npz", ".png", "/01_width.png", "/02_20.png")]
    assert files("out") == sorted([*per_image, "captions.jsonl", "index.html"])
    first = lines()[0]
    assert list(first) == [
        *(
            "image",
            "caption",
            "words",
            "log_prob",
            "log_probs",
            "end_log_prob",
            "score",
            "alternatives",
            "width",
            "height",
            "arrays",
            "overlay",
        )
    ]
    assert first["arrays"] == "a.npz"
    assert first["overlay"] == "a.png"
    assert first["alternatives"][0]["log_prob"] is None, "JSON has no infinity"
    with np.load("out/a.npz") as arrays:
        assert sorted(arrays) == ["alphas", "box", "gate", "log_probs", "words"]
        assert arrays["alphas"].dtype == np.float32
        assert arrays["alphas"].shape == (2, 3, 5)
        assert arrays["words"].tolist() == ["width", "20"]
        assert arrays["box"].tolist() == [0, 0, 20, 15]


def test_without_out_captions_are_printed_and_nothing_is_written(stand_in, capsys):
    draw("a.png")
    assert main(["predict", "a.png"]) == 0
    assert capsys.readouterr().out == "a.png\twidth 20\n"
    assert files(".") == ["a.png"]


def test_where_some_images_fail_the_others_are_captioned_and_each_failure_is_named(stand_in, capsys):
    draw("in/a.png", "in/z.png")
    draw("in/unlucky.png", width=13)
    Path("in/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    assert main(["predict", "in", "nowhere.jpg", "none*.png", "--out", "out"]) == 1
    out, err = capsys.readouterr()
    assert out.count("\t") == 2
    for name in ("in/broken.jpg", "in/unlucky.png: an unlucky size", "nowhere.jpg: there is no such file", "none*.png: nothing matches"):
        assert err.count(name) == 1
    assert [line["image"] for line in lines()] == ["in/a.png", "in/z.png"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 400000000000 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 4.00 GiB"),
    ],
)
def test_a_search_too_wide_for_the_memory_says_so_in_one_way(stand_in, error, capsys, monkeypatch):
    def caption(*_, **__):
        raise error

    draw("a.png")
    monkeypatch.setattr(type(stand_in), "caption", caption)
    assert main(["predict", "a.png"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "captioner: a.png: out of memory while it was captioned; ask for fewer beams, or fewer --captions"


def test_two_predicts_do_not_write_into_one_folder_at_the_same_time(stand_in, capsys):
    draw("a.png", "b.png")
    assert main(["predict", "a.png", "--out", "out"]) == 0
    before = files("out")
    with locked_folder(Path("out"), "the first"):
        assert main(["predict", "b.png", "--out", "out"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"captioner: error: --out out: process {os.getpid()} on ")
    assert files("out") == before
    assert [found["image"] for found in lines()] == ["a.png"]
    assert main(["predict", "b.png", "--out", "out"]) == 0
    assert [found["image"] for found in lines()] == ["b.png"]


def test_a_disk_that_fills_up_ends_predict_in_one_line_and_keeps_the_captions_before(stand_in, monkeypatch, capsys):
    draw("in/a.png", "in/b.png", "in/c.png")
    written = []

    def save(file, **_):
        written.append(file)
        if len(written) == 2:
            Path(file).write_bytes(b"cut sho")
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", save)
    assert main(["predict", "in", "--out", "out", "--save", "arrays"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert sum("error" in line for line in error) == 1
    assert "captioner: error: out/b.npz: cannot be written, for the disk of out is full" in error[-1]
    assert files("out") == ["a.npz", "captions.jsonl"]
    assert [found["image"] for found in lines()] == ["in/a.png"]


def test_what_was_written_before_an_interruption_stays(stand_in):
    draw("in/a.png", "in/b.png")
    draw("in/c.png", width=7)
    assert main(["predict", "in", "--out", "out", "--batch-size", "1"]) == 130
    assert [line["image"] for line in lines()] == ["in/a.png", "in/b.png"]
    assert {"a.png", "b.npz", "index.html"} <= set(files("out"))
    assert not [name for name in files("out") if name.startswith(".")]


def test_a_sentence_of_the_user_is_aligned(stand_in, capsys):
    draw("a.png")
    assert main(["predict", "a.png", "--caption", "a dog runs", "--out", "out", "--save", "none"]) == 0
    assert capsys.readouterr().out == "a.png\ta dog runs\n"
    assert files("out") == ["captions.jsonl"]
    assert lines()[0]["overlay"] is None


def test_annotations_give_ids_and_references(stand_in, capsys):
    draw("in/one/a.png", "in/two/a.png", "in/c.png")
    images = [{"id": 5, "file_name": "two/a.png"}, {"id": 7, "file_name": "one/a.png"}]
    Path("captions.json").write_text(json.dumps({"images": images, "annotations": [{"image_id": 7, "caption": " A wide thing. "}]}))
    assert main(["predict", "in", "--recursive", "--annotations", "captions.json", "--out", "out"]) == 1
    assert "in/c.png: captioned, but" in capsys.readouterr().err
    assert json.loads(Path("out/results.json").read_text()) == [
        {"image_id": 7, "caption": "width 20"},
        {"image_id": 5, "caption": "width 20"},
    ]
    assert len(lines()) == 3
    assert "A wide thing." in Path("out/index.html").read_text()


def annotated(*listed):
    images = [{"id": image, "file_name": name} for image, name in listed]
    Path("captions.json").write_text(json.dumps({"images": images, "annotations": []}))
    return main(["predict", "in", "--recursive", "--annotations", "captions.json", "--out", "out", "--save", "none"])


def result_ids():
    """image_id by image, as results.json has them."""
    ids = [entry["image_id"] for entry in json.loads(Path("out/results.json").read_text())]
    return ids


def test_a_photo_never_gets_the_id_of_another_folder_s_photo_of_the_same_name(stand_in, capsys):
    draw("in/cam1/0001.png", "in/cam2/0001.png")
    assert annotated((7, "cam1/0001.png")) == 1
    assert result_ids() == [7]
    error = capsys.readouterr().err
    assert "in/cam2/0001.png: captioned, but --annotations lists 'cam1/0001.png', which is not the end of this path" in error


def test_a_name_that_fits_two_photos_gives_neither_an_id_and_names_both(stand_in, capsys):
    draw("in/cam1/0001.png", "in/cam2/0001.png", "in/b.png")
    assert annotated((7, "0001.png"), (8, "b.png")) == 1
    assert result_ids() == [8]
    error = capsys.readouterr().err
    assert "in/cam1/0001.png: captioned, but --annotations lists '0001.png', which may be this file or in/cam2/0001.png" in error
    assert "in/cam2/0001.png: captioned, but --annotations lists '0001.png', which may be this file or in/cam1/0001.png" in error


def test_a_photo_that_the_file_lists_twice_names_both(stand_in, capsys):
    draw("in/a.png")
    assert annotated((7, "a.png"), (8, "./a.png")) == 1
    assert result_ids() == []
    assert "--annotations lists both 'a.png' (id 7) and './a.png' (id 8) for it" in capsys.readouterr().err


def test_results_give_ids_back_as_the_file_has_them_and_names_may_be_spelt_otherwise(stand_in):
    draw("in/a.png", "in/b.png", "in/sub/c.png", "in/caf\u00e9.png")
    listed = [(15513034351195312651, "a.png"), ("0012", "in/b.png"), (3.0, "sub\\c.png"), ("n1", "cafe\u0301.png")]
    assert annotated(*listed, (5, "c.png"), (6, "elsewhere/a.png")) == 0
    assert sorted(map(repr, result_ids())) == sorted(repr(image) for image, _ in listed)


def test_blank_and_rejected_captions_are_no_references_of_a_photo(stand_in):
    draw("in/a.png")
    said = ["a dog", " ", ("canned", "is_precanned"), ("spam", "is_rejected")]
    annotations = [{"image_id": 7, "caption": c} if isinstance(c, str) else {"image_id": "7", "caption": c[0], c[1]: True} for c in said]
    Path("captions.json").write_text(json.dumps({"images": [{"id": 7, "file_name": "a.png"}], "annotations": annotations}))
    assert References(Path("captions.json"), ["in/a.png"]).captions("in/a.png") == ["a dog"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": 3}', '{"images": [{"id": 3}]}', "{", '{"images": ["x"]}'])
def test_annotations_of_another_shape_are_refused_by_name(tmp_path, content):
    path = tmp_path / "captions.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"captions\.json"):
        References(path, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.png", "--save", "gallery"], "--out"),
        (["a.png", "--annotations", "x.json"], "--out"),
        (["a.png", "--out", "out", "--save", "overlay,movie"], "movie"),
        (["a.png", "--out", "out", "--explain", "attention,gradcan"], "'gradcan' is not among attention, gradcam"),
        (["a.png", "--explain", "attention,gradcam"], "say where with --out"),
        (["a.png", "--explain", "gradcam", "--out", "out", "--model", "m", "--model", "n"], "is of one model"),
        (["a.png", "--caption", " ."], "holds no word"),
        (["a.png", "--out", "a.png"], "must be a folder"),
        (["a.png", "--out", "a.png/below"], "cannot be written to"),
        (["a.png", "--out", "."], "would overwrite the input a.png"),
        (["a.png", "--out", "out", "--annotations", "none.json"], "none.json"),
        (["a.png", "--temperature", "2"], "--temperature belongs to --search sample"),
        (["a.png", "--search", "sample", "--beam", "2"], "--beam belongs to --search beam or --search diverse"),
        (["a.png", "--groups", "2"], "--groups belongs to --search diverse"),
        (["a.png", "--search", "diverse", "--beam", "4", "--groups", "3"], "--groups is a number that divides beams, 4, not 3"),
        (["a.png", "--search", "diverse", "--diversity", "-1"], "--diversity-penalty is a penalty"),
        (["a.png", "--search", "sample", "--temperature", "0"], "--temperature is a positive number, not 0"),
        (["a.png", "--search", "sample", "--top-p", "1.5"], "--top-p is a probability"),
        (["a.png", "--captions", "4", "--beam", "3"], "ask for --beam 4"),
        (["a.png", "--alpha", "nan"], "--alpha is the exponent of a length and finite, not nan"),
        (["a.png", "--captions", "2", "--search", "greedy"], "ask for --search beam"),
        (["a.png", "--min-length", "9", "--max-length", "8"], "--min-length is a number of words and at most max_length, 8"),
        (["a.png", "--require", "a dog"], "--require 'a dog' is not one word"),
        (["a.png", "--forbid", "."], "--forbid '.' is not one word"),
        (["a.png", "--require", "dog", "--forbid", "Dog"], "both hold 'dog'"),
        (["a.png", "--require", "zebra"], "--require: the model's vocabulary has no word 'zebra'"),
        (["a.png", "--seed", "1"], "--seed belongs to --search sample or --attention-mode sample"),
        (["a.png", "--attention-mode", "argmax"], "--attention-mode argmax: nothing to argmax"),
    ],
)
def test_a_usage_error_is_one_line(stand_in, capsys, arguments, message):
    draw("a.png")
    before = Path("a.png").read_bytes()
    assert main(["predict", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err
    assert Path("a.png").read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.png", "--beam", "0"],
        ["a.png", "--batch-size", "few"],
        ["a.png", "--mdoel", "x"],
        ["a.png", "--top-p", "most"],
        ["a.png", "--search", "wide"],
        ["a.png", "--no-repeat", "-1"],
    ],
)
def test_errors_of_the_parser_are_one_line_and_exit_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        predict.main(arguments)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_search_is_the_model_s_and_a_line_describes_it(stand_in, capsys):
    draw("a.png")
    assert main(["predict", "a.png"]) == 0
    assert stand_in.used.settings() == stand_in.search.settings()
    assert capsys.readouterr().err == "captioner: captions are found by beam 4, alpha 0.7\n"
    assert main(["predict", "a.png", "--beam", "5", "--require", "Dog"]) == 0
    assert (stand_in.used.beams, stand_in.used.alpha, stand_in.used.constraints.require) == (5, 0.7, (4,)), "words are ids by now"
    assert capsys.readouterr().err == "captioner: captions are found by beam 5, alpha 0.7, require dog\n"


def test_models_trained_with_different_searches_caption_by_the_first_s_search_and_a_line_says_so(stand_in, capsys):
    draw("a.png")
    stand_in.members = [SimpleNamespace(search=search) for search in (stand_in.search, BeamSearch(4, alpha=0.7), BeamSearch(1))]
    models = [word for name in ("one", "two", "three") for word in ("--model", name)]
    assert main(["predict", "a.png", *models]) == 0
    assert stand_in.used.settings() == stand_in.search.settings()
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("the models were trained with different searches; that of one is used, not three by greedy")
    assert second.endswith("captions are found by beam 4, alpha 0.7")


def test_a_sentence_of_the_user_needs_no_search(stand_in, capsys):
    draw("a.png")
    assert main(["predict", "a.png", "--caption", "a dog", "--beam", "2"]) == 2
    assert "--beam finds captions, but --caption gives the words" in capsys.readouterr().err
    assert main(["predict", "a.png", "--caption", "a dog"]) == 0
    assert capsys.readouterr().err == ""


def test_captions_prints_so_many_lines_each_with_its_log_probability(stand_in, capsys):
    draw("a.png")
    assert main(["predict", "a.png", "--captions", "2", "--out", "out", "--save", "none"]) == 0
    assert capsys.readouterr().out == "a.png\twidth 20\t-1.250\na.png\tanother\t-inf\n"
    assert len(lines()[0]["alternatives"]) == 1
    assert main(["predict", "a.png", "--captions", "1", "--out", "out", "--save", "none"]) == 0
    assert capsys.readouterr().out == "a.png\twidth 20\t-1.250\n"
    assert lines()[0]["alternatives"] == []


def test_a_caption_that_does_not_meet_the_constraints_is_printed_and_marked(stand_in, capsys):
    draw("a.png", "b.png")
    stand_in.caption = lambda images, search, batch_size: [caption_of(image, ["un" * (n == 1) + "met"]) for n, image in enumerate(images)]
    assert main(["predict", "a.png", "b.png", "--out", "out", "--save", "none"]) == 0
    out, err = capsys.readouterr()
    assert out == "a.png\tmet\nb.png\tunmet\n"
    assert "b.png: no caption was found that meets every constraint" in err
    assert "a.png" not in err
    assert [line.get("satisfied") for line in lines()] == [None, False]


def test_the_model_is_the_newest_one_of_this_folder_and_else_the_one_in_the_package(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(saved_models, "PRETRAINED", tmp_path / "package")
    draw("a.png")
    small().save(tmp_path / "package" / "birds")
    assert main(["predict", "a.png"]) == 0
    out, err = capsys.readouterr()
    assert "the model is birds, which comes with the package" in err
    assert main(["predict", "a.png", "--model", "birds"]) == 0
    assert capsys.readouterr().out == out
    trained = small(seed=5)
    trained.save(tmp_path / "outputs" / "latest" / "model")
    assert main(["predict", "a.png"]) == 0
    assert "the model is outputs/latest" in capsys.readouterr().err
    trained.save(tmp_path / "birds")
    assert Captioner.load("birds").decoder.output.bias.equal(trained.decoder.output.bias)


def test_without_a_model_one_line_says_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(saved_models, "PRETRAINED", tmp_path / "none")
    draw("a.png")
    assert main(["predict", "a.png"]) == 2
    assert "outputs/latest: no trained model here" in capsys.readouterr().err
    Path("outputs").mkdir()
    wrong = {"nowhere": "there is no such folder", "outputs": "give a run's folder, or its model/", "a.png": "this is a file"}
    for model, message in wrong.items():
        assert main(["predict", "a.png", "--model", model]) == 2
        error = capsys.readouterr().err
        assert f"error: {model}: " in error
        assert message in error
    assert main(["predict", "a.png", "--model", "nowhere", "--device", "warp"]) == 2
    assert "--device warp" in capsys.readouterr().err


def test_folders_globs_and_lists_become_paths_in_the_order_of_the_command_line_each_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    draw("in/b.png", "in/a.JPG.png", "in/below/c.png", "in/.hidden.png", "in/out/a.png", "x.png")
    Path("in/notes.txt").write_text("none")
    listed = io.StringIO("x.png\n\nin/b.png\n")
    assert image_paths(["in", "-"], listed, False, None)[:2] == (["in/a.JPG.png", "in/b.png", "x.png"], [])
    assert image_paths(["in"], [], True, Path("in/out")).paths == ["in/a.JPG.png", "in/b.png", "in/below/c.png"]
    assert image_paths(["in/*", "./in/b.png"], [], False, None)[0] == ["in/a.JPG.png", "in/b.png", "in/notes.txt"]
    assert image_paths(["in/**/c.png"], [], False, None)[0] == ["in/below/c.png"]
    Path("empty/below").mkdir(parents=True)
    assert image_paths(["empty"], [], False, None) == (
        [],
        ["empty: no images in this folder"],
        ["empty: left out 1 folder (--recursive looks below)"],
    )


def test_an_empty_list_on_standard_input_is_reported():
    assert image_paths(["-"], ["\n"], False, None) == ([], ["-: standard input lists no file"], [])


def test_a_name_with_brackets_is_a_file_where_it_exists(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    draw("a[1].png")
    assert image_paths(["a[1].png"], [], False, None) == (["a[1].png"], [], [])


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no UTF-8 exist on Linux only")
def test_file_names_that_are_no_utf_8_are_captioned_too(stand_in):
    name = os.fsdecode(b"in/\xff.png")
    draw(name)
    assert main(["predict", "in", "--out", "out"]) == 0
    assert lines()[0]["image"] == name


def test_heads_matrix_and_animation_are_pictures_beside_the_sheet(stand_in, tmp_path, monkeypatch, caplog):
    Image.new("RGB", (40, 24), "teal").save("a.png")
    assert predict.main(["a.png", "--out", "one", "--save", "heads,matrix,animation"]) == 0
    assert {path.name for path in Path("one").iterdir()} == {"a_matrix.png", "a.gif", "captions.jsonl"}
    assert caplog.text.count("attention has one head here") == 1
    plain = stand_in.caption

    def with_heads(images, search=None, batch_size=16):
        captions = plain(images, search, batch_size)
        for caption in captions:
            caption.head_alphas = np.stack([caption.alphas, caption.alphas[:, ::-1]], 1)
        return captions

    monkeypatch.setattr(stand_in, "caption", with_heads)
    assert predict.main(["a.png", "--out", "two", "--save", "heads,matrix,animation"]) == 0
    assert {path.name for path in Path("two").iterdir()} == {"a_heads.png", "a_matrix.png", "a.gif", "captions.jsonl"}
    with Image.open("two/a.gif") as animation:
        assert animation.n_frames == 3, "the photo and two words"
    for name in ("a_heads.png", "a_matrix.png"):
        with Image.open(Path("two") / name) as picture:
            assert min(picture.size) > 60
    Image.new("RGB", (40, 24)).save("a_matrix.png")
    assert main(["predict", "a.png", "a_matrix.png", "--out", "three", "--save", "overlay,matrix"]) == 2


def test_the_heat_panels_of_an_image_are_computed_once_for_each_size_that_is_drawn(stand_in, monkeypatch):
    """Sheet and heads have sizes of their own; of a photo of 480 pixels, word images and animation have the same."""
    computed, plain = Counter(), stand_in.caption

    def counted(alphas, box, size):
        computed[size] += len(alphas)
        return heat_maps(alphas, box, size)

    def with_heads(images, search=None, batch_size=16):
        return [replace(one, head_alphas=np.stack([one.alphas] * 3, 1)) for one in plain(images, search, batch_size)]

    monkeypatch.setattr("captioner.maps.panels.heat_maps", counted)
    monkeypatch.setattr(stand_in, "caption", with_heads)
    Image.new("RGB", (480, 360), "teal").save("a.png")
    assert main(["predict", "a.png", "--out", "out", "--save", "overlay,words,heads,animation,matrix,gallery"]) == 0
    assert files("out") == [
        "a.gif",
        "a.png",
        "a/01_width.png",
        "a/02_480.png",
        "a_heads.png",
        "a_matrix.png",
        "captions.jsonl",
        "index.html",
    ]
    words, heads = 2, 3
    assert computed == {(240, 180): words, (480, 360): words, (132, 99): words * (heads + 1)}


def test_a_broken_model_ends_predict_in_one_line_and_no_image_is_blamed(stand_in, monkeypatch, capsys):
    def broken(*_, **__):
        raise BrokenModelError("its log-probabilities are not finite")

    monkeypatch.setattr(stand_in, "caption", broken)
    draw("a.png", "b.png")
    assert main(["predict", "a.png", "b.png", "--model", "mine"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "captioner: error: mine: its log-probabilities are not finite"
