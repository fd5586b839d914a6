"""Contact sheets of the same validation images after every validation, for the loggers that take
images."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.captioning import DrawableCaption
from captioner.training.validation_sheets import ValidationSheets


class Writer:
    def __init__(self):
        self.images = []

    def add_image(self, name, array, step, dataformats):
        assert dataformats == "HWC"
        self.images.append((name, array.shape, array.dtype, step))


class WandB:
    experiment = object()

    def __init__(self):
        self.images = []

    def log_image(self, key, images, step, caption):
        self.images.append((key, images[0].size, step, caption[0]))


class Split:
    def __init__(self, folder, sizes):
        self.paths = [folder / f"{number}.png" for number in range(len(sizes))]
        for path, size in zip(self.paths, sizes, strict=True):
            Image.new("RGB", size, (90, 20, 200)).save(path)

    def __len__(self):
        return len(self.paths)

    def path(self, index):
        return self.paths[index]


def caption_all(images, search):
    torch.rand(3)
    alphas = np.full((1, 2, 3), 1 / 6, np.float32)
    box = [(0.0, 0.0, float(image.width), float(image.height)) for image in images]
    rest = ([search], -1.0, [-0.5], -0.5, -1.0, alphas)
    return [DrawableCaption(search, *rest, own, *image.size, image=image) for image, own in zip(images, box, strict=True)]


def run(tmp_path, pictures, loggers, epoch=0, **changes):
    counts = []
    captioner = SimpleNamespace(caption=lambda images, search: counts.append(len(images)) or caption_all(images, search))
    trainer = SimpleNamespace(
        loggers=loggers,
        sanity_checking=False,
        is_global_zero=True,
        current_epoch=epoch,
        global_step=70 * (epoch + 1),
        datamodule=SimpleNamespace(splits={"val": Split(tmp_path, [(40, 30), (30, 50), (25, 25)])}),
        precision_plugin=SimpleNamespace(val_step_context=nullcontext),
    )
    trainer.__dict__.update(changes)
    pictures.on_validation_epoch_end(trainer, SimpleNamespace(captioner=captioner, search="dog"))
    return counts


def test_tensorboard_and_wandb_get_one_sheet_per_image_under_the_same_name_every_epoch(tmp_path):
    writer, wandb = Writer(), WandB()
    pictures = ValidationSheets(images=2)
    for epoch in (0, 1):
        run(tmp_path, pictures, [SimpleNamespace(experiment=writer), wandb, SimpleNamespace(name="csv")], epoch)
    assert [(name, step) for name, _, _, step in writer.images] == [
        ("val/attention_1", 70),
        ("val/attention_2", 70),
        ("val/attention_1", 140),
        ("val/attention_2", 140),
    ]
    assert all(shape[2] == 3 and kind == np.uint8 for _, shape, kind, _ in writer.images)
    written = [(key, step, text) for key, _, step, text in wandb.images[:2]]
    assert written == [("val/attention_1", 70, "dog"), ("val/attention_2", 70, "dog")]
    assert [size for _, size, _, _ in wandb.images] == [shape[1::-1] for _, shape, _, _ in writer.images]


def test_files_are_written_into_the_folder_and_a_short_split_gives_what_it_has(tmp_path):
    run(tmp_path, ValidationSheets(images=5, folder=str(tmp_path / "pictures")), [], epoch=11)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [f"epoch_12_{number}.png" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("loggers", "changes", "images"),
    [
        ([SimpleNamespace(name="csv")], {}, 4),
        ([WandB()], {"is_global_zero": False}, 4),
        ([WandB()], {"sanity_checking": True}, 4),
        ([WandB()], {}, 0),
    ],
)
def test_nothing_is_captioned_where_no_logger_takes_images(tmp_path, loggers, changes, images):
    assert run(tmp_path, ValidationSheets(images), loggers, **changes) == []


def test_training_s_random_numbers_go_on_as_if_nothing_had_been_drawn(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert run(tmp_path, ValidationSheets(1), [WandB()]) == [1]
    assert torch.equal(torch.rand(2), expected)


def test_fewer_than_no_images_are_refused():
    with pytest.raises(ValueError, match="-1"):
        ValidationSheets(-1)


def test_a_validation_image_that_cannot_be_read_has_no_sheet_and_costs_no_other(tmp_path):
    class Broken(Split):
        def path(self, index):
            return self.paths[index] if index else self.paths[0].with_name("gone.png")

    split = Broken(tmp_path, [(40, 30), (30, 50), (25, 25)])
    counts = run(tmp_path, ValidationSheets(3), [WandB()], datamodule=SimpleNamespace(splits={"val": split}))
    assert counts == [2]
