"""What `predict` finds in folders: photos of every kind, each once, and a line for the rest."""

import contextlib
import os
import shutil
import socket
from pathlib import Path

import pytest
from PIL import Image
from test_predict import draw, stand_in  # noqa: F401

from captioner.cli.inputs import image_paths
from captioner.cli.main import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_is_left_out_of_a_folder_is_said_in_one_line_with_the_reason(stand_in, capsys) -> None:  # noqa: F811
    draw("in/a.JPG", "in/b.jp2", "in/c.tga", "in/d.ico", "in/e.png", "in/below/f.png", "in/.hidden.png")
    shutil.copy("in/e.png", "in/no_ending")
    for name in ("notes.txt", "more.TXT", "captions.csv", "README", "half.jpg.tmp"):
        Path("in", name).write_text("no image")
    assert main(["predict", "in"]) == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        f"in/{name}" for name in ("a.JPG", "b.jp2", "c.tga", "d.ico", "e.png", "no_ending")
    ]
    said = [line for line in err.splitlines() if "left out" in line]
    assert said == [
        "captioner: in: left out 2 .txt, 1 without an ending, 1 .csv, 1 .tmp (not images); 1 hidden; 1 folder (--recursive looks below)"
    ]
    assert main(["predict", "in", "--recursive"]) == 0
    assert "folder" not in capsys.readouterr().err


def test_photos_without_a_decoder_are_a_failure_named_in_one_line(stand_in, capsys, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr("captioner.data.images.can_read_heic", lambda: False)
    draw("in/a.png")
    for number in range(9):
        Path(f"in/{number}.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic")
    Path("in/raw.nef").write_bytes(b"II*")
    assert main(["predict", "in"]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    (line,) = (line for line in err.splitlines() if "left out" in line)
    assert '9 .heic (photos whose decoder is not installed: pip install "captioner[heif]"' in line
    assert "1 .nef (raw photos of a camera" in line


def test_many_kinds_of_other_files_are_still_one_short_line() -> None:
    draw("in/a.png")
    for ending in "abcdefghij":
        Path(f"in/x.{ending}{ending}{ending}").touch()
    (line,) = image_paths(["in"], [], False, None).left_out
    assert "5 of other kinds (not images)" in line
    assert len(line) < 120


def test_links_are_followed_once() -> None:
    draw("in/sub/a.png", "elsewhere/b.png")
    Path("in/sub/back").symlink_to("..")
    Path("in/sub/self").symlink_to(".")
    Path("in/away").symlink_to("../elsewhere")
    Path("in/again").symlink_to("../elsewhere")
    Path("in/0.png").symlink_to("sub/a.png")
    found = image_paths(["in"], [], True, None)
    assert found.paths == ["in/sub/a.png", "in/again/b.png"]
    assert found.left_out == ["in: left out 4 links to what is taken already"]
    again = image_paths(["in", "elsewhere", "in/0.png", "in/sub/../sub/a.png", "in/sub/a.png"], [], True, None)
    assert again.paths == found.paths
    assert again.left_out[1:] == [
        "elsewhere: left out what is taken already: elsewhere/b.png, which is in/again/b.png",
        "in/0.png: left out what is taken already: in/0.png, which is in/sub/a.png",
    ]


def test_a_link_loop_is_one_caption(stand_in, capsys) -> None:  # noqa: F811
    draw("sub/a.png")
    Path("sub/back").symlink_to("..")
    assert main(["predict", ".", "--recursive"]) == 0
    out, err = capsys.readouterr()
    assert out == "./sub/a.png\twidth 20\n"
    assert ".: left out 1 link to what is taken already" in err


def test_what_is_no_file_is_a_line_and_the_rest_is_captioned(stand_in, capsys) -> None:  # noqa: F811
    draw("in/a.png", "in/z.png", "in/folder.jpg/below.png")
    os.mkfifo("in/pipe.jpg")
    Path("in/zero.png").symlink_to("/dev/zero")
    Path("in/nowhere.png").symlink_to("gone.png")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("in/ear.png")
        assert main(["predict", "in", "in/*.jpg", "--batch-size", "2"]) == 1
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["in/a.png", "in/z.png"]
    told = {"pipe.jpg": "is a named pipe", "zero.png": "is a device", "ear.png": "is a socket", "nowhere.png": "image not found"}
    for name, what in told.items():
        assert err.count(f"captioner: in/{name}: {what}") == 1
    assert "1 folder (--recursive looks below)" in err


def test_results_in_the_folder_itself_are_no_inputs_and_not_spoken_of() -> None:
    draw("in/a.png", "in/out/a.png")
    assert image_paths(["in"], [], True, Path("in/out")) == (["in/a.png"], [], [])
    assert image_paths(["in"], [], False, Path("in/out")) == (["in/a.png"], [], [])


def test_photos_of_many_pixels_are_captioned_few_at_a_time(stand_in, monkeypatch) -> None:  # noqa: F811
    draw(*(f"in/{number}.png" for number in range(5)))
    monkeypatch.setattr("captioner.data.image_batches.BATCH_PIXELS", 2 * 20 * 15)
    assert main(["predict", "in"]) == 0
    assert stand_in.batches == [2, 2, 1]


def test_a_large_photo_s_results_are_in_its_own_pixels(stand_in, monkeypatch) -> None:  # noqa: F811
    """The stand-in gives the box of the picture it sees; the sheet is drawn on the smaller copy."""
    from captioner.data.images import open_image, original_size

    Image.new("RGB", (300, 200), "teal").save("a.png")
    monkeypatch.setattr("captioner.data.images.LARGE", 20000)
    image = open_image("a.png")
    assert (image.size, original_size(image)) == ((150, 100), (300, 200))
    caption = stand_in.caption(image)
    caption.width, caption.height, caption.box = 300, 200, (50.0, 0.0, 250.0, 200.0)
    assert caption.maps.box == (25.0, 0.0, 125.0, 100.0)
