"""A run has a folder of its own."""

import os
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from captioner.atomic_files import write_atomically
from captioner.errors import InputError
from captioner.training.run_folder import STAMP, check_places, claim_folder


@pytest.fixture(autouse=True)
def stamp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STAMP, "now")


def test_runs_that_start_in_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    """Many processes that all found the name free."""
    children = []
    for _ in range(8):
        child = os.fork()
        if child == 0:
            named = {"outputs": str(tmp_path), "run_folder": "${outputs}/kind/now", "deeper": {"to": "${run_folder}/x"}}
            composed = OmegaConf.create(named)
            with claim_folder(composed, None) as folder:
                assert composed.deeper.to == f"{folder}/x"
                write_atomically(folder / "config.yaml", "")
                time.sleep(0.2)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    runs = sorted(run.name for run in (tmp_path / "kind").iterdir())
    assert runs == ["now", *[f"now_{number}" for number in range(2, 9)]]
    assert {tuple(os.listdir(tmp_path / "kind" / run)) for run in runs} == {("config.yaml",)}


def test_a_time_that_has_a_number_as_a_name_gets_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("2026-01-31_12-00-00", "2026-01-31_12-00-00_2"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv(STAMP, "2026-01-31_12-00-00_2")
    with claim_folder(OmegaConf.create({"run_folder": str(tmp_path / "2026-01-31_12-00-00_2")}), None) as folder:
        assert folder.name == "2026-01-31_12-00-00_3"


def test_a_typed_folder_is_refused_in_one_line_where_another_run_writes_or_wrote(tmp_path: Path) -> None:
    composed = OmegaConf.create({"run_folder": str(tmp_path / "mine")})
    with claim_folder(composed, None) as folder:
        with pytest.raises(InputError, match=rf"run_folder=.*mine: process {os.getpid()} on .* writes there now"):
            claim_folder(composed, None).__enter__()
        write_atomically(folder / "config.yaml", "")
    with pytest.raises(InputError, match="holds a run already"):
        claim_folder(composed, None).__enter__()
    with claim_folder(composed, folder / "checkpoints" / "last.ckpt"):
        pass


def test_a_run_that_writes_nothing_leaves_no_folder(tmp_path: Path) -> None:
    composed = OmegaConf.create({"run_folder": str(tmp_path / "outputs" / "kind" / "now")})
    with pytest.raises(ZeroDivisionError), claim_folder(composed, None):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["outputs", "run_folder", "data.cache_folder", "data.root"])
def test_a_folder_without_a_name_is_refused(key: str) -> None:
    config = OmegaConf.create(
        {"outputs": "a", "run_folder": "a/b", "data": {"cache_folder": "c", "root": "d", "cache_features": False}},
    )
    check_places(OmegaConf.to_container(config))  # type: ignore[arg-type]
    OmegaConf.update(config, key, "")
    with pytest.raises(InputError, match=f"{key}: is empty"):
        check_places(OmegaConf.to_container(config))  # type: ignore[arg-type]
