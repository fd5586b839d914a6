"""The alignment matrix: every weight in its place, everything readable, nothing off the page."""

import numpy as np
import pytest
from PIL import Image

from captioner.caption import WordMaps
from captioner.maps.colours import THEMES, heat_colours
from captioner.maps.matrix import MARGIN, _table, alignment_matrix, cell_steps

PHOTO = Image.effect_noise((90, 70), 80).convert("RGB")
BOX = (10.0, 0.0, 80.0, 70.0)


def one_hot(places, rows, cols):
    alphas = np.zeros((len(places), rows, cols), np.float32)
    for word, place in enumerate(places):
        alphas[word, *place] = 1
    return alphas


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("rows", "cols"), [(7, 7), (12, 12), (14, 14), (7, 12), (1, 6)])
def test_each_weight_is_a_cell_in_the_word_s_row_and_the_region_s_column(rows, cols, theme):
    words = ["a", "brown", "dog"]
    places = [(0, 0), (rows - 1, cols - 1), (rows // 2, cols // 3)]
    page = alignment_matrix(WordMaps(PHOTO, words, one_hot(places, rows, cols), BOX, [0.1, 0.5, 1.0]), theme=theme)
    table = _table(words, rows, cols, BOX)
    hot, cold = (tuple(heat_colours()[step].tolist()) for step in (255, 0))
    for word, (row, col) in enumerate(places):
        across = table.left + row * table.block + col * table.cell[0] + table.cell[0] // 2
        down = [table.top + number * table.cell[1] + table.cell[1] // 2 for number in range(len(words))]
        assert page.getpixel((across, down[word])) == hot
        assert {page.getpixel((across, down[other])) for other in range(len(words)) if other != word} == {cold}


@pytest.mark.parametrize("words", [3, 25])
@pytest.mark.parametrize("grid", [(7, 7), (12, 12), (14, 14)])
def test_a_matrix_fits_a_screen_and_its_cells_can_be_told_apart(words, grid):
    table = _table(["word"] * words, *grid, BOX)
    page = alignment_matrix(
        WordMaps(PHOTO, ["extraordinarily"] * words, np.full((words, *grid), 0.01, np.float32), BOX, sentinel=[0.3] * words)
    )
    assert table.cell[0] >= 7
    assert table.cell[1] >= 20
    assert page.width <= 1920
    assert page.height <= 1080
    corners = np.concatenate([np.asarray(page)[:, -MARGIN // 2 :].reshape(-1, 3), np.asarray(page)[:, : MARGIN // 2].reshape(-1, 3)])
    assert (corners == THEMES["light"].background).all(), "nothing runs into the border"


def test_a_uniform_map_does_not_shine():
    assert cell_steps(np.full((1, 2, 3), 1 / 6, np.float32)).max() == 64


def test_the_row_of_the_grid_that_a_block_shows_is_lit_above_it():
    photo = Image.new("RGB", (70, 70), (200, 20, 20))
    maps = WordMaps(photo, ["dog"], np.full((1, 3, 2), 0.1, np.float32), (0.0, 0.0, 70.0, 70.0))
    page = np.asarray(alignment_matrix(maps)).astype(int)
    table = _table(["dog"], 3, 2, (0.0, 0.0, 70.0, 70.0))
    for row in range(3):
        begin = table.left + row * table.block
        column = page[table.top - 6 - table.thumbnail[1] : table.top - 6, begin + table.thumbnail[0] // 2]
        red = np.flatnonzero((column == (200, 20, 20)).all(1))
        assert red.min() >= row * table.thumbnail[1] / 3
        assert red.max() <= (row + 1) * table.thumbnail[1] / 3


def test_what_cannot_be_drawn_is_refused_by_name():
    alphas = np.full((2, 3, 5), 1 / 15, np.float32)
    maps = WordMaps(PHOTO, ["a", "b"], alphas, BOX)
    with pytest.raises(ValueError, match="theme"):
        alignment_matrix(maps, theme="pink")
