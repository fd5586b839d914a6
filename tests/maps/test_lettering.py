"""Letters of every script: in their own direction, from a font that holds them where this machine has one."""

import logging

import numpy as np
import pytest
from PIL import Image, ImageFont

from captioner.caption import WordMaps
from captioner.maps import lettering
from captioner.maps.animation import _place_words, frames
from captioner.maps.lettering import direction, order_letters, width_of
from captioner.maps.matrix import alignment_matrix
from captioner.maps.sheet import _layout, contact_sheet, file_name_part

ARABIC, HEBREW = ("كلب", "يجري", "على", "العشب"), ("כלב", "רץ", "על", "הדשא")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog", "ltr"),
        ("كلب يجري", "rtl"),
        ("שני כלבים", "rtl"),
        ("2 كلب", "rtl"),
        ("iPhone على", "ltr"),
        ("قطة iPhone", "rtl"),
        ("一只狗", "ltr"),
        ("", "ltr"),
        ("12 .", "ltr"),
    ],
)
def test_the_first_letter_that_has_a_direction_decides(text, expected):
    assert direction(text) == expected


@pytest.mark.parametrize("words", [ARABIC, HEBREW])
def test_panels_of_a_caption_from_right_to_left_are_read_from_right_to_left(words):
    layout = _layout((240, 160), 4, "", 240, (), mirrored=True)
    usual = _layout((240, 160), 4, "", 240, ())
    assert layout.columns > 1
    for number in range(5):
        left, top = usual.corner(number)
        assert layout.corner(number) == (layout.size[0] - left - layout.cell[0], top)
    image = Image.new("RGB", (240, 160), (10, 200, 30))
    alphas = np.zeros((4, 2, 3), np.float32)
    alphas[:, 0, 0] = 1
    sheet = contact_sheet(WordMaps(image, words, alphas, (0.0, 0.0, 240.0, 160.0)), title="")
    shown = _layout((240, 160), 4, "", 240, (), mirrored=True)
    colours = [sheet.getpixel((left + 120, top + 140)) for left, top in map(shown.corner, range(5))]
    assert colours[0] == (10, 200, 30), "the photo is at the upper right"
    assert all(colour != colours[0] for colour in colours[1:])
    left, top = shown.corner(1)
    warmth = np.asarray(sheet, int)[top : top + 160, left : left + 240] @ [1, 0, -1]
    assert warmth[:60, :60].mean() > warmth[:60, -60:].mean(), "the pictures themselves are not mirrored"


def test_words_of_an_animation_are_set_from_right_to_left():
    across = [word.across for word in _place_words(HEBREW, 20, 400)]
    assert across == sorted(across, reverse=True)
    assert across[0] + width_of(HEBREW[0], 20) == pytest.approx(400)
    assert _place_words(("a", "dog"), 20, 400)[0].across == 0
    pictures = frames(WordMaps(Image.new("RGB", (90, 60)), HEBREW, np.ones((4, 2, 3), np.float32), (0.0, 0.0, 90.0, 60.0)))
    assert len({picture.size for picture in pictures}) == 1


def test_without_raqm_a_line_from_right_to_left_is_drawn_backwards_with_its_marks_behind_their_letters():
    plain = ImageFont.load_default(12)
    assert plain.layout_engine == ImageFont.Layout.BASIC
    assert order_letters("a dog", plain) == ("a dog", {})
    assert order_letters("אבג", plain) == ("גבא", {})
    assert order_letters("שָׁלוֹם", plain)[0] == "םוֹלשָׁ"


def test_a_font_that_this_machine_has_is_found_by_its_letters_and_damaged_files_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "a.ttf").write_bytes(b"no font")
    (tmp_path / "odd.ttf").write_bytes(ImageFont.load_default(12).path.getvalue())
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "fonts").mkdir()
    for name in ("a.ttf", "odd.ttf"):
        (tmp_path / name).rename(tmp_path / "fonts" / name)
    fonts = lettering.system_fonts.__wrapped__()
    assert [path.rpartition("/")[2] for path in fonts][:2] == ["a.ttf", "odd.ttf"]
    monkeypatch.setattr(lettering, "system_fonts", lambda: fonts)
    assert lettering._font_with.__wrapped__("Z") == fonts[1]
    assert lettering._font_with.__wrapped__("𐀀") is None


def test_letters_that_no_font_holds_are_warned_of_once_for_each_script(monkeypatch, caplog):
    monkeypatch.setattr(lettering, "FALLBACKS", ())
    monkeypatch.setattr(lettering, "system_fonts", lambda: ())
    for cached in (lettering._font, lettering._font_with, lettering._warn_of_missing_script):
        cached.cache_clear()
    with caplog.at_level(logging.WARNING, "captioner"):
        for word in ("𐀀𐀁", "𐀂", "𐀃 a", "ꔀ"):
            width_of(word, 20)
    for cached in (lettering._font, lettering._font_with, lettering._warn_of_missing_script):
        cached.cache_clear()
    assert ["LINEAR" in record.message for record in caplog.records] == [True, False]
    assert "VAI" in caplog.records[1].message


def test_file_names_keep_letters_with_their_marks():
    assert [file_name_part(word) for word in ("कुत्ता", "สุนัข", "שָׁלוֹם", "a/b", "كلب")] == ["कुत्ता", "สุนัข", "שָׁלוֹם", "a-b", "كلب"]


def test_the_legend_of_a_matrix_is_not_cut_off_on_a_small_grid():
    small = alignment_matrix(WordMaps(Image.new("RGB", (30, 20)), ["a"], np.ones((1, 2, 3), np.float32), (0.0, 0.0, 30.0, 20.0)))
    last = np.asarray(small)[-40:, -24:]
    assert (last == last[0, 0]).all(), "the margin is empty"
