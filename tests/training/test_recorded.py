"""A recorded configuration repeats its run with the overrides beside it, and does nothing for a stranger."""

import json
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from runs import differing, draw_coco, rows, small_run, train

CHECKPOINT = "one/checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a data set and a run of two epochs, three steps each."""
    place = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        draw_coco(Path("coco"))
        small_run(Path("coco"), "one", "scheduler=constant", "optimizer.lr=1e-3")
    return place


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(folder)
    yield folder
    torch.set_num_threads(threads)


def error(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    last = shown.strip().splitlines()[-1]
    assert last.startswith("captioner: error: ")
    return last


def rates(run: str) -> list[float]:
    return [float(row["train/lr"]) for row in rows(Path(run)) if row["train/lr"]]


def test_a_rate_beside_resume_is_used_and_the_record_has_both_rates() -> None:
    asked = ["optimizer.lr=1e-5", "optimizer.weight_decay=0.3", "optimizer.optimizer.betas=[0.5,0.6]", "trainer.max_epochs=3"]
    assert train(f"resume={CHECKPOINT}", *asked, "callbacks.early_stopping.patience=3", "run_folder=slower") == 0
    assert rates("slower") == pytest.approx([1e-3] * 6 + [1e-5] * 3)
    checkpoint = torch.load("slower/checkpoints/last.ckpt", weights_only=True)
    group = checkpoint["optimizer_states"][0]["param_groups"][0]
    assert (group["lr"], group["initial_lr"], group["weight_decay"], group["betas"]) == (1e-5, 1e-5, 0.3, (0.5, 0.6))
    assert [state["patience"] for name, state in checkpoint["callbacks"].items() if "Early" in name] == [3]
    record = Path("slower/config.yaml").read_text()
    assert record.startswith(f"# After epoch 2 the run went on from {CHECKPOINT}, until then with\n")
    assert "\n#   optimizer.lr: 0.001\n" in record
    assert OmegaConf.load("slower/config.yaml").optimizer.lr == 1e-5
    assert train("resume=slower/checkpoints/last.ckpt", "trainer.max_epochs=4", "optimizer.lr=1e-4", "run_folder=third") == 0
    assert rates("third") == pytest.approx([1e-3] * 6 + [1e-5] * 3 + [1e-4] * 3)
    notes = [line for line in Path("third/config.yaml").read_text().splitlines() if line.startswith("# After")]
    assert [note.split()[3] for note in notes] == ["2", "3"]


def test_another_schedule_and_batch_size_go_on_where_the_run_stands_in_epochs() -> None:
    asked = ["scheduler=warmup_cosine", "trainer.max_epochs=4", "data.batch_size=7", "scheduler.floor=0"]
    assert train(f"resume={CHECKPOINT}", *asked, "run_folder=cosine") == 0  # one step an epoch where there were three
    expected = [0.5 * (1 + math.cos(math.pi * (epoch - 1) / 3)) for epoch in (3, 4)]  # the rates that the next step has
    assert rates("cosine")[6:] == pytest.approx([1e-3 * share for share in expected])


def test_values_that_are_repeated_unchanged_change_no_bit() -> None:
    assert train(f"resume={CHECKPOINT}", "trainer.max_epochs=3", "run_folder=plain") == 0
    again = ["decoder.hidden_size=12", "optimizer.lr=0.001", "seed=0", "data.year=2017"]
    assert train(f"resume={CHECKPOINT}", "trainer.max_epochs=3", *again, "run_folder=again") == 0
    assert differing(Path("plain/checkpoints/last.ckpt"), Path("again/checkpoints/last.ckpt")) == []


CANNOT = {
    "decoder.hidden_size=14": "weights were trained",
    "attention_size=11": "weights were trained",
    "encoder.channels=[5,8]": "weights were trained",
    "transform.size=32": "weights were trained",
    "encoder=resnet18": "no groups",
    "seed=3": "random states",
    "data.year=2014": "init=CHECKPOINT",
    "data.minimum_count=3": "init=CHECKPOINT",
    "data.limit=3": "init=CHECKPOINT",
    "validation.images=2": "best score",
    "validation.search.beams=2": "best score",
    "callbacks.checkpoints.monitor=val/BLEU-4": "best score",
    "callbacks.early_stopping.mode=min": "best score",
    "callbacks.fine_tune.epoch=1": "that epoch is over; give 2",
    "trainer.max_epochs=1": "2 epochs behind it",
    "optimizer.optimizer._target_=torch.optim.Adam": "another class",
}


@pytest.mark.parametrize("word", CANNOT)
def test_what_cannot_act_on_a_run_under_way_is_refused_by_name(word: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.iterdir())
    assert train(f"resume={CHECKPOINT}", word) == 2
    line = error(capsys)
    assert word.partition("=")[0] in line
    assert CANNOT[word] in line
    assert sorted(here.iterdir()) == before


def poisoned(key: str, value: Any) -> tuple[list[str], list[str]]:
    """The words that rerun and resume the run with a value of a stranger's: from config.yaml, and from the checkpoint."""
    config: Any = OmegaConf.load("one/config.yaml")
    OmegaConf.set_struct(config, False)
    OmegaConf.update(config, key, value, merge=False, force_add=True)
    Path("given/checkpoints").mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, "given/config.yaml")
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    torch.save({**checkpoint, "configuration": json.dumps(OmegaConf.to_container(config))}, "given/checkpoints/given.ckpt")
    return ["rerun=given"], ["resume=given/checkpoints/given.ckpt"]


LEADS_ELSEWHERE = {
    "outputs": "{out}",
    "callbacks.checkpoints.folder": "{out}",
    "callbacks.pictures.folder": "{out}/pictures",
    "callbacks.writer.folder": "../{out}",
    "callbacks.writer.latest": "{out}/latest",
    "callbacks.ema.decay": "${{oc.decode:0.5}}",
    "logger.csv.folder": "${{oc.env:HOME}}",
    "logger.board": {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "save_dir": "${run_folder}", "name": "../../{out}"},
    "logger.watcher": {"_target_": "lightning.pytorch.loggers.WandbLogger", "project": "x", "settings": {"base_url": "x"}},
    "data.cache_folder": "{out}",
    "data": {"_target_": "captioner.scenes.scenes.Scenes", "root": "{out}", "train": 9, "val": 5, "test": 3},
    "trainer.plugins": ["x"],
    "trainer.profiler": "advanced",
    "trainer.model_registry": "x",
    "callbacks.mine": {"_target_": "os.system", "command": "touch {out}"},
    "callbacks.mine.args": {"_target_": "captioner.atomic_files.write_atomically", "path": "{out}", "data": "x"},
    "trainer.callbacks": [{"_target_": "captioner.training.checkpoints.Checkpoints", "folder": "{out}"}],
    "search.constraints": {"_target_": "captioner.scenes.scenes.Scenes", "root": "{out}"},
    "optimizer.optimizer._args_": [{"_target_": "torch.load", "f": "{out}", "weights_only": False}],
    "encoder._target_": "captioner.bundle.torch.load",
    "decoder.attention.score._target_": "captioner.bundle.shutil.rmtree",
}


def filled(value: Any, out: str) -> Any:
    if isinstance(value, str):
        return value.replace("{out}", out).replace("{{", "{").replace("}}", "}")
    if isinstance(value, dict):
        return {key: filled(item, out) for key, item in value.items()}
    return [filled(item, out) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("key", LEADS_ELSEWHERE)
def test_a_strangers_record_writes_nowhere_and_runs_nothing(
    key: str, here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acted: list[str] = []
    monkeypatch.setattr("os.system", lambda *_: acted.append("system"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: acted.append("Popen"))
    out = tmp_path / "canary"
    value = filled(LEADS_ELSEWHERE[key], str(out))
    if key == "data":
        value = {**OmegaConf.to_container(OmegaConf.load("one/config.yaml").data), **value}
    for words in poisoned(key, value):
        assert train(*words, "run_folder=new") == 2
        line = error(capsys)
        assert key.partition(".")[0] in line
        assert not acted
        assert not out.exists()
        assert not Path("new").exists()


@pytest.mark.parametrize("levels", [1, 30])
def test_a_strangers_record_with_yaml_aliases_is_refused_before_they_are_followed(
    levels: int, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned("seed", 0)
    file = Path("given/config.yaml")
    lines = ["a0: &a0 [1, 2]", *(f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}, *a{level - 1}]" for level in range(1, levels + 1))]
    file.write_text("\n".join([*lines, file.read_text()]))
    assert train("rerun=given", "run_folder=new") == 2
    assert "given/config.yaml: not a run's configuration (it holds a YAML alias" in error(capsys)
    assert not Path("new").exists()


@pytest.mark.parametrize("key", ["logger", "data.cache_folder", "validation.images", "trainer.limit_val_batches", "seed"])
def test_a_record_without_a_key_that_every_run_reads_is_refused(key: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poisoned("seed", 0)
    record = OmegaConf.load("given/config.yaml")
    section, _, name = key.rpartition(".")
    del (OmegaConf.select(record, section) if section else record)[name]
    OmegaConf.save(record, "given/config.yaml")
    assert train("rerun=given", "run_folder=new") == 2
    assert key in error(capsys)
    assert not Path("new").exists()


def test_a_record_nested_without_end_is_refused_and_read_no_further(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To look at each of these brackets before the first is understood takes minutes."""
    Path("deep").mkdir()
    Path("deep/config.yaml").write_text('{"seed": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert train("rerun=deep", "run_folder=new") == 2
    assert "deep/config.yaml: not a run's configuration (" in error(capsys)


def test_a_record_that_is_no_file_is_no_run(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "config.yaml")
    assert train(f"rerun={tmp_path}", "run_folder=new") == 2
    assert "config.yaml: no such run; give a run's folder" in error(capsys)


def test_a_strangers_value_is_trusted_once_the_user_types_it(here: Path, tmp_path: Path) -> None:
    rerun, resume = poisoned("callbacks.pictures.folder", str(tmp_path / "pictures"))
    assert train(*rerun, f"callbacks.pictures.folder={tmp_path}/said", "trainer.max_epochs=1", "run_folder=said") == 0
    assert list((tmp_path / "said").iterdir())
    assert train(*resume, "callbacks.pictures.folder=null", "run_folder=said_too") == 0
    assert not (tmp_path / "pictures").exists()
