import base64
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from captioner.caption import Caption
from captioner.maps import gallery
from captioner.maps.gallery import Entry, Gallery, json_for_script, map_record, write_gallery

NASTY = [
    "</script><script>document.title='broken'</script>",
    '"><img',
    "src=x",
    "onerror=alert(1)>",
    "<!--",
    "<<data>>",
    "&amp;",
    "\u2028",
    "\\",
    "\udcff",
]


def caption(words=("a", "red", "square"), **changes):
    alphas = np.zeros((len(words), 3, 5), np.float32)
    for number in range(len(words)):
        alphas[number, number % 3, number % 5] = 1
    fields = {
        "text": " ".join(words),
        "words": list(words),
        "log_prob": -1.0,
        "log_probs": [math.log(0.5)] * len(words),
        "end_log_prob": -0.5,
        "score": -0.5,
        "alphas": alphas,
        "box": (10.0, 0.0, 50.0, 40.0),
        "width": 60,
        "height": 40,
        "image": Image.new("RGB", (60, 40), (10, 200, 30)),
    }
    return Caption(**{**fields, **changes})


def entry(words=("a", "red", "square"), path="photos/a.png", references=(), scores=None, **changes):
    return Entry(path, caption(words, **changes), references=references, scores=scores or {})


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the text of scripts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.scripts, self._inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag == "script"

    def handle_endtag(self, tag):
        self._inside = False

    def handle_data(self, data):
        if self._inside:
            self.scripts.append(data)

    @property
    def data(self):
        return json.loads(self.scripts[1])


def read(path):
    return Page(path.read_text(encoding="utf-8"))


def test_captions_are_text_whatever_they_hold(tmp_path):
    plain = read(write_gallery(tmp_path / "plain", [entry()]))
    text = " ".join(NASTY)
    nasty = entry(NASTY, text, references=NASTY, alternatives=[caption(NASTY)], scores={text: 1.0})
    page = read(write_gallery(tmp_path / "nasty", [nasty], "plain"))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.data["entries"][0]["words"] == NASTY
    assert page.data["entries"][0]["references"] == NASTY
    title = read(write_gallery(tmp_path / "title", [], "</title><b>"))
    assert "b" not in [tag for tag, _ in title.elements]


def test_nothing_is_fetched_from_elsewhere(tmp_path):
    path = write_gallery(tmp_path, [entry()])
    page = read(path)
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href") and value]
    assert all(link.startswith("data:image/") for link in links)
    assert not re.search(r"https?:|fetch\(|XMLHttp|@import|url\(", path.read_text(encoding="utf-8"))
    assert list(tmp_path.iterdir()) == [path]


def test_maps_come_back_to_a_255th_of_their_peak():
    alphas = np.random.default_rng(0).random((3, 5, 7)).astype(np.float32)
    record = map_record("attention", alphas, 3)
    steps = np.frombuffer(base64.b64decode(record["data"]), np.uint8).reshape(3, record["rows"], record["cols"])
    back = steps / 255 * np.array(record["peaks"])[:, None, None]
    assert np.abs(back - alphas).max() < 0.003


def test_a_wrong_number_of_maps_or_probabilities_is_refused():
    with pytest.raises(ValueError, match="3 maps for 2 words"):
        map_record("attention", np.zeros((3, 5, 7)), 2)
    with pytest.raises(ValueError, match="probabilities hold 1 entries for 3 words"):
        gallery.entry_record(entry(log_probs=[-0.5]))


def test_numbers_that_are_none_become_null_and_the_json_stays_json():
    record = gallery.entry_record(entry(log_probs=[float("nan"), 0.0, float("inf")]))
    assert record["sure"] == [None, 1.0, None]
    assert json.loads(json_for_script({"x": NASTY})) == {"x": NASTY}
    assert not re.search("[<>&\u2028]", json_for_script(NASTY))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
def test_beyond_the_limit_pictures_and_maps_lie_beside_the_page(tmp_path, monkeypatch, count):
    monkeypatch.setattr(gallery, "INLINE", 3)
    page = read(write_gallery(tmp_path, (entry(path=f"{number}.png") for number in range(count))))
    beside = sorted(path.name for path in (tmp_path / "index_files").glob("*")) if (tmp_path / "index_files").exists() else []
    assert sum(tag == "button" and "card" in attributes.get("class", "") for tag, attributes in page.elements) == count
    if count <= 3:
        assert len(page.data["entries"]) == count
        assert not beside
        return
    assert page.data["entries"] == []
    assert beside == sorted(f"{stem}.{kind}" for stem in page.data["files"] for kind in ("js", "png"))
    for number, stem in enumerate(page.data["files"]):
        call = re.fullmatch(r"captionerEntry\((\d+),(.*)\);\n", (tmp_path / "index_files" / f"{stem}.js").read_text())
        assert int(call[1]) == number
        loaded = json.loads(call[2])
        assert loaded["path"] == f"{number}.png"
        assert (tmp_path / loaded["src"]).is_file()


def test_the_page_can_be_written_again_as_more_comes(tmp_path):
    growing = Gallery(tmp_path)
    for number in (1, 2):
        growing.add(entry())
        assert len(read(growing.write()).data["entries"]) == number


@pytest.mark.parametrize(("size", "expected"), [((30, 20), (30, 20)), ((20, 100), (20, 40)), ((301, 10), (20, 10)), ((1, 1), (1, 1))])
def test_a_thumbnail_shows_the_middle_of_a_very_long_picture(size, expected):
    picture = Image.linear_gradient("L").resize(size)
    trimmed = gallery.crop_to_thumbnail(picture)
    assert trimmed.size == expected
    assert abs(np.asarray(trimmed).mean() - np.asarray(picture).mean()) < 2


def test_an_alternative_has_maps_and_numbers_as_the_caption_itself():
    words = ["one", "two"]
    other = caption(words, log_probs=[math.log(0.5), math.log(0.25)])
    only_text = caption(["three"], alphas=np.zeros((0, 3, 5)))
    record = gallery.entry_record(entry(words, alternatives=[other, only_text]))
    assert record["alternatives"][0]["sure"] == [0.5, 0.25]
    assert record["alternatives"][0]["maps"][0]["rows"] == 3
    expected = {"caption": "three", "direction": "ltr", "words": ["three"], "note": "log p \u22121.00", "maps": [], "sure": [0.5]}
    assert record["alternatives"][1] == expected
    with pytest.raises(ValueError, match="2 maps for 1 words"):
        gallery.entry_record(entry(words, alternatives=[replace(other, words=["one"], log_probs=[-1.0])]))
