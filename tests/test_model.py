import io

import numpy as np
import pytest
import torch
from kinds import attention, part
from PIL import Image

from captioner.caption import Caption
from captioner.errors import BrokenModelError, InputError
from captioner.model import Captioner
from captioner.objectives.likelihood import Likelihood
from captioner.objectives.term import CollectedRollouts
from captioner.records import Batch
from captioner.search.beam import BeamSearch
from captioner.search.constraints import Constraints
from captioner.search.sampling import Sampling
from captioner.tokenizer import tokenize
from captioner.vocabulary import Vocabulary

WORDS = Vocabulary(["a", "red", "blue", "dog", "ball", "runs", "with", "on", "grass"])


def config(**changes):
    encoder = {
        "_target_": "captioner.encoders.small.SmallConv",
        "channels": [5, 7],
        "blocks": [0, 0],
        "coordinates": False,
    }
    decoder = part("decoder", "lstm", attention=attention(), features=7, embedding_size=4, hidden_size=6, **changes)
    transform = {"_target_": "captioner.data.transforms.Transform", "size": [32, 40], "fit": "crop"}
    return {"encoder": encoder, "decoder": decoder, "transform": transform}


def small(seed=0, **changes):
    torch.manual_seed(seed)
    return Captioner.from_config(config(**changes), WORDS).eval()


def photos():
    noise = np.random.default_rng(3)
    return [Image.fromarray(noise.integers(0, 255, (h, w, 3), dtype=np.uint8)) for h, w in ((30, 61), (47, 33), (32, 40))]


def same(one: Caption, other: Caption) -> bool:
    return one.words == other.words and np.allclose(one.alphas, other.alphas, atol=1e-6) and abs(one.log_prob - other.log_prob) < 1e-5


def test_two_images_can_be_overfitted():
    model = small(dropout=0.0).train()
    pictures = [Image.new("RGB", (40, 32), colour) for colour in ("red", "blue")]
    texts = ["a red dog runs on grass", "a blue ball"]
    ids = [WORDS.encode(tokenize(text)) for text in texts]
    captions = torch.tensor([[row + [0] * (8 - len(row))] for row in ids])
    batch = Batch(torch.stack([model.transform.prepare(picture)[0] for picture in pictures]), captions, torch.arange(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        Likelihood()(CollectedRollouts(model.rollout(batch))).backward()
        optimizer.step()
    model.encoder.train(False)
    with torch.no_grad():  # two images are too few for the running statistics of batch norm: take theirs
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_running_stats()
                layer.momentum = None
                layer.train()
        model.encode(batch.images)
    assert [caption.text for caption in model.caption(pictures)] == texts


def test_regions_of_the_trunk_are_as_good_as_pixels_where_layers_come_after_it(tmp_path):
    parts = config()
    attend = {"_target_": "captioner.encoders.self_attention.SelfAttention", "features": 8, "heads": 2, "trunk": parts["encoder"]}
    parts["encoder"], parts["decoder"]["features"], parts["decoder"]["attention"]["features"] = attend, 8, 8
    for room in parts["decoder"]["attention"].values():
        if isinstance(room, dict) and "features" in room:
            room["features"] = 8
    torch.manual_seed(0)
    model = Captioner.from_config(parts, WORDS).eval()
    pixels = torch.stack([model.transform.prepare(photo)[0] for photo in photos()])
    with torch.no_grad():
        whole = model.encoder(pixels)
        for seen in (pixels, model.encoder.backbone(pixels), model.prepare(photos())[0]):
            assert torch.equal(model.encode(seen).features, whole.features)
    model.save(tmp_path / "model")
    loaded = Captioner.load(tmp_path / "model")
    assert all(same(*pair) for pair in zip(model.caption(photos()), loaded.caption(photos()), strict=True))


def test_a_saved_model_gives_the_same_caption_and_the_same_maps(tmp_path):
    model = small()
    model.save(tmp_path / "run" / "model")
    model.save(tmp_path / "folder.ckpt")
    captions = model.caption(photos())
    for where in (tmp_path / "run" / "model", tmp_path / "run", tmp_path / "folder.ckpt"):
        again = Captioner.load(where).caption(photos())
        assert all(same(one, other) for one, other in zip(captions, again, strict=True))


def test_batching_changes_nothing_and_one_image_gives_one_caption():
    model = small()
    together = model.caption(photos(), batch_size=2)
    alone = [model.caption(photo) for photo in photos()]
    assert all(same(one, other) for one, other in zip(together, alone, strict=True))


def test_a_caption_is_whole():
    """Maps that sum to one, log-probabilities that add up, a box inside the image, alternatives in order of score."""
    for photo, caption in zip(photos(), small().caption(photos(), beam=3), strict=True):
        assert caption.alphas.shape == (len(caption.words), 4, 5)
        assert caption.alphas.dtype == np.float32
        assert np.allclose(caption.alphas.sum((1, 2)), 1, atol=1e-5)
        assert caption.log_prob == pytest.approx(sum(caption.log_probs) + caption.end_log_prob, abs=1e-4)
        assert caption.score == pytest.approx(caption.log_prob / (len(caption.words) + 1), abs=1e-5)
        scores = [caption.score, *(other.score for other in caption.alternatives)]
        assert scores == sorted(scores, reverse=True)
        for other in caption.alternatives:
            assert other.alphas.shape == (len(other.words), 4, 5)
            assert np.allclose(other.alphas.sum((1, 2)), 1, atol=1e-5)
            assert other.log_prob == pytest.approx(sum(other.log_probs) + other.end_log_prob, abs=1e-4)
            assert other.overlay().width > photo.width
        left, top, right, bottom = caption.box
        assert 0 <= left < right <= photo.width
        assert 0 <= top < bottom <= photo.height
        assert (caption.width, caption.height) == photo.size
        assert caption.gate.shape == (len(caption.words),)
        assert caption.overlay().width > photo.width
        assert not set(caption.words) & {"<pad>", "<start>", "<unk>", "<end>"}


def test_a_photo_held_sideways_is_captioned_and_measured_upright():
    photo = photos()[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    data = io.BytesIO()
    photo.transpose(Image.Transpose.ROTATE_90).save(data, "PNG", exif=exif)
    model = small()
    for caption in (model.caption(Image.open(data)), model.align(Image.open(data), "a dog")):
        assert (caption.width, caption.height) == photo.size
        assert caption.image.size == photo.size
    assert same(model.caption(Image.open(data)), model.caption(photo))


def test_aligning_a_generated_caption_gives_its_own_maps_and_log_probs():
    model, photo = small(), photos()[0]
    model.decoder.output.bias.data[WORDS.end] = -1.0  # or an untrained model ends at once
    generated = model.caption(photo, search=BeamSearch(4, 6))
    assert len(generated.words) > 1
    aligned = model.align(photo, generated.text)
    assert aligned.words == generated.words
    assert np.allclose(aligned.alphas, generated.alphas, atol=1e-5)
    assert aligned.log_probs == pytest.approx(generated.log_probs, abs=1e-5)
    assert aligned.end_log_prob == pytest.approx(generated.end_log_prob, abs=1e-5)


def test_a_word_that_the_model_does_not_know_is_aligned_as_unknown_and_stays_as_written():
    aligned = small().align(photos()[0], "A zebra runs .")
    assert aligned.words == ["a", "zebra", "runs"]
    with pytest.raises(InputError, match="no word"):
        small().align(photos()[0], " . ")


def test_the_words_of_constraints_are_the_model_s_and_a_caption_that_does_not_meet_them_is_marked():
    model = small()
    model.decoder.output.bias.data[WORDS.end] = -3.0
    rules = Constraints(min_length=2, bad_endings=["with", "the"], require=["dog", "ball"], forbid=["a"])
    for caption in model.caption(photos(), search=BeamSearch(3, 6, constraints=rules)):
        assert caption.satisfied
        assert {"dog", "ball"} <= set(caption.words)
        assert "a" not in caption.words
        assert caption.words[-1] != "with"
    short = model.caption(photos()[0], search=BeamSearch(2, 1, constraints=Constraints(require=["dog", "ball"])))
    assert not short.satisfied
    assert all(other.satisfied is False for other in short.alternatives)
    with pytest.raises(InputError, match=r"require: .* no word 'zebra'"):
        model.caption(photos()[0], search=BeamSearch(constraints=Constraints(require=["zebra"])))


def test_several_captions_of_an_image_come_with_their_log_probs():
    model = small()
    model.decoder.output.bias.data[WORDS.end] = -3.0
    caption = model.caption(photos()[0], search=Sampling(5, seed=3, max_length=4))
    assert len(caption.alternatives) == 4
    for other in caption.alternatives:
        if other.text:
            assert model.align(photos()[0], other.text).log_prob == pytest.approx(other.log_prob, abs=1e-4)


def test_hard_attention_follows_the_mode_in_evaluation_and_soft_attention_has_none():
    hard = part("decoder", "lstm", attention=attention(readout="sample"), features=7, embedding_size=4, hidden_size=6)
    torch.manual_seed(0)
    model = Captioner.from_config({**config(), "decoder": hard}, WORDS).eval()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.normal_(std=0.7)
    expected = model.align(photos()[0], "a red dog")
    model.set_attention_mode("argmax")
    peak = model.align(photos()[0], "a red dog")
    assert peak.log_prob != pytest.approx(expected.log_prob, abs=1e-6)
    model.set_attention_mode("sample")
    sampled = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        sampled.append(model.align(photos()[0], "a red dog").log_prob)
    assert sampled[0] == sampled[2] != sampled[1]
    model.set_attention_mode("expectation")
    assert model.align(photos()[0], "a red dog").log_prob == pytest.approx(expected.log_prob, abs=1e-6)
    with pytest.raises(InputError, match="draws nothing"):
        small().set_attention_mode("argmax")


def test_a_model_keeps_its_search_and_beam_changes_the_width_alone(tmp_path):
    rules = {"_target_": "captioner.search.constraints.Constraints", "min_length": 3}
    own = {"_target_": "captioner.search.beam.BeamSearch", "beams": 2, "max_length": 6, "alpha": 0.3, "constraints": rules}
    torch.manual_seed(0)
    Captioner.from_config({**config(), "search": own}, WORDS).save(tmp_path / "model")
    model = Captioner.load(tmp_path / "model")
    assert model.search.settings() == BeamSearch(2, 6, alpha=0.3, constraints=Constraints(min_length=3)).settings()
    photo = photos()[0]
    same_search, wider = BeamSearch(2, 6, alpha=0.3, constraints=Constraints(3)), BeamSearch(4, 6, alpha=0.3, constraints=Constraints(3))
    for generated, search in ((model.caption(photo), same_search), (model.caption(photo, beam=4), wider)):
        assert same(generated, model.caption(photo, search=search))
        assert generated.score == pytest.approx(generated.log_prob / (len(generated.words) + 1) ** 0.3)
        assert 3 <= len(generated.words) <= 6
        assert len(generated.alternatives) == search.beams - 1
    pixels = model.transform.prepare(photo)[0][None]
    assert model.generate(pixels)[0][0].words == model.generate(pixels, same_search)[0][0].words


def test_a_model_without_a_search_finds_captions_by_a_beam_of_three():
    assert small().search.settings() == BeamSearch(3).settings()


@pytest.mark.parametrize(
    "search", [{"_target_": "captioner.search.constraints.Constraints"}, {"_target_": "captioner.search.beam.BeamSearch", "beams": 0}, 3]
)
def test_a_search_that_cannot_be_built_is_refused(search):
    with pytest.raises(InputError, match=r"search|beams|_target_"):
        Captioner.from_config({**config(), "search": search}, WORDS)


def test_paths_arrays_and_pictures_are_captioned_alike_and_an_empty_list_gives_none(tmp_path):
    model, picture = small(), photos()[0]
    picture.save(tmp_path / "a.png")
    expected = model.caption(picture)
    for image in (tmp_path / "a.png", str(tmp_path / "a.png"), np.asarray(picture), torch.from_numpy(np.array(picture)).permute(2, 0, 1)):
        assert same(model.caption(image), expected)
        assert same(model.align(image, "a dog"), model.align(picture, "a dog"))
        assert same(model.caption([image, image])[1], expected)
    assert model.caption([]) == []
    assert model.caption(()) == []


@pytest.mark.parametrize("image", [None, 3, b"photo", {"photo": 1}, io.BytesIO()])
def test_what_is_no_image_is_refused_by_name(image):
    for call in (small().caption, lambda image: small().align(image, "a dog")):
        with pytest.raises(InputError, match=r"image is (None|of type \w+); expected a path, a PIL image, an array"):
            call(image)


def test_a_large_photo_keeps_its_own_size_and_box_while_its_pictures_are_made_from_a_smaller_copy(tmp_path, monkeypatch):
    picture = Image.linear_gradient("L").resize((301, 200)).convert("RGB")
    picture.save(tmp_path / "a.png")
    whole = small().caption(tmp_path / "a.png")
    monkeypatch.setattr("captioner.data.images.LARGE", 9000)
    large = small().caption(tmp_path / "a.png")
    assert (large.width, large.height) == (whole.width, whole.height) == (301, 200)
    assert large.image.size == (101, 67)
    assert np.allclose(large.box, whole.box, atol=3)
    assert 0 <= large.box[0] < large.box[2] <= 301
    assert 0 <= large.box[1] < large.box[3] <= 200
    assert large.overlay().size == whole.overlay().size
    unseen = [np.asarray(caption.overlay(title="")).astype(int) for caption in (large, whole)]
    assert np.abs(unseen[0] - unseen[1]).mean() < 3


def test_a_model_goes_to_the_best_device_unless_another_is_named(tmp_path, monkeypatch):
    small().save(tmp_path / "model")
    asked = []
    monkeypatch.setattr("captioner.devices.default_device", lambda: asked.append("auto") or "cpu")
    assert Captioner.load(tmp_path / "model").device.type == "cpu"
    assert asked == ["auto"]
    assert Captioner.load(tmp_path / "model", "cpu").device.type == "cpu"
    assert asked == ["auto"]
    with pytest.raises(InputError, match="device warp cannot be used here"):
        Captioner.load(tmp_path / "model", "warp")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_whose_weights_are_no_numbers_is_refused_by_the_name_of_its_file_and_tensor(value, tmp_path):
    model = small()
    with torch.no_grad():
        model.decoder.embedding.weight[3, 1] = value
    model.save(tmp_path / "model")
    with pytest.raises(BrokenModelError, match=r"model: decoder\.embedding\.weight holds numbers that are not finite.*optimizer\.lr"):
        Captioner.load(tmp_path / "model")


@pytest.mark.parametrize("search", [BeamSearch(1), BeamSearch(3), Sampling(), BeamSearch(4, groups=2)], ids=str)
def test_probabilities_that_are_no_numbers_are_reported_as_the_model_s_fault(search):
    model = small()
    with torch.no_grad():
        model.decoder.embedding.weight.fill_(float("nan"))
    with pytest.raises(BrokenModelError, match="the model's log-probabilities are not finite"):
        model.caption(photos(), search=search)
    with pytest.raises(BrokenModelError, match="the model's log-probabilities are not finite"):
        model.align(photos()[0], "a red dog")
