"""Only what conf offers at a key may be built there: every name that can be reached is tried, and none acts."""

import importlib
import inspect
import json
import os
import pkgutil
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from runs import train

import captioner
from captioner import build as builder
from captioner import bundle, kinds
from captioner.build import build, import_target
from captioner.cli.main import main
from captioner.errors import InputError
from captioner.kinds import Offer, check, conf_folder, offered
from captioner.model import Captioner
from captioner.vocabulary import Vocabulary

ALIKE = {"decoder.attention": "attention", "encoder.trunk": "encoder", "validation.search": "search"}
FOREIGN = ("os", "subprocess", "shutil", "builtins", "torch", "pickle", "importlib", "runpy", "lightning.pytorch", "hydra.utils", "numpy")


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(captioner.__path__, "captioner."):
        if not found.name.startswith("captioner.conf"):
            yield importlib.import_module(found.name)
    yield from map(importlib.import_module, FOREIGN)


ACTING = ("system", "popen", "Popen", "run", "call", "load", "save", "open", "rmtree", "remove", "exec", "eval", "import_module")
"""What acts in other people's modules that ours import."""


def reachable() -> set[str]:
    """Dotted names of everything in a module, of everything in a class of ours, and of what acts in a module that one of ours imports."""
    names = set()
    for module in modules():
        names |= {f"{module.__name__}.{name}" for name in vars(module)}
        if module.__name__.startswith("captioner"):
            for name, value in vars(module).items():
                if inspect.ismodule(value):
                    names |= {f"{module.__name__}.{name}.{inner}" for inner in ACTING if hasattr(value, inner)}
                elif inspect.isclass(value) and value.__module__ == module.__name__:
                    names |= {f"{module.__name__}.{name}.{inner}" for inner in vars(value)}
    return names


def test_conf_offers_the_targets_of_its_files_at_their_keys() -> None:
    found = offered()
    assert dict(found.same) == ALIKE
    names = ("Softmax", "Sparsemax", "Entmax15")
    assert found.at("attention.distribution") == {f"captioner.attention.distribution.{name}" for name in names}
    assert found.at("decoder.attention.score") == found.at("attention.score")
    assert found.at("encoder.trunk.trunk") == found.at("encoder")
    assert found.at("validation.search.constraints") == {"captioner.search.constraints.Constraints"}
    assert found.at("objective.terms.mine.baseline") == found.at("objective.terms.reinforce.baseline")
    assert found.at("callbacks.mine") == found.at("callbacks.training_log")
    for nowhere in ("", "mine", "data.root", "callbacks", "callbacks.training_log.every", "trainer.logger", "encoder[0]"):
        assert not found.at(nowhere)
    assert found.keys["optimizer.optimizer"] == {"_target_", "_partial_", "betas", "eps", "alpha"}


def test_every_kind_is_a_class_or_function_of_the_module_in_its_name() -> None:
    for names in offered().kinds.values():
        for name in names:
            made = import_target(name, "")
            assert inspect.isclass(made) or inspect.isfunction(made)
            assert name.startswith("captioner.") == made.__module__.startswith("captioner.")
            assert not name.startswith("captioner.") or f"{made.__module__}.{made.__qualname__}" == name


def test_a_new_kind_is_one_file_in_conf(tmp_path: Path) -> None:
    shutil.copytree(conf_folder(), tmp_path / "conf")
    (tmp_path / "conf/attention/score/mine.yaml").write_text("# Mine.\n_target_: captioner.attention.score.Mine  # new\nwidth: 3\n")
    (tmp_path / "conf/callbacks/mine.yaml").write_text("defaults: [default]\nbell: {_target_: captioner.training.bell.Bell, loud: true}\n")
    found: Offer = offered(tmp_path / "conf")
    for place in ("attention.score", "decoder.attention.score"):
        assert found.at(place) - offered().at(place) == {"captioner.attention.score.Mine"}
    assert found.at("callbacks.anything") - offered().at("callbacks.anything") == {"captioner.training.bell.Bell"}


def test_no_name_that_can_be_reached_is_built_anywhere_but_where_conf_offers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names = reachable()
    assert {
        "captioner.bundle.torch.load",
        "captioner.atomic_files.write_atomically",
        "os.system",
        "captioner.training.writer.ModelWriter",
    } <= names
    assert len(names) > 3000
    imported: list[str] = []
    monkeypatch.setattr(builder.importlib, "import_module", imported.append)
    places = sorted(offered().kinds)
    for number, name in enumerate(sorted(names)):
        for place in (places[number % len(places)], "" if number % 2 else "mine"):
            if name not in offered().at(place):
                with pytest.raises(InputError) as caught:
                    build({"_target_": name}, place)
                assert f"_target_ {name!r} is refused" in str(caught.value)
    assert not imported


ACTS = ["os.system", "captioner.bundle.torch.load", "captioner.atomic_files.write_atomically", "captioner.training.writer.link_latest"]
PLACES = ["encoder", "decoder", "transform", "search", "search.constraints", "decoder.attention", "decoder.attention.score"]
PLACES += ["encoder.trunk", "decoder.dropout", "transform.mean"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from test_model import config

    folder = tmp_path_factory.mktemp("good") / "model"
    search = {"_target_": "captioner.search.beam.BeamSearch", "constraints": {"_target_": "captioner.search.constraints.Constraints"}}
    Captioner.from_config({**config(), "search": search}, Vocabulary(["a", "dog"])).save(folder)
    return folder


@pytest.fixture
def acted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What a poisoned configuration has done: commands run, files written."""
    found: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "system", lambda command: found.append(command))
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **_: found.append(str(given)))
    yield found
    found += [str(path) for path in tmp_path.rglob("canary*")]


def poison(config: Any, place: str, section: dict[str, Any]) -> Any:
    first, _, rest = place.partition(".")
    return {**config, first: poison(config.get(first, {}), rest, section) if rest else section}


@pytest.mark.parametrize("place", PLACES)
def test_a_poisoned_model_or_checkpoint_acts_nowhere_and_its_target_is_named(
    place: str, model: Path, acted: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((model / "config.json").read_text())
    vocabulary = (model / "vocabulary.json").read_text()
    tensors = bundle.load(model)[0]
    for target in ACTS:
        section = {"_target_": target, "command": "touch canary", "path": "canary", "data": "x", "f": "canary", "link": "canary"}
        bad = poison(config, place, section)
        shutil.copytree(model, "bad", dirs_exist_ok=True)
        Path("bad/config.json").write_text(json.dumps(bad))
        state = {f"captioner.{name}": tensor for name, tensor in tensors.items()}
        torch.save({"state_dict": state, "captioner": {"config": json.dumps(bad), "vocabulary": vocabulary}}, "bad.ckpt")
        for given in ("bad", "bad.ckpt"):
            with pytest.raises(InputError, match="is refused") as caught:
                Captioner.load(given)
            assert repr(target) in str(caught.value)
            assert place in str(caught.value)
            assert "\n" not in str(caught.value)
    Image.new("RGB", (9, 7)).save("photo.png")
    assert main(["predict", "photo.png", "--model", "bad"]) == 2
    assert repr(target) in capsys.readouterr().err
    assert not acted


@pytest.mark.parametrize(
    "word",
    [
        "+callbacks.mine._target_=os.system",
        "callbacks.training_log._target_=captioner.atomic_files.write_atomically",
        "+mine={_target_:os.system,command:touch canary}",
        "trainer._target_=captioner.bundle.torch.load",
        "+trainer.logger={_target_:captioner.training.writer.ModelWriter,folder:canary}",
        "search=greedy search._target_=captioner.encoders.small.SmallConv",
        "+optimizer.optimizer._args_=[{_target_:os.system}]",
        "encoder._target_=${oc.decode:os.system}",
        "+scheduler._recursive_=false",
        "data._target_=captioner.data.source.DataSource",
    ],
)
def test_a_command_line_builds_nothing_that_conf_does_not_offer(word: str, acted: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("experiment=scenes", *([word] if "{" in word else word.split())) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "is refused" in line or "means nothing" in line
    assert not acted
    assert not Path("outputs").exists()


def test_the_list_is_read_without_hydra() -> None:
    assert not {name for name in vars(kinds) if name in ("hydra", "omegaconf", "yaml", "torch")}
    with pytest.raises(InputError, match="nested"):
        check({"a": json.loads("[" * 60 + "]" * 60)})
