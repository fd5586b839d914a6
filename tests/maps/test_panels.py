"""Heat panels: the photo under each map, computed once for each size."""

import numpy as np
from PIL import Image

from captioner.caption import WordMaps
from captioner.maps.panels import GROUP_PIXELS, HeatPanels, colour_steps, heat_panels


def one_hot(words, rows, cols, row, col):
    alphas = np.zeros((words, rows, cols), np.float32)
    alphas[:, row, col] = 1
    return alphas


def test_the_hot_cell_is_the_warmest_and_the_margins_are_grey():
    image = Image.new("RGB", (150, 100), (90, 140, 200))
    panel = np.asarray(heat_panels(image, one_hot(1, 5, 5, 1, 3), (25.0, 0.0, 125.0, 100.0))[0], int)
    warmth = panel[..., 0] - panel[..., 2]
    row, col = np.unravel_index(warmth.argmax(), warmth.shape)
    assert abs(row - 30) < 12
    assert abs(col - 95) < 12
    margins = np.concatenate([panel[:, :25], panel[:, 125:]], axis=1)
    assert np.ptp(margins, axis=-1).max() <= 8
    assert np.ptp(panel[:, 26:124], axis=-1).min() > 8


def test_a_uniform_map_does_not_shine_and_each_word_has_its_own_scale():
    uniform, sharp = np.full((1, 4, 5), 1 / 20), one_hot(1, 4, 5, 2, 2)
    alphas = np.concatenate([uniform, sharp, sharp / 3]).astype(np.float32)
    steps = colour_steps(alphas, 4 * 5)
    assert set(np.unique(steps[0])) == {64}
    assert steps[1].max() == steps[2].max() == 255


def test_panels_do_not_depend_on_how_many_maps_are_interpolated_at_a_time():
    photo = Image.effect_noise((300, 200), 80).convert("RGB")
    alphas = np.random.default_rng(0).dirichlet(np.ones(15), 7).reshape(7, 3, 5).astype(np.float32)
    assert 1 < GROUP_PIXELS // (300 * 200) < 7
    box = (20.0, 0.0, 280.0, 200.0)
    alone = [heat_panels(photo, alphas[number : number + 1], box)[0] for number in range(7)]
    assert [panel.tobytes() for panel in heat_panels(photo, alphas, box)] == [panel.tobytes() for panel in alone]


def test_a_size_is_computed_once_and_begins_with_the_photo():
    photo = Image.effect_noise((90, 60), 80).convert("RGB")
    panels = HeatPanels(WordMaps(photo, ["a", "b"], one_hot(2, 3, 5, 1, 2), (0.0, 0.0, 90.0, 60.0)))
    first = panels.at((90, 60))
    assert first is panels.at((90, 60))
    assert first is panels.at((90, 60), enlarge=Image.Resampling.LANCZOS), "nothing is enlarged"
    assert panels.at((180, 120)) is not panels.at((180, 120), enlarge=Image.Resampling.LANCZOS)
    assert panels.at((90, 60), theme="dark") is not first
    assert [picture.size for picture in panels.at((45, 30))] == [(45, 30)] * 3
    assert first[0].tobytes() == photo.tobytes()
