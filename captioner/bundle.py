"""A folder of tensors and JSON, written whole or not at all; knows no model.

    model.safetensors   tensors by name
    config.json         {"format": 2, "files": {name: {"sha256": ...}}, ...}: what `build` needs to make the model again;
                        the format is 3 where tensors are packed into fewer bits
    vocabulary.json     words
    README.md           the model card

Nothing here unpickles code: JSON, safetensors, and `torch.load(weights_only=True)` for other people's `.pth` files.
"""

import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from captioner.atomic_files import atomic_folder, folder_or_backup
from captioner.errors import ArgumentError, BrokenModelError, InputError, listed, one_line
from captioner.formats import FORMAT, PACKED_FORMAT, READABLE, upgraded
from captioner.json_files import read_json
from captioner.packing import pack, unpack

TENSORS, CONFIG, VOCABULARY, CARD = "model.safetensors", "config.json", "vocabulary.json", "README.md"
FILES = (TENSORS, CONFIG, VOCABULARY, CARD)


def save(
    folder: str | Path,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    vocabulary: Mapping[str, Any],
    card: str,
    kind: str = "float32",
) -> None:
    """Write a model folder whole or not at all: `load` sees the old model or the new one, never half of one, also after a kill.

    Tensors that share memory are written once each, in the numbers that `kind` names (see `pack`).
    Raises: InputError, `folder` holds files that are no model's (they would be lost);
    ValueError, `config` has a key of ours ("format", "files") or is not JSON.
    """
    folder = Path(folder).resolve()
    reserved = {"format", "files"} & set(config)
    if reserved:
        raise ArgumentError("config", f"has the reserved key {sorted(reserved)}")
    _check_replaceable(folder)
    with atomic_folder(folder) as fresh:
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        (fresh / TENSORS).write_bytes(safetensors_bytes(pack(copies, kind)))
        (fresh / VOCABULARY).write_text(_json(vocabulary), encoding="utf-8")
        sums = {name: {"sha256": _sha256(fresh / name)} for name in (TENSORS, VOCABULARY)}
        (fresh / CONFIG).write_text(
            _json({"format": FORMAT if kind == "float32" else PACKED_FORMAT, **config, "files": sums}), encoding="utf-8"
        )
        (fresh / CARD).write_text(card, encoding="utf-8")


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: a model is a folder, but a file of that name is there; move it or choose another place")
    others = sorted(path.name for path in folder.iterdir() if path.name not in FILES)
    if others:
        raise InputError(f"{folder}: holds other files than a model's ({listed(others)}), which would be lost; choose another folder")


def _json(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except TypeError as error:
        raise ValueError(f"a bundle's configuration and vocabulary are JSON: {error}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """(tensors on the CPU, config without our own keys, vocabulary) of a folder that `save` wrote.

    The files are compared with the checksums of "files" in config.json, where that has them.
    Raises: InputError, the folder or a file is missing, damaged, or of another format.
    """
    before = _identity(folder)
    try:
        return _load(folder_or_backup(Path(folder)))
    except InputError:
        if _identity(folder) == before:
            raise
        return load(folder)  # it was replaced while we read it


def _identity(folder: str | Path) -> tuple[int, int] | None:
    """Device and inode of the folder that is there now."""
    try:
        status = folder_or_backup(Path(folder)).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    _check_whole(folder)
    config = _read_object(folder / CONFIG, "model configuration")
    if config.get("format") not in READABLE:
        version = repr(config["format"]) if "format" in config else "none"
        readable = f"this captioner reads {READABLE[0]} to {READABLE[-1]}; use the version that wrote it, or train again"
        raise InputError(f'{folder / CONFIG}: "format" is {version}, but {readable}')
    sums = config.pop("files", {})
    packed = config.pop("format") == PACKED_FORMAT
    vocabulary = _read_object(folder / VOCABULARY, "model vocabulary")
    tensors = read_tensors(folder / TENSORS, "model weights")
    for name in (TENSORS, VOCABULARY):
        entry = sums.get(name) if isinstance(sums, dict) else None
        if isinstance(entry, dict) and entry.get("sha256") != _sha256(folder / name):
            raise InputError(f"{folder / name}: damaged or of another model, by its checksum in {CONFIG}; copy or train it again")
    return unpack(tensors) if packed else tensors, config, vocabulary


def _check_whole(folder: Path) -> None:
    if not folder.is_dir():
        problem = "this is a file" if folder.exists() else "there is no such folder"
        raise InputError(f"{folder}: {problem}; a model is a folder with {TENSORS}, {CONFIG} and {VOCABULARY}")
    missing = [name for name in (CONFIG, VOCABULARY, TENSORS) if not (folder / name).is_file()]
    if len(missing) == 3:
        raise InputError(f"{folder}: no model is in this folder (no {TENSORS}, {CONFIG}, {VOCABULARY}); give a run's folder, or its model/")
    if missing:
        raise InputError(f"{folder / missing[0]}: missing, so {folder} is not a whole model; copy or train it again")


def _read_object(path: Path, what: str) -> dict[str, Any]:
    try:
        value = upgraded(read_json(path, what)) if path.name == CONFIG else read_json(path, what)
    except RecursionError:
        raise InputError(f"{path}: {what} is nested too deep to be one") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: {what} is a JSON object, not {type(value).__name__}")
    return value


def read_tensors(path: str | Path, what: str = "weights") -> dict[str, Tensor]:
    """Tensors by name from a `.safetensors` file or a `.pth`/`.pt` state dict (also one under "state_dict" or "model").

    Raises: InputError, the file is missing, damaged, or holds anything but tensors (a pickle is read with `weights_only=True`).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: {what} not found; check the path")
    _check_readable(path, what)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = _unpacked(path)
    except SafetensorError as error:
        raise InputError(f"{path}: {what} damaged or not safetensors ({one_line(error)})") from None
    except pickle.UnpicklingError:
        raise InputError(f"{path}: {what} damaged, or more than tensors is pickled in it, which is not loaded") from None
    except Exception as error:  # a damaged pickle fails in every way there is
        raise InputError(f"{path}: {what} damaged or not a state dict ({one_line(error, 200)})") from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not all(isinstance(key, str) and isinstance(item, Tensor) for key, item in state.items()):
        raise InputError(f"{path}: {what} is not a state dict (names -> tensors)")
    return dict(state)


def _check_readable(path: Path, what: str) -> None:
    """The libraries call a file that may not be read damaged, or missing."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: {what} cannot be read ({error.strerror or error}); check whose file it is") from None


def read_checkpoint(path: Path, mmap: bool = False) -> dict[str, Any]:
    """A training checkpoint's tensors and plain values. Raises: InputError, missing, damaged (and which to take instead), or none."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such checkpoint; a run keeps them in checkpoints/")
    _check_readable(path, "checkpoint")
    try:
        checkpoint = _unpacked(path, mmap)
    except pickle.UnpicklingError:
        why = "holds more than tensors and plain values, which is not loaded, or is damaged"
        raise InputError(f"{path}: {why}; {_instead_of(path)}") from None
    except Exception as error:  # whatever a damaged file makes torch raise
        why = f"{type(error).__name__}: {one_line(error, 120)}"
        raise InputError(f"{path}: damaged, or not a checkpoint of this captioner ({why}); {_instead_of(path)}") from None
    if not isinstance(checkpoint, dict):
        raise InputError(f"{path}: not a checkpoint of this captioner (it holds no named values)")
    return checkpoint


def _unpacked(path: Path, mmap: bool = False) -> Any:
    """What `torch.save` wrote, tensors and plain values only. Raises: any error, damaged.

    torch keeps a CRC-32 of every record, but does not check it when it reads. The check takes half as long as the reading.
    """
    if zipfile.is_zipfile(path):  # files of old versions of torch are not
        with zipfile.ZipFile(path) as archive:
            claimed, size = sum(record.file_size for record in archive.infolist()), path.stat().st_size
            if claimed > size:  # torch compresses nothing: 20 GB of packed zeros fit into a file of 20 MB
                raise zipfile.BadZipFile(f"its records claim {claimed:,} bytes, but the file has only {size:,}")
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"by its checksum, {damaged} in it is not what was written")
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _instead_of(path: Path) -> str:
    """What to take instead of a damaged checkpoint: the newest whole one beside it."""
    others = [other for other in path.parent.glob("*.ckpt") if other.name != path.name and not other.name.startswith(".")]
    for other in sorted(others, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            _unpacked(other, mmap=True)
        except Exception:  # damaged too
            continue
        return f"take {other} instead"
    return "there is no whole one beside it; take a copy of it, or begin the run again"


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Copy `tensors` into `module`; every name and shape must fit. The error begins with `where`.

    Raises: InputError, as `check_shapes`, or numbers that are not finite; nothing is copied then.
    """
    check_shapes(module, tensors, where)
    check_finite(tensors, where)
    module.load_state_dict(dict(tensors))


def check_shapes(module: nn.Module, tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Raises: InputError, names missing, unexpected or of another shape than in `module`; the error begins with `where`."""
    expected = module.state_dict()
    common = [name for name in expected if name in tensors]
    shapes = {name: (list(tensors[name].shape), list(expected[name].shape)) for name in common}
    problems = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "of another shape": [f"{name} {actual} instead of {shape}" for name, (actual, shape) in shapes.items() if actual != shape],
    }
    if any(problems.values()):
        text = "; ".join(f"{title}: {listed(names)}" for title, names in problems.items() if names)
        raise InputError(f"{where}: the tensors do not fit the model; {text}")


def check_finite(tensors: Mapping[str, Tensor], where: str | Path) -> None:
    """Raises: BrokenModelError, a tensor holds NaN or infinity; the error begins with `where`."""
    broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        verb = "holds" if len(broken) == 1 else "hold"
        why = "its training overflowed; train again with a lower optimizer.lr"
        raise BrokenModelError(f"{where}: {listed(broken, 1)} {verb} numbers that are not finite: {why}")
