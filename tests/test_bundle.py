"""A saved model is read back unchanged, and is never half there."""

import json
import os
import random
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from captioner import bundle
from captioner.bundle import load, load_state, read_checkpoint, read_tensors, save
from captioner.errors import InputError

CONFIG = {"encoder": {"_target_": "captioner.encoders.small.SmallConv", "channels": [5, 7]}, "note": "é \u2028 \"'"}
WORDS = {"words": ["<pad>", "<start>", "<end>", "<unk>", "a", "naïve"]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def tensors() -> dict[str, torch.Tensor]:
    whole = torch.arange(30.0).reshape(5, 6)
    return {"a.weight": whole.T, "a.tied": whole, "count": torch.tensor(3), "half": torch.ones(2, 3, dtype=torch.bfloat16)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save(tmp_path / "model", tensors(), CONFIG, WORDS, "# Card\n")
    return tmp_path / "model"


def test_what_is_saved_comes_back(model: Path) -> None:
    found, config, vocabulary = load(model)
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    assert (config, vocabulary) == (CONFIG, WORDS)
    assert (model / "README.md").read_text() == "# Card\n"
    assert json.loads((model / "config.json").read_text())["format"] == 2
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(config=st.dictionaries(st.text(), JSON, max_size=3), vocabulary=st.dictionaries(st.text(), JSON, max_size=3))
def test_any_json_comes_back(tmp_path: Path, config: dict[str, Any], vocabulary: dict[str, Any]) -> None:
    config = {f"key {name}": value for name, value in config.items()}
    save(tmp_path / "model", {}, config, vocabulary, "")
    assert load(tmp_path / "model")[1:] == (config, vocabulary)


def test_a_second_save_replaces_the_first(model: Path) -> None:
    save(model, {"b": torch.zeros(2)}, {"new": True}, WORDS, "")
    assert list(load(model)[0]) == ["b"]
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"]


def test_a_save_that_fails_leaves_the_old_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("safetensors_bytes", "_json", "_sha256"):
        with monkeypatch.context() as patch:
            patch.setattr(bundle, name, lambda *_: (_ for _ in ()).throw(OSError("disk full")))
            with pytest.raises(OSError, match="disk full"):
                save(model, {"b": torch.zeros(2)}, {}, WORDS, "")
    rename = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda a, b: rename(a, b) if ".tmp-" not in Path(a).name else (_ for _ in ()).throw(OSError("no swap")))
        with pytest.raises(OSError, match="no swap"):
            save(model, {"b": torch.zeros(2)}, {}, WORDS, "")
    assert load(model)[1] == CONFIG
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"]


def test_a_save_killed_at_any_of_its_steps_leaves_the_old_model_or_the_new_one_and_the_next_one_cleans_up(model: Path) -> None:
    def killed(step: int) -> bool:
        """Whether a process that saves was killed when it reached that step."""
        child = os.fork()
        if child == 0:
            steps = iter(range(1000))
            touching = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")
            sys.addaudithook(lambda event, _: os.kill(os.getpid(), signal.SIGKILL) if event in touching and next(steps) == step else None)
            save(model, {"b": torch.zeros(2)}, {"new": True}, WORDS, "")
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

    step, found = 0, []
    while killed(step):
        found.append(load(model)[1])
        save(model, tensors(), CONFIG, WORDS, "# Card\n")
        assert sorted(path.name for path in model.parent.iterdir()) == ["model"]
        step += 1
    assert [config == CONFIG for config in found] == sorted([config == CONFIG for config in found], reverse=True)
    assert found[0] == CONFIG
    assert found[-1] == {"new": True}


def test_files_of_a_model_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(tmp_path / "model", tensors(), CONFIG, WORDS, "")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()} == {0o640}
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o750


def test_a_file_that_may_not_be_read_is_not_called_damaged(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(path: Path, *given: Any, **named: Any) -> Any:
        if path.suffix in (".safetensors", ".ckpt"):
            raise PermissionError(13, "Permission denied")
        return opened(path, *given, **named)

    torch.save({"epoch": 1}, model.parent / "last.ckpt")
    monkeypatch.setattr(Path, "open", refuse)
    for read, name in ((load, "model"), (read_checkpoint, "last.ckpt")):
        with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
            read(model.parent / name)


def test_any_flipped_bit_of_a_checkpoint_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    written, other = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    torch.save({"a": torch.arange(40.0), "b": {"c": "text", "d": 3}}, written)
    shutil.copy(written, other)
    data, refused = written.read_bytes(), list[str]()
    for bit in random.Random(0).sample(range(8 * len(data)), 300):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        written.write_bytes(changed)
        try:
            found = read_checkpoint(written)
        except InputError as error:
            refused.append(str(error))
        else:
            assert torch.equal(found.pop("a"), torch.arange(40.0))
            assert found == {"b": {"c": "text", "d": 3}}
    assert len(refused) > 50
    assert all("damaged" in message and "best.ckpt" in message for message in refused)


def test_a_checkpoint_whose_records_claim_more_than_its_file_holds_is_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.ckpt"
    torch.save({"a": torch.arange(3.0)}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        new.writestr("plain/data/7", bytes(1_000_000), zipfile.ZIP_DEFLATED)
    assert packed.stat().st_size < 10_000
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: pytest.fail("unpacked"))
    with pytest.raises(InputError, match=r"packed\.ckpt: damaged.*records claim 1,00"):
        read_checkpoint(packed)
    monkeypatch.undo()
    assert torch.equal(read_checkpoint(plain)["a"], torch.arange(3.0))


def test_a_folder_of_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("precious")
    with pytest.raises(InputError, match=r"photos: holds other files.*holiday\.jpg"):
        save(tmp_path / "photos", {}, {}, {}, "")
    with pytest.raises(InputError, match="a model is a folder"):
        save(tmp_path / "photos" / "holiday.jpg", {}, {}, {}, "")
    assert (tmp_path / "photos" / "holiday.jpg").read_text() == "precious"


@pytest.mark.parametrize("config", [{"format": 2}, {"files": {}}, {"path": Path("x")}])
def test_a_configuration_that_would_not_come_back_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"reserved|JSON"):
        save(tmp_path / "model", {}, config, {}, "")


def one_line(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_missing_folder_or_file_is_named(model: Path) -> None:
    assert "nowhere: there is no such folder; a model is a folder with" in one_line(model.parent / "nowhere")
    for name in ("model.safetensors", "config.json", "vocabulary.json"):
        kept = (model / name).read_bytes()
        (model / name).unlink()
        assert f"{name}: missing" in one_line(model)
        (model / name).write_bytes(kept)
    (model / "README.md").unlink()
    assert load(model)[1] == CONFIG


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_named(model: Path, data: st.DataObject) -> None:
    copy = model.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(model, copy)
    name = data.draw(st.sampled_from(["model.safetensors", "config.json", "vocabulary.json"]))
    whole = (copy / name).read_bytes()
    place = data.draw(st.integers(0, len(whole.rstrip()) - 1))
    if name != "config.json" and data.draw(st.booleans()):
        damaged = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    else:
        damaged = whole[:place]
    (copy / name).write_bytes(damaged)
    assert name in one_line(copy)


def test_another_format_is_refused(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    for other in ({"format": 4}, {"format": 0}, {"format": "1"}, {"format": None}):
        (model / "config.json").write_text(json.dumps(config | other))
        assert 'config.json: "format" is' in one_line(model)
    (model / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != "format"}))
    assert '"format" is none' in one_line(model)
    for text in ("[]", "3", "[" * 100_000):
        (model / "config.json").write_text(text)
        assert "config.json" in one_line(model)


def test_a_pickle_of_more_than_tensors_is_not_loaded(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"weight": Hostile()}, tmp_path / "hostile.pth")
    with pytest.raises(InputError, match=r"hostile\.pth.*not loaded"):
        read_tensors(tmp_path / "hostile.pth")
    assert not (tmp_path / "owned").exists()
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(InputError, match=r"list\.pth.*not a state dict"):
        read_tensors(tmp_path / "list.pth")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kind=st.sampled_from(["pth", "safetensors"]), share=st.floats(0, 0.999), noise=st.binary(max_size=40))
def test_damaged_weights_are_named(tmp_path: Path, kind: str, share: float, noise: bytes) -> None:
    path = tmp_path / f"weights.{kind}"
    state = {"a": torch.arange(50.0), "b": torch.zeros(3)}
    torch.save(state, path) if kind == "pth" else save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)] + noise[: max(0, len(whole) - int(len(whole) * share) - 1)])
    with pytest.raises(InputError, match=rf"weights\.{kind}") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


def test_load_state_names_all_that_does_not_fit() -> None:
    module = nn.Linear(2, 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(
        InputError, match=r"here: .*missing: bias; unexpected: extra; of another shape: weight \[2, 3\] instead of \[3, 2\]"
    ):
        load_state(module, {"weight": torch.zeros(2, 3), "extra": torch.zeros(1)}, "here")
    with pytest.raises(InputError, match="missing: bias"):
        load_state(module, {"weight": torch.zeros(3, 2)}, "here")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    load_state(module, {"weight": torch.ones(3, 2), "bias": torch.ones(3)}, "here")
    assert module.weight.sum() == 6
