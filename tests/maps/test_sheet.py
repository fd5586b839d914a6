import numpy as np
import pytest
from PIL import Image

from captioner.caption import WordMaps
from captioner.maps.lettering import replace_missing_letters, shorten, width_of, wrap
from captioner.maps.sheet import _layout, contact_sheet, file_name_part, percent, word_images


def photo(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (max(height // 40, 2), max(width // 40, 2), 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height))


def one_hot(words, rows, cols, row, col):
    alphas = np.zeros((words, rows, cols), np.float32)
    alphas[:, row, col] = 1
    return alphas


@pytest.mark.parametrize("size", [(640, 427), (200, 1000), (4000, 300), (96, 96), (333, 500)])
@pytest.mark.parametrize("words", [0, 1, 3, 12, 25])
def test_every_panel_lies_on_the_sheet_and_none_on_another(size, words):
    layout = _layout(size, words, "a caption", 240, ("gate", "sentinel"))
    corners = [layout.corner(number) for number in range(words + 1)]
    assert len(set(corners)) == words + 1
    assert all(left + layout.cell[0] <= layout.size[0] and top + layout.cell[1] <= layout.size[1] for left, top in corners)
    assert layout.panel[0] / layout.panel[1] == pytest.approx(size[0] / size[1], rel=0.05)
    assert max(layout.size) <= 2400, "it fits a page"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(300, 200), (20, 100), (400, 30), (96, 96)])
def test_a_sheet_is_drawn_with_everything_and_with_nothing(theme, size):
    image, box = photo(*size), (0.0, 0.0, float(size[0]), float(size[1]))
    words = ["a", "extraordinarilylongunbrokenword", "<unk>", "", "über", "一个"]
    shares = [0.0, 1.0, 0.5, 0.001, 0.999, 0.2]
    everything = WordMaps(image, words, one_hot(6, 3, 5, 1, 2), box, shares, np.array(shares), shares)
    full = contact_sheet(everything, theme=theme, panel_width=120)
    empty = contact_sheet(WordMaps(image, [], np.zeros((0, 3, 5), np.float32), box), theme=theme, panel_width=120)
    assert full.mode == empty.mode == "RGB"
    assert full.width > empty.width


def test_the_first_panel_is_the_photo_untouched():
    image = photo(240, 160)
    sheet = np.asarray(contact_sheet(WordMaps(image, ["a"], one_hot(1, 3, 5, 1, 2), (0, 0, 240, 160))), int)
    layout = _layout((240, 160), 1, "a", 240, ())
    left, top = layout.corner(0)
    shown = sheet[top + 8 : top + 152, left + 8 : left + 232]
    assert np.array_equal(shown, np.asarray(image, int)[8:152, 8:232])


def test_there_is_one_picture_per_word_with_a_name_that_any_system_takes():
    image = photo(300, 200)
    pictures = word_images(WordMaps(image, ["a", "<unk>", "../x y", "été"], one_hot(4, 3, 5, 1, 2), (0.0, 0.0, 300.0, 200.0)))
    assert [name for name, _ in pictures] == ["01_a.png", "02_unk.png", "03_x-y.png", "04_été.png"]
    assert {picture.size for _, picture in pictures} == {(300, 200)}
    assert file_name_part("...") == file_name_part("/") == "word"
    assert len(file_name_part("x" * 300)) == 40


def test_small_pictures_grow_and_large_ones_shrink():
    alphas = one_hot(1, 3, 5, 1, 2)
    assert word_images(WordMaps(photo(96, 48), ["a"], alphas, (0, 0, 96, 48)))[0][1].size == (256, 128)
    assert word_images(WordMaps(photo(2048, 1024), ["a"], alphas, (0, 0, 2048, 1024)))[0][1].size == (1024, 512)


def test_an_unknown_theme_is_refused_by_name():
    with pytest.raises(ValueError, match="theme"):
        contact_sheet(WordMaps(photo(40, 30), ["a", "dog"], one_hot(2, 3, 5, 1, 2), (0, 0, 40, 30)), theme="x")


def test_percentages_neither_lie_nor_vanish():
    assert [percent(share) for share in (0.0, 0.004, 0.5, 0.874, 0.9999, 1.0, float("nan"))] == [
        *("<1 %", "<1 %", "50 %", "87 %", ">99 %", "100 %", "?")
    ]


def test_text_fits_its_width():
    text = "a man riding a motorcycle down a dirt road"
    assert width_of(shorten(text, 20, 150), 20) <= 150
    lines = wrap(text, 20, 150, 3)
    assert len(lines) == 3
    assert all(width_of(line, 20) <= 150 for line in lines)
    assert " ".join(wrap(text, 20, 200, 9)) == text
    assert replace_missing_letters("plain", 20) == "plain"
