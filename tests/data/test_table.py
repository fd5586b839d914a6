"""Tables of captions in every form that people have them in: each says the same, and what is wrong is one line."""

import csv
import io
import json
import logging
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.data.folder import Folder
from captioner.data.table import CAPTIONS, NAMES, SEPARATORS, read_table
from captioner.errors import InputError

SAID = {"0.jpg": ["A dog, running", "Ein süßer Hund"], "1.jpg": ["一只猫", 'He says "hello"']}


def delimited(separator: str, header: str, quote: bool = True, count: str = "") -> str:
    """A line a caption, of SAID."""
    text = io.StringIO()
    text.write(f"{header}\n" if header else "")
    style = {"quoting": csv.QUOTE_MINIMAL} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    writer = csv.writer(text, delimiter=separator, lineterminator="\n", **style)
    for name, captions in SAID.items():
        for number, caption in enumerate(captions):
            writer.writerow([f"{name}#{number}" if count == "#" else name, *([number] if count == "column" else []), caption])
    return text.getvalue()


WIDE = 'Filename,caption_0,Caption 1,caption_2\n0.jpg,"A dog, running",Ein süßer Hund,\n1.jpg,一只猫,"He says ""hello""",\n'
FLICKR30K = "image_name| comment_number| comment\n" + "".join(
    f"{name}| {number}| {caption}\n" for name, captions in SAID.items() for number, caption in enumerate(captions)
)
METADATA = "".join(json.dumps({"file_name": name, "text": caption}) + "\n" for name, captions in SAID.items() for caption in captions)
LISTS = [["raw", "split", "filename"], *([json.dumps(captions, ensure_ascii=False), "train", name] for name, captions in SAID.items())]
FORMS = {
    "kaggle": ("captions.txt", delimited(",", "image,caption").encode()),
    "plain": ("captions.csv", delimited(",", "file_name,caption").encode()),
    "semicolons": ("captions.csv", delimited(";", "Image;Caption").encode()),
    "tabs": ("captions.tsv", delimited("\t", "File Name\tText").encode()),
    "tabs, quotes as letters": ("captions.tsv", delimited("\t", "path\tdescription", quote=False).encode()),
    "flickr8k": ("Flickr8k.token.txt", delimited("\t", "", quote=False, count="#").encode()),
    "flickr30k": ("results.csv", FLICKR30K.encode()),
    "no header": ("captions.csv", delimited(",", "").encode()),
    "no header, bars": ("captions.txt", delimited("|", "").encode()),
    "utf-8 with a mark": ("captions.csv", delimited(",", "IMG,SENTENCE").encode("utf-8-sig")),
    "utf-16 with a mark": ("captions.csv", delimited("\t", "image\tcaption").encode("utf-16")),
    "utf-16, little end first": ("captions.txt", delimited(",", "image,caption").encode("utf-16-le")),
    "utf-16, big end first": ("captions.txt", delimited(",", "image,caption").encode("utf-16-be")),
    "carriage returns": ("captions.csv", delimited(",", "image,caption").replace("\n", "\r\n").encode()),
    "carriage returns alone": ("captions.csv", delimited(",", "image,caption").replace("\n", "\r").encode()),
    "a column a caption": ("captions.csv", WIDE.encode()),
    "columns of one name": ("captions.csv", WIDE.replace("caption_0,Caption 1,caption_2", "caption,caption,caption").encode()),
    "lists in cells": ("captions.csv", "\n".join(",".join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in row) for row in LISTS).encode()),
    "hugging face": ("metadata.jsonl", METADATA.encode()),
    "json list": ("captions.json", json.dumps([{"image": name, "captions": captions} for name, captions in SAID.items()]).encode()),
    "json object by name": ("captions.json", json.dumps(SAID, indent=1).encode()),
    "sentences": (
        "captions.jsonl",
        "\n".join(json.dumps({"img": n, "sentences": [{"raw": c} for c in s]}) for n, s in SAID.items()).encode(),
    ),
}


def photos(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def captions_in(root: Path, table: str | None = None) -> dict[str, list[str]]:
    found = Folder(root, table, val_share=0, test_share=0).splits()["train"]
    return {name: found.captions_of(image) for image, name in enumerate(found.names)}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_is_found_and_says_the_same_in_one_logged_line(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, content = FORMS[form]
    (photos(tmp_path, "0.jpg", "1.jpg") / name).write_bytes(content)
    with caplog.at_level(logging.INFO):
        assert captions_in(tmp_path) == SAID
    (line,) = caplog.messages
    assert f"{tmp_path / name}: 4 captions of 2 images (2 train): " in line
    assert ("UTF-16" if "utf-16" in form else "UTF-8") in line


def test_captions_in_text_files_beside_the_images_need_no_table(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    photos(tmp_path, "0.jpg", "sub/1.jpg", "without.jpg", "empty.png")
    (tmp_path / "0.txt").write_text("A dog\nTwo dogs\n\n")
    (tmp_path / "sub" / "1.txt").write_text("A cat")
    (tmp_path / "notes.txt").write_text("buy milk")
    (tmp_path / "empty.txt").write_text(" \n")
    with caplog.at_level(logging.INFO):
        assert captions_in(tmp_path) == {"0.jpg": ["A dog", "Two dogs"], "sub/1.jpg": ["A cat"]}
    assert "a .txt beside each image" in caplog.text
    assert "blank captions are left out: 1" in caplog.text


def test_blank_captions_are_left_out_counted_and_the_first_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Among them the broken row of Flickr30k's table, which lacks a bar."""
    rows = ["image_name| comment_number| comment", "0.jpg| 0| A dog", "0.jpg| 4   A dog runs", "1.jpg| 0| ", "1.jpg| 1| A cat", "2.jpg| 0|"]
    (photos(tmp_path, "0.jpg", "1.jpg", "2.jpg") / "results.csv").write_text("\n".join(rows))
    with caplog.at_level(logging.INFO):
        assert captions_in(tmp_path) == {"0.jpg": ["A dog"], "1.jpg": ["A cat"]}
    assert "blank captions are left out: 3, the first in line 3" in caplog.text


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        ("sub\\0.JPG", "sub/0.jpg"),
        ("0", "0.png"),
        ("12", "12.jpeg"),
        ("Photo.jpg", "photo.JPG"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        ("cafe\u0301.JPG", "caf\u00e9.jpg"),
        ("IMAGES/a.jpg", "Images/a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("a.jpg", "Images/a.jpg"),
        ("a", "Images/a.jpg"),
        ("a\\b.jpg", "a\\b.jpg"),
    ],
)
def test_names_that_are_not_spelt_as_on_the_disk_find_their_file(tmp_path: Path, listed: str, there: str) -> None:
    (photos(tmp_path, there) / "captions.jsonl").write_text(json.dumps({"file_name": listed, "caption": "A dog"}))
    assert captions_in(tmp_path) == {there: ["A dog"]}


def test_a_name_is_of_the_file_of_just_this_name_where_there_is_one(tmp_path: Path) -> None:
    (photos(tmp_path, "a.jpg", "A.jpg", "b.jpg", "b.png", "b") / "captions.csv").write_text("image,caption\na.jpg,x\nA.jpg,y\nb,z\n")
    assert captions_in(tmp_path) == {"a.jpg": ["x"], "A.jpg": ["y"], "b": ["z"]}


@pytest.mark.parametrize(("name", "files"), [("A.JPG", ["a.jpg", "A.jpg"]), ("b", ["b.jpg", "b.png"]), ("c.jpg", ["x/c.jpg", "y/c.jpg"])])
def test_a_name_that_two_files_fit_names_both(tmp_path: Path, name: str, files: list[str]) -> None:
    (photos(tmp_path, *files) / "captions.csv").write_text(f"image,caption\n{name},x\n")
    with pytest.raises(InputError, match=f"{min(files)} and {max(files)}"):
        captions_in(tmp_path)


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "..\\secret.jpg", "/etc/secret.jpg", "C:\\secret.jpg", ".."])
def test_a_name_that_leads_out_of_the_folder_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").touch()
    (photos(tmp_path / "photos", "0.jpg", "a/0.jpg") / "captions.jsonl").write_text(json.dumps({"image": name, "caption": "x"}))
    with pytest.raises(InputError, match="leads out of"):
        captions_in(tmp_path / "photos")


def test_a_whole_path_below_the_folder_is_a_name_in_it(tmp_path: Path) -> None:
    (photos(tmp_path, "sub/0.jpg") / "captions.csv").write_text(f"image,caption\n{tmp_path / 'sub' / '0.jpg'},A dog\n")
    assert captions_in(tmp_path) == {"sub/0.jpg": ["A dog"]}


def test_lines_of_one_file_under_two_spellings_are_of_one_image(tmp_path: Path) -> None:
    (photos(tmp_path, "a.jpg") / "captions.csv").write_text("image,caption\na.jpg,x\nA.JPG,y\n")
    assert captions_in(tmp_path) == {"a.jpg": ["x", "y"]}


@pytest.mark.parametrize(("spelt", "split"), [("validation", "val"), ("Dev", "val"), ("TRAINING", "train"), ("test ", "test")])
def test_splits_may_have_their_other_names(tmp_path: Path, spelt: str, split: str) -> None:
    (photos(tmp_path, "0.jpg") / "captions.csv").write_text(f"image,caption,split\n0.jpg,A dog,{spelt}\n")
    assert set(Folder(tmp_path).splits()) == {split}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,caption\n0.jpg,a\n1.jpg,caf\xe9\n", r"line 3 is neither UTF-8 nor UTF-16 text \(byte 0xe9\)"),
        (b'image,caption\n0.jpg,a\n1.jpg,"b\n2.jpg,c\n', "line 3: unexpected end of data"),
        (b'image,caption\n0.jpg,"a" b\n', "line 2: "),
        (b"image,caption\n\n0.jpg,a,b\n", "line 3: more fields than columns"),
        (b"image\tlabel\n0.jpg\tdog\n", "must name the columns file_name and caption, found image, label"),
        (b'{"images": [], "annotations": []}', "data=captions reads it"),
        (b'{"images": [], "dataset": "coco"}', "data=karpathy reads it"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "must name the columns|neither UTF-8 nor UTF-16"),
        (b"", "found nothing"),
    ],
)
def test_what_is_no_table_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (photos(tmp_path, "0.jpg") / "captions.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        captions_in(tmp_path)
    assert str(tmp_path / "captions.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60) | st.text('{}[]",;|\t\n#\\ ab0.jpgimage,caption:1', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "captions.csv"
    path.write_bytes(content)
    with suppress(InputError):  # nothing else may be raised
        assert all(row.name.strip() and all(caption.strip() for caption in row.captions) for row in read_table(path).rows)


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8).map(str.strip).filter(bool)


@given(
    st.sampled_from(sorted(SEPARATORS)),
    st.sampled_from(NAMES),
    st.sampled_from([name for name in CAPTIONS if name != "raw"]),
    st.lists(st.tuples(st.from_regex(r"[a-z0-9_]{1,8}\.jpg", fullmatch=True), cells), min_size=1, max_size=4),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]),
)
def test_what_a_writer_of_tables_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, separator: str, name: str, caption: str, rows: list[tuple[str, str]], encoding: str
) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([[name.upper(), caption.title()], *rows])
    path = tmp_path_factory.mktemp("table") / "captions.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    assert [(row.name, row.captions) for row in read_table(path).rows] == [(image, [said]) for image, said in rows]
