import numpy as np
import pytest

from captioner.maps.colours import THEMES, find_theme, from_oklab, heat_colours, to_oklab


def test_the_scale_grows_lighter_by_even_steps():
    lightness = to_oklab(heat_colours() / 255)[:, 0]
    steps = lightness[8::8] - lightness[:-8:8]
    assert steps.min() > 0.7 * steps.mean()
    assert steps.max() < 1.3 * steps.mean()


def test_neighbours_on_the_scale_differ_about_equally():
    lab = to_oklab(heat_colours() / 255)
    steps = np.linalg.norm(lab[16::16] - lab[:-16:16], axis=1)
    assert steps.max() < 2 * steps.min()


def test_white_is_lightest_and_grey_has_no_tint():
    assert to_oklab(np.ones(3)) == pytest.approx([1, 0, 0], abs=1e-4)
    assert to_oklab(np.full(3, 0.5))[1:] == pytest.approx([0, 0], abs=1e-4)


def test_colours_come_back():
    colours = np.random.default_rng(0).random((7, 5, 3))
    assert np.allclose(from_oklab(to_oklab(colours)), colours, atol=1e-5)


@pytest.mark.parametrize("name", THEMES)
def test_letters_stand_out_from_the_background(name):
    theme = find_theme(name)
    background, text, muted = (to_oklab(np.array(colour) / 255)[0] for colour in (theme.background, theme.text, theme.muted))
    assert abs(background - text) > 0.6
    assert abs(background - muted) > 0.38


def test_an_unknown_theme_is_refused_by_name():
    with pytest.raises(ValueError, match="sepia"):
        find_theme("sepia")
