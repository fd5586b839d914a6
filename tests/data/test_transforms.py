"""What the model reads, and which of the original pixels that is."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import encoder_config
from PIL import Image
from torchvision.transforms import v2

from captioner.build import build
from captioner.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Transform
from captioner.errors import InputError

TARGET = "captioner.data.transforms.Transform"
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def ramp(width: int, height: int) -> Image.Image:
    """Red encodes the column, green the row: 0 at the first edge, 255 at the last."""
    columns = (np.arange(width) + 0.5) / width * 255
    rows = (np.arange(height) + 0.5) / height * 255
    pixels = np.stack([*np.broadcast_arrays(columns[None], rows[:, None]), np.zeros((height, width))], -1)
    return Image.fromarray(pixels.round().astype(np.uint8))


def training_view(transform: Transform, image: Image.Image) -> torch.Tensor:
    return transform.normalise(transform.training_view(image)[0][None])[0]


@settings(deadline=None)  # other programs may have the processor
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["crop", "squash"]))
def test_the_box_is_centred_and_never_outside(width: int, height: int, rows: int, cols: int, fit: str) -> None:
    left, top, right, bottom = Transform((rows, cols), fit).box(width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert abs(left - (width - right)) <= 1
    assert abs(top - (height - bottom)) <= 1
    if fit == "squash":
        assert (left, top, right, bottom) == (0, 0, width, height)
    else:
        assert right - left == width or bottom - top == height
        scale = min(width / cols, height / rows)  # original pixels per pixel of the model
        assert abs((right - left) - max(1, scale * cols)) <= 0.5
        assert abs((bottom - top) - max(1, scale * rows)) <= 0.5


@pytest.mark.parametrize(("width", "height"), [(120, 80), (80, 120), (70, 70), (300, 90), (20, 17)])
@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_the_tensor_shows_the_pixels_of_the_box(width: int, height: int, size: tuple[int, int], fit: str) -> None:
    view, (left, top, right, bottom) = Transform(size, fit, **PLAIN).prepare(ramp(width, height))
    assert tuple(view.shape) == (3, *size)
    x = left + (torch.arange(size[1]) + 0.5) / size[1] * (right - left)
    y = top + (torch.arange(size[0]) + 0.5) / size[0] * (bottom - top)
    inner = slice(2, -2)  # at the border a resize has fewer neighbours
    assert (view[0, inner, inner] - x[None, inner] / width).abs().max() < 0.02
    assert (view[1, inner, inner] - y[inner, None] / height).abs().max() < 0.02


@pytest.mark.parametrize(("width", "height"), [(150, 100), (90, 200)])
def test_crop_agrees_with_resizing_the_shorter_side_and_a_centre_crop(width: int, height: int) -> None:
    image = ramp(width, height)
    usual = v2.functional.center_crop(v2.functional.resize(v2.functional.pil_to_tensor(image), [50], antialias=True), [50, 50])
    view, _ = Transform(50).pixels(image)
    assert (view.int() - usual.int()).abs().max() <= 4


def test_an_image_of_the_models_size_is_not_changed() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    for fit in ("crop", "squash"):
        view, box = Transform((12, 16), fit).pixels(Image.fromarray(pixels))
        assert np.array_equal(view.permute(1, 2, 0).numpy(), pixels)
        assert box == (0, 0, 16, 12)


def test_normalising_is_the_formula() -> None:
    transform = Transform(5, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8)
    usual = v2.functional.normalize(pixels.float() / 255, [0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    assert torch.allclose(transform.normalise(pixels), usual, atol=1e-6)


def test_exif_rotation_comes_before_the_geometry() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = ramp(40, 20)
    image.info["exif"] = exif.tobytes()
    assert Transform(8, "squash").prepare(image)[1] == (0, 0, 20, 40)


def test_without_augment_training_reads_what_evaluation_reads() -> None:
    transform, image = Transform(16, augment=False, flip=0.5), ramp(40, 30)
    assert torch.equal(training_view(transform, image), transform.prepare(image)[0])
    batch = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    assert transform.augmented_views(batch)[0] is batch
    assert not transform.random_flips(100).any()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flip_is_all_or_none_at_its_ends(flip: float) -> None:
    transform, image = Transform((8, 16), augment=True, flip=flip, crop_scale=(1, 1), **PLAIN), ramp(32, 16)
    plain = transform.prepare(image)[0]
    expected = plain.flip(-1) if flip else plain
    assert torch.equal(training_view(transform, image), expected)
    batch = transform.pixels(image)[0][None].repeat(5, 1, 1, 1)
    assert torch.equal(transform.augmented_views(batch)[0], batch.flip(-1) if flip else batch)


def test_half_of_many_images_are_mirrored() -> None:
    torch.manual_seed(0)
    share = Transform(8, augment=True, flip=0.5).random_flips(2000).float().mean()
    assert 0.45 < share < 0.55


@pytest.mark.parametrize("held", [False, True])
def test_random_crops_cover_the_share_that_is_set(held: bool) -> None:
    torch.manual_seed(0)
    transform, image = Transform(64, augment=True, flip=0, crop_scale=(0.25, 0.5), crop_ratio=(1, 1), **PLAIN), ramp(64, 64)
    shares = []
    for _ in range(40):
        view = training_view(transform, image)
        if held:
            view = transform.normalise(transform.augmented_views(transform.pixels(image)[0][None])[0])[0]
        spread = view[:2, 2:-2, 2:-2].amax((1, 2)) - view[:2, 2:-2, 2:-2].amin((1, 2))
        shares.append(float((spread * 64 / 59).prod()))
    assert 0.2 < min(shares) < max(shares) < 0.55
    assert max(shares) - min(shares) > 0.1


def test_the_same_seed_gives_the_same_views() -> None:
    transform, image = Transform(16, augment=True), ramp(40, 30)
    views = []
    for _ in range(2):
        torch.manual_seed(3)
        views.append(torch.stack([training_view(transform, image) for _ in range(4)]))
    assert torch.equal(*views)


def test_json_gives_the_same_transform() -> None:
    for transform in (Transform(), Transform((8, 5), "squash", (0, 0, 0), (1, 1, 1), True, 0, (0.5, 1), (1, 2), "bicubic")):
        assert build(json.loads(json.dumps(transform.to_json())), "transform") == transform
    assert build({"_target_": TARGET, "size": 7, "fit": "squash"}, "transform") == Transform(7, "squash")
    assert len({Transform(7), Transform([7, 7]), Transform(7, "squash")}) == 2


def test_the_normalisation_of_a_plain_transform_is_that_of_pretrained_encoders() -> None:
    images = encoder_config("resnet50")["images"]
    assert (tuple(images["mean"]), tuple(images["std"])) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("record", [{"size": 5, "colour": 1}, {"fit": "stretch"}, {"size": "large"}])
def test_a_damaged_record_is_one_clear_line(record: dict) -> None:
    with pytest.raises(InputError, match="transform") as caught:
        build({"_target_": TARGET, **record}, "transform")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("size", 0),
        ("size", [3]),
        ("fit", "pad"),
        ("flip", 1.5),
        ("std", (1, 1, 0)),
        ("mean", (0.5,)),
        ("crop_scale", (0, 1)),
        ("crop_scale", (0.9, 0.5)),
        ("crop_ratio", (-1, 1)),
        ("interpolation", "best"),
    ],
)
def test_bad_values_are_refused_by_name(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=argument):
        Transform(**{argument: value})
