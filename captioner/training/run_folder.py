"""A run's folder: its own name, one process that writes there, and the files that a resumed run takes along."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from captioner.atomic_files import atomic_folder, check_writable, folder_or_backup, remove_temporaries, restore_backup, write_atomically
from captioner.bundle import read_checkpoint
from captioner.errors import InputError
from captioner.json_files import read_json
from captioner.locks import locked_folder, remove_stale_lock
from captioner.processes import is_first_process
from captioner.training.metrics_file import copy_rows

STAMP = "CAPTIONER_RUN_STAMP"
"""Environment variable: the last part of the folder's name, where it is a time; the processes of one run share it."""

NUMBERED = re.compile(r"(-\d\d)_\d+$")
"""The end of a time that has a number already: 2026-01-31_12-00-00_2."""


def check_places(config: Mapping[str, Any]) -> None:
    """Before data are read or drawn. Raises: InputError, a folder to write to has no name, or cannot be written to."""
    data = config["data"]
    folders = {"outputs": config["outputs"], "run_folder": config["run_folder"], "data.cache_folder": data["cache_folder"]}
    folders |= {"data.root": data["root"]} if data.get("root") is not None else {}
    for key, folder in folders.items():
        if not str(folder or "").strip():
            raise InputError(f"{key}: is empty; give a folder, or leave {key}= out")
    cache = Path(data["cache_folder"])
    if data["cache_features"] and not (cache.is_dir() and any(cache.iterdir())):  # else what is needed may be there already
        check_writable(cache, "data.cache_folder")


@contextmanager
def claim_folder(composed: DictConfig, resume: Path | None) -> Iterator[Path]:
    """Make the run's folder, in which only this process writes while it is entered; put its name into the configuration.

    Where another run took the same time as its name, this one gets the next number. A folder in which nothing was written is deleted.
    Raises: InputError, another run's files are there, or another process writes there, or nothing can be written.
    """
    is_time = os.environ.get(STAMP) == Path(composed.run_folder).name
    if not is_first_process():
        if is_time:
            _rename(composed, shared_name(Path(composed.run_folder).name))
        yield Path(composed.run_folder)
        return
    check_writable(Path(composed.run_folder), "outputs" if is_time else "run_folder")
    missing = [folder for folder in Path(composed.run_folder).parents if not folder.exists()]
    folder = _make_numbered(composed) if is_time else Path(composed.run_folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shared_name(folder.name)
        with locked_folder(folder, f"run_folder={folder}"):
            if (folder / "config.yaml").exists() and (resume is None or run_of(resume) != folder.resolve()):
                raise InputError(f"run_folder: {folder} holds a run already; choose another folder, or go on with that one by resume=")
            yield folder
    finally:
        with suppress(OSError):  # there is something in it
            for empty in (folder, *missing):
                empty.rmdir()


def _make_numbered(composed: DictConfig) -> Path:
    first, number = Path(composed.run_folder), 1
    first.parent.mkdir(parents=True, exist_ok=True)
    folder = first
    for run in first.parent.iterdir():
        delete_leftovers(run)
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = first.with_name(NUMBERED.sub(r"\1", first.name) + f"_{number}")
            continue
        if number > 1:
            _rename(composed, folder.name)
        return folder


def _rename(composed: DictConfig, name: str) -> None:
    os.environ[STAMP] = name
    recorded: Any = OmegaConf.to_container(composed)
    composed.run_folder = str(Path(str(recorded["run_folder"])).with_name(name))


def shared_name(name: str) -> str:
    """The name that the first process of a run gave; where torchrun began them all, its store passes it to the others."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return name
    from torch.distributed import TCPStore

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    key = f"{STAMP}_{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    if is_first_process():
        store.set(key, name)
    return store.get(key).decode()


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run whose `checkpoints/` a checkpoint lies in; None where it lies elsewhere."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else None


def delete_leftovers(run: Path) -> None:
    """Delete the unfinished files of killed processes, checkpoints of many megabytes among them."""
    for place in (run, run / "checkpoints", run / "results"):
        remove_temporaries(place, always=True)
    remove_stale_lock(run / ".lock")


def begin_folder(folder: Path, config: str, resume: Path | None) -> None:
    """Write `config.yaml`; copy the rows of numbers and the best model so far of the run that is resumed."""
    write_atomically(folder / "config.yaml", config)
    restore_backup(folder / "model")
    old = None if resume is None else run_of(resume)
    if resume is None or old is None:
        return
    delete_leftovers(old)
    checkpoint = read_checkpoint(resume, mmap=True)
    copy_rows(old / "metrics.csv", folder / "metrics.csv", checkpoint["global_step"])
    scores = old / "results" / "scores_val.json"
    model = folder_or_backup(old / "model")
    has_best = old != folder.resolve() and model.is_dir() and scores.is_file()
    if has_best and read_json(scores, "scores").get("epoch", 0) <= checkpoint["epoch"] + 1:
        for name, source in (("model", model), ("results", old / "results")):
            with atomic_folder(folder / name) as fresh:
                shutil.copytree(source, fresh, dirs_exist_ok=True)
