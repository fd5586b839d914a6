"""Flickr30k Entities: phrases of captions, their boxes, and what is wrong with files."""

import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from captioner.data.captions import CaptionSet, read_coco_captions
from captioner.data.entities import read_entities
from captioner.errors import InputError
from captioner.tokenizer import tokenize

XML = """<annotation><size><width>50</width><height>40</height><depth>3</depth></size>
<object><name>7</name><bndbox><xmin>5</xmin><ymin>4</ymin><xmax>25</xmax><ymax>36</ymax></bndbox></object>
<object><name>7</name><name>9</name><bndbox><xmin>30</xmin><ymin>0</ymin><xmax>50</xmax><ymax>40</ymax></bndbox></object>
<object><name>8</name><scene>1</scene><nobndbox>1</nobndbox></object></annotation>"""
TEXT = """[/EN#7/people Two men] in [/EN#8/scene a field] hold [/EN#9/clothing/other a hat] .
[/EN#0/notvisual It] is [/EN#9/clothing the man 's hat] !
"""


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    for folder, name, text in (("Annotations", "12.xml", XML), ("Sentences", "12.txt", TEXT)):
        (tmp_path / "entities" / folder).mkdir(parents=True)
        (tmp_path / "entities" / folder / name).write_text(text)
    return tmp_path / "entities"


@pytest.fixture
def captions(tmp_path: Path) -> CaptionSet:
    """The photo is squashed to a square, and the last caption has another word."""
    Image.new("RGB", (20, 20)).save(tmp_path / "12_abc.png")
    of_photo = ["Two men in a field hold a hat.", "It is the man's hat!", "Two men in a meadow now hold a hat.", "Nobody here."]
    return CaptionSet(tmp_path, ["12_abc.png"], [3], [of_photo])


def test_phrases_are_those_of_their_caption_and_boxes_follow_a_photo_that_was_squashed(unpacked: Path, captions: CaptionSet) -> None:
    found = read_entities(unpacked, captions)
    key = captions.keys[0]
    boxes = [thing.box for thing in found.instances[key]]
    assert boxes == [(2.0, 2.0, 8.0, 16.0), (12.0, 0.0, 8.0, 20.0), (12.0, 0.0, 8.0, 20.0)]
    assert found.sizes[key] == (20, 20)
    first, second, third, none = (found.names(key, tokenize(caption)) for caption in captions.captions_of(0))
    assert first == [(0, 2, "people", [0, 1]), (6, 8, "clothing", [2])]
    assert second == [(2, 6, "clothing", [2])]
    assert third == [(0, 2, "people", [0, 1]), (7, 9, "clothing", [2])]
    assert none == []


def test_the_archive_and_its_unpacked_folders_say_the_same(unpacked: Path, captions: CaptionSet, tmp_path: Path) -> None:
    for base in (unpacked, unpacked.parent):  # with the folder's name before the members' names, and without
        archive = shutil.make_archive(str(tmp_path / f"packed_{base.name}"), "zip", base)
        one, other = read_entities(unpacked, captions), read_entities(Path(archive), captions)
        assert (one.instances, one.sizes) == (other.instances, other.sizes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("Annotations/12.xml", XML.replace("</annotation>", "")), r"Annotations/12\.xml: not the XML"),
        (("Annotations/12.xml", XML.replace("<xmin>5</xmin>", "")), r"Annotations/12\.xml: not the XML"),
        (("Annotations/12.xml", XML.replace("50", "0", 1)), r"Annotations/12\.xml: the photo's size is 0 x 40"),
        (("Annotations/12.xml", "<!DOCTYPE a [<!ENTITY b 'c'>]>" + XML), r"12\.xml: has a document type"),
        (("Annotations/12.xml", " " * 2**21), r"12\.xml: larger than"),
        (("Annotations/12.xml", None), "lacks the other"),
        (("Sentences/12.txt", None), "lacks the other"),
        (("Sentences/12.txt", "[/EN#7/people Two men in a field\n"), r"Sentences/12\.txt: line 1: .* runs past its caption"),
        (("Sentences/12.txt", TEXT + "a [/EN#x/people b] c\n"), r"Sentences/12\.txt: line 3: "),
    ],
)
def test_a_file_that_is_wrong_is_named(unpacked: Path, captions: CaptionSet, change: tuple[str, str | None], message: str) -> None:
    name, text = change
    (unpacked / name).unlink()
    if text is not None:
        (unpacked / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_entities(unpacked, captions)


def test_what_is_no_such_data_set_is_refused(unpacked: Path, captions: CaptionSet, tmp_path: Path) -> None:
    (tmp_path / "file.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("Annotations/99.xml", XML)
    (tmp_path / "empty").mkdir()
    wrong = {"nowhere": "there is no such file", "file.zip": "not a zip archive", "other.zip": "describes none of the 1 photos"}
    for name, message in {**wrong, "empty": "Annotations: there is no such folder"}.items():
        with pytest.raises(InputError, match=message):
            read_entities(tmp_path / name, captions)


def test_nearly_every_caption_of_flickr8k_finds_its_phrases(real_data: Path) -> None:
    flickr = real_data / "flickr8k"
    captions = read_coco_captions(flickr / "annotations" / "captions_val.json", flickr / "val").select(range(100))
    found = read_entities(real_data / "flickr30k_entities" / "annotations.zip", captions)
    phrases = [found.names(key, tokenize(text)) for index, key in enumerate(captions.keys) for text in captions.captions_of(index)]
    assert sum(map(bool, phrases)) >= 495
    assert sum(map(len, phrases)) >= 1250
