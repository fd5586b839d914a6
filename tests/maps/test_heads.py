"""The sheet of heads: one row per word, one column per head."""

import numpy as np
import pytest
from PIL import Image

from captioner.caption import WordMaps
from captioner.maps.heads import head_sheet


@pytest.mark.parametrize("size", [(200, 1000), (4000, 300), (31, 47)])
@pytest.mark.parametrize("heads", [1, 8])
def test_a_sheet_of_heads_has_one_row_per_word_and_one_column_per_head_and_for_the_mean(size, heads):
    alphas = np.random.default_rng(0).dirichlet(np.ones(35), (3, heads)).reshape(3, heads, 5, 7)
    box = (0.0, 0.0, float(size[0]), float(size[1]))
    photo = Image.new("RGB", size, (90, 20, 200))
    one = head_sheet(WordMaps(photo, ["a", "b", "c"], alphas.mean(1), box, [0.1, 0.2, 0.3], heads=alphas))
    less = head_sheet(WordMaps(photo, ["a", "b"], alphas[:2].mean(1), box, heads=alphas[:2]))
    wider = head_sheet(WordMaps(photo, ["a", "b", "c"], alphas.mean(1), box, heads=np.concatenate([alphas, alphas], 1)))
    assert one.width < wider.width
    assert less.height < one.height
    if heads == 1:
        page = np.asarray(one)
        panel = max(round(size[0] * 132 / max(size)), 64) + 8
        end = one.width - 24
        mean, head = page[-60:-24, end - 2 * panel + 8 : end - panel + 8], page[-60:-24, end - panel + 8 : end + 8]
        assert np.array_equal(mean[:, : panel - 8], head[:, : panel - 8]), "the mean of one head is that head"


@pytest.mark.parametrize("heads", [None, np.zeros((2, 0, 3, 5), np.float32)])
def test_maps_without_heads_are_refused(heads):
    maps = WordMaps(Image.new("RGB", (9, 7)), ["a", "b"], np.zeros((2, 3, 5), np.float32), (0.0, 0.0, 9.0, 7.0), heads=heads)
    with pytest.raises(ValueError, match="maps have no heads"):
        head_sheet(maps)
