"""One's own photos with a table of captions."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.data.folder import Folder
from captioner.errors import InputError


def folder(root: Path, table: str, names: int = 0, ending: str = "csv", **options: object) -> Folder:
    root.mkdir(exist_ok=True)
    (root / f"captions.{ending}").write_text(table)
    for number in range(names):
        (root / f"{number}.jpg").touch()
    return Folder(root, **options)


def test_the_split_column_decides(tmp_path: Path) -> None:
    table = 'file_name,caption,split\n0.jpg,"A dog, running",train\n1.jpg,A cat,val\n0.jpg,Another dog,train\n2.jpg,A hen,test\n'
    splits = folder(tmp_path, table, 3).splits()
    assert {split: captions.references for split, captions in splits.items()} == {
        "train": {1: ["A dog, running", "Another dog"]},
        "val": {2: ["A cat"]},
        "test": {3: ["A hen"]},
    }


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    lines = [{"image": "0.jpg", "captions": ["A dog", "Another dog"]}, {"file_name": "1.jpg", "caption": "A cat"}]
    source = folder(tmp_path, "\n".join(map(json.dumps, lines)) + "\n\n", 2, "jsonl", val_share=0, test_share=0)
    assert source.splits()["train"].references == {1: ["A dog", "Another dog"], 2: ["A cat"]}


def test_a_table_from_a_spreadsheet_with_a_mark_and_carriage_returns_is_read(tmp_path: Path) -> None:
    source = folder(tmp_path, "\ufefffile_name, caption\r\n0.jpg, Ein süßer Hund\r\n", 1, val_share=0, test_share=0)
    assert source.splits()["train"].references == {1: ["Ein süßer Hund"]}


def table(names: list[str]) -> str:
    return "file_name,caption\n" + "".join(f"{name}.jpg,Photo {name}\n" for name in names)


def shared(root: Path, names: int, **options: object) -> dict[str, set[str]]:
    splits = folder(root, table([str(name) for name in range(names)]), names, **options).splits()
    return {split: set(captions.names) for split, captions in splits.items()}


def test_shares_are_about_right_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    once, again, other = (shared(tmp_path, 300, seed=seed, val_share=0.2, test_share=0.1) for seed in (0, 0, 1))
    assert once == again != other
    assert 40 < len(once["val"]) < 80
    assert 15 < len(once["test"]) < 45
    assert sum(map(len, once.values())) == 300


def test_an_image_stays_in_its_split_when_others_come(tmp_path: Path) -> None:
    few, many = shared(tmp_path, 100), shared(tmp_path, 150)
    assert all(names <= many[split] for split, names in few.items())


@pytest.mark.parametrize(
    ("names", "splits"), [(1, {"train"}), (2, {"train", "val"}), (3, {"train", "val", "test"}), (4, {"train", "val", "test"})]
)
def test_few_images_still_give_every_split_one(tmp_path: Path, names: int, splits: set[str]) -> None:
    for seed in range(5):
        assert set(shared(tmp_path, names, seed=seed)) == splits


WRONG = [
    ("", "first line must name the columns file_name and caption, found nothing"),
    ("a,b\n1,2\n", "first line must name the columns file_name and caption, found a, b"),
    ("file_name,caption\n", "holds no captions"),
    ("file_name,caption\n0.jpg,\n", "holds no captions; 1 are blank"),
    ("file_name,caption\n0.jpg\n1.jpg,  \n", "holds no captions; 2 are blank"),
    ("file_name,caption\n,A dog\n", "line 2: `file_name` is missing or empty"),
    ("file_name,caption\n0.jpg,A dog, running\n", "line 2: more fields than columns"),
    ('file_name,caption\n0.jpg,"A dog\n', "unexpected end of data"),
    ("file_name,caption,split\n0.jpg,A dog,trian\n", "line 2: `split` must be train, val or test, found 'trian'"),
    ("file_name,caption,split\n0.jpg,A dog,train\n0.jpg,A dog,val\n", "line 3: 0.jpg is in split val here and in train above"),
    ("file_name,caption,split\n0.jpg,A dog,train\n1.jpg,A dog,\n", "1.jpg has no split while others have"),
    ("file_name,caption,split\ngone.jpg,A dog,train\n", "1 of 1 listed images are not in .*: gone.jpg"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_what_is_wrong_is_one_line_with_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        folder(tmp_path, content, 2).splits()
    assert "captions.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}\n", "line 1: `file_name` is missing"),
        ('{"file_name": "0.jpg"', "line 1: not JSON"),
        ("\n5\n", "the first line must name the columns"),
        ('{"file_name": "0.jpg", "caption": "a"}\n5\n', "line 2: expected a JSON object"),
        ("[5]", "line 1: expected a JSON object"),
        ("[]", "holds no captions"),
        ('{"file_name": "0.jpg", "caption": 5}', "line 1: `caption` must be a string or a list of strings, found 5"),
    ],
)
def test_what_is_wrong_in_json_lines_is_one_line_too(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        folder(tmp_path, content, 1, "jsonl").splits()


words = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=5)


@given(
    st.dictionaries(
        words.map(lambda word: word.replace("/", "_") + ".jpg"), st.lists(words, min_size=1, max_size=3), min_size=1, max_size=4
    )
)
def test_what_a_csv_writer_writes_is_read(tmp_path_factory: pytest.TempPathFactory, captions: dict[str, list[str]]) -> None:
    root = tmp_path_factory.mktemp("photos")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file_name", "caption"])
    for name, said in captions.items():
        (root / name).touch()
        writer.writerows([name, caption] for caption in said)
    found = folder(root, text.getvalue(), val_share=0, test_share=0).splits()["train"]
    assert {name: found.captions_of(image) for image, name in enumerate(found.names)} == captions


def test_no_table_two_tables_and_no_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no captions found: there is none of"):
        Folder(tmp_path)
    (tmp_path / "captions.csv").touch()
    (tmp_path / "captions.jsonl").touch()
    with pytest.raises(InputError, match=r"captions\.csv and captions\.jsonl may each be the table"):
        Folder(tmp_path)
    with pytest.raises(InputError, match=r"other\.csv: table of captions not found"):
        Folder(tmp_path, "other.csv")
    with pytest.raises(InputError, match=r"data\.root is not set"):
        Folder(None)
    with pytest.raises(InputError, match="nowhere: folder not found"):
        Folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="val_share and test_share"):
        Folder(tmp_path, "captions.csv", val_share=0.6, test_share=0.5)
