"""Reading saved models: folders and checkpoints, and what is wrong with them."""

import json

import pytest
import torch
from PIL import Image
from test_model import WORDS, photos, same, small

from captioner import bundle
from captioner.errors import InputError
from captioner.model import Captioner


def test_a_checkpoint_is_loaded_without_unpickling_anything_but_tensors(tmp_path):
    model = small()
    record = {"config": json.dumps(model.config), "vocabulary": json.dumps(WORDS.to_json())}
    state = {f"captioner.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"captioner": record, "state_dict": state}, tmp_path / "best.ckpt")
    assert same(model.caption(photos()[0]), Captioner.load(tmp_path / "best.ckpt").caption(photos()[0]))
    torch.save({"captioner": record, "state_dict": state, "more": Image.new("RGB", (2, 2))}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil\.ckpt"):
        Captioner.load(tmp_path / "evil.ckpt")


@pytest.mark.parametrize("target", ["os.system", "captioner.atomic_files.write_atomically", "captioner.scenes.scenes.Scenes"])
def test_a_model_folder_builds_nothing_but_parts_of_a_model(tmp_path, target):
    model = small()
    hostile = {**model.config, "encoder": {"_target_": target, "path": str(tmp_path / "owned"), "data": "x"}}
    bundle.save(tmp_path / "model", dict(model.state_dict()), hostile, WORDS.to_json(), "")
    with pytest.raises(InputError, match=target.split(".")[0]):
        Captioner.load(tmp_path / "model")
    assert not (tmp_path / "owned").exists()


def test_a_model_whose_tensors_do_not_fit_is_refused_by_name(tmp_path):
    model = small()
    tensors = {**model.state_dict(), "decoder.output.bias": torch.zeros(3)}
    bundle.save(tmp_path / "model", tensors, model.config, WORDS.to_json(), "")
    with pytest.raises(InputError, match=r"decoder\.output\.bias"):
        Captioner.load(tmp_path / "model")


def test_what_is_wrong_in_a_model_folder_is_reported_with_the_name_of_its_file(tmp_path):
    model = small()
    strange = {"config.json": {**model.config, "decoder": {}}, "vocabulary.json": {"words": ["a", 2]}}
    for name in strange:
        parts = {"config.json": dict(model.config), "vocabulary.json": WORDS.to_json(), name: strange[name]}
        bundle.save(tmp_path / "model", dict(model.state_dict()), parts["config.json"], parts["vocabulary.json"], "")
        with pytest.raises(InputError) as error:
            Captioner.load(tmp_path / "model")
        assert str(error.value).startswith(f"{tmp_path / 'model' / name}: ")


def test_a_checkpoint_that_holds_code_is_refused_in_a_few_words(tmp_path):
    torch.save({"captioner": print}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match=r"evil\.ckpt: holds more than tensors and plain values") as error:
        Captioner.load(tmp_path / "evil.ckpt")
    assert len(str(error.value)) < 200 + len(str(tmp_path))


def test_a_damaged_size_is_refused_before_memory_is_asked_for(tmp_path):
    """A million units: to build such a layer would take terabytes."""
    small().save(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["encoder"]["channels"] = [10**6, 10**6]
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="the tensors do not fit the model"):
        Captioner.load(tmp_path / "model")
