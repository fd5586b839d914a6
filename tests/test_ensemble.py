import itertools

import numpy as np
import pytest
import torch
from test_model import WORDS, config, photos, small

from captioner import Ensemble
from captioner.errors import InputError
from captioner.model import Captioner
from captioner.search.beam import BeamSearch
from captioner.search.constraints import Constraints
from captioner.search.sampling import Sampling
from captioner.vocabulary import Vocabulary


def talkative(seed, **changes):
    model = small(seed, **changes)
    with torch.no_grad():
        model.decoder.output.weight.mul_(30)
        model.decoder.output.bias[WORDS.end] = -1.0
    return model


def shuffled(model, order):
    """The same model whose vocabulary stands in another order."""
    words = [WORDS.words[4:][i] for i in order]
    other = Captioner.from_config(model.config, Vocabulary(words)).eval()
    state = dict(model.state_dict())
    rows = torch.tensor([0, 1, 2, 3, *(4 + i for i in order)])
    for name in ("decoder.embedding.weight", "decoder.output.weight", "decoder.output.bias"):
        state[name] = state[name][rows]
    other.load_state_dict(state)
    return other


def same(one, other):
    return one.words == other.words and abs(one.log_prob - other.log_prob) < 1e-4 and np.allclose(one.alphas, other.alphas, atol=1e-5)


def test_models_that_agree_give_the_caption_of_each_alone():
    model = talkative(0)
    alone = model.caption(photos(), search=BeamSearch(3, 6))
    assert any(caption.words for caption in alone)
    order = [4, 2, 8, 0, 1, 7, 3, 6, 5]
    for members in ([model], [model, model], [model, shuffled(model, order)]):
        together = Ensemble(members).caption(photos(), search=BeamSearch(3, 6))
        assert all(same(one, other) for one, other in zip(alone, together, strict=True))
    swapped = Ensemble([shuffled(model, order), model]).caption(photos(), search=BeamSearch(3, 6))
    assert all(same(one, other) for one, other in zip(alone, swapped, strict=True))


def test_a_caption_s_log_prob_is_of_the_mean_of_the_members_probabilities():
    """Each member is made to say the caption by itself; the first word's, the second's ... probabilities are averaged by hand."""
    members = [talkative(1), shuffled(talkative(2), [8, 7, 6, 5, 4, 3, 2, 1, 0]), talkative(3)]
    for photo, caption in zip(
        photos(), Ensemble(members).caption(photos(), search=BeamSearch(2, 5, constraints=Constraints(min_length=2))), strict=True
    ):
        alone = [member.align(photo, caption.text) for member in members]
        for t in range(len(caption.words)):
            mean = np.mean([np.exp(one.log_probs[t]) for one in alone])
            assert caption.log_probs[t] == pytest.approx(np.log(mean), abs=1e-4)
            assert np.allclose(caption.alphas[t], np.mean([one.alphas[t] for one in alone], 0), atol=1e-5)
            assert caption.gate[t] == pytest.approx(np.mean([one.gate[t] for one in alone]), abs=1e-5)
        assert caption.log_prob == pytest.approx(sum(caption.log_probs) + caption.end_log_prob, abs=1e-4)


def test_aligning_an_ensemble_s_caption_gives_its_own_maps_and_log_probs():
    ensemble = Ensemble([talkative(4), talkative(5)])
    generated = ensemble.caption(photos()[0], search=BeamSearch(4, 6, constraints=Constraints(min_length=3)))
    assert len(generated.words) >= 3
    aligned = ensemble.align(photos()[0], generated.text)
    assert aligned.log_probs == pytest.approx(generated.log_probs, abs=1e-4)
    assert np.allclose(aligned.alphas, generated.alphas, atol=1e-5)
    with pytest.raises(InputError, match="no word"):
        ensemble.align(photos()[0], " . ")


def test_members_may_prepare_the_image_each_in_its_own_way_and_the_maps_are_the_first_s():
    other = config()
    other["transform"] = {**other["transform"], "size": [24, 24], "fit": "squash"}
    torch.manual_seed(6)
    members = [talkative(7), Captioner.from_config(other, WORDS).eval()]
    for one, two in itertools.permutations(members):
        caption = Ensemble([one, two]).caption(photos()[0], search=BeamSearch(2, 5, constraints=Constraints(min_length=2)))
        alone = one.align(photos()[0], caption.text)
        assert caption.box == alone.box
        assert np.allclose(caption.alphas, alone.alphas, atol=1e-5)


def test_every_search_works_over_an_ensemble():
    ensemble = Ensemble([talkative(8), talkative(9)])
    rules = Constraints(require=["dog"], forbid=["a"], no_repeat=1)
    for search in (
        BeamSearch(1, 5, constraints=rules),
        BeamSearch(4, 5, groups=2, constraints=rules),
        Sampling(3, seed=0, constraints=rules),
    ):
        for caption in ensemble.caption(photos(), search=search):
            assert caption.satisfied
            assert "dog" in caption.words
            assert "a" not in caption.words


def test_models_with_other_words_are_refused(tmp_path):
    other = Captioner.from_config(config(), Vocabulary([*WORDS.words[4:-1], "zebra"]))
    with pytest.raises(InputError, match="it lacks grass"):
        Ensemble([small(), other])
    small().save(tmp_path / "a")
    other.save(tmp_path / "b")
    with pytest.raises(InputError, match=f"{tmp_path / 'b'} cannot caption together with {tmp_path / 'a'}: .* lacks grass"):
        Ensemble.load([tmp_path / "a", tmp_path / "b"])
    loaded = Ensemble.load([tmp_path / "a", tmp_path / "a"])
    assert same(loaded.caption(photos()[0]), small().caption(photos()[0]))
    with pytest.raises(ValueError, match="members"):
        Ensemble([])


def test_an_ensemble_takes_what_a_captioner_takes(tmp_path):
    both, picture = Ensemble([talkative(0), talkative(1)]), photos()[0]
    picture.save(tmp_path / "a.png")
    assert same(both.caption(tmp_path / "a.png"), both.caption(picture))
    assert same(both.align(str(tmp_path / "a.png"), "a dog"), both.align(picture, "a dog"))
    assert both.caption([]) == []
    for ask in (both.caption, lambda image: both.align(image, "a dog")):
        with pytest.raises(InputError, match="image is None; expected a path"):
            ask(None)
