"""The house: a floor imports only from floors below, rooms on one floor do not meet, and prediction never reaches training's packages."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "captioner"

FLOORS = {
    0: [
        "arguments",
        *("records", "box", "formats", "vocabulary", "tokenizer", "errors", "atomic_files", "json_files", "ids", "locks", "processes"),
        *("kinds", "processor", "progress", "devices", "caption", "packing"),
    ],
    1: ["build", "bundle", "attention", "objectives", "search", "metrics", "maps", "data"],
    2: ["scenes", "encoders", "decoders", "captioning", "saved_models"],
    3: ["model"],
    4: ["ensemble", "explain", "training"],
    5: ["cli"],
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(module):
    """captioner.maps.sheet -> maps; captioner -> the door, which has no room."""
    return module.split(".")[1] if "." in module else ""


def imports(path):
    """(line, module) of every import in the file, at its top and inside functions; `from captioner import x` is captioner.x."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively; write the whole name"
            inside = node.module == "captioner"
            yield from ((node.lineno, f"captioner.{alias.name}" if inside else node.module or "") for alias in node.names)


def climbs(importer, imported):
    """Why `importer` must not import `imported`, or None."""
    here, there = room(importer), room(imported)
    if here == there or there not in FLOOR:
        return None
    if FLOOR[there] > FLOOR[here]:
        return f"floor {FLOOR[here]} climbs to floor {FLOOR[there]}"
    if FLOOR[there] == FLOOR[here] and FLOOR[here] > 0:
        return f"{here} and {there} are rooms on one floor"
    return None


def test_every_room_has_a_floor():
    rooms = {room(name(path)) for path in MODULES} - {""}
    assert rooms <= FLOOR.keys(), f"say on which floor {sorted(rooms - FLOOR.keys())} lie"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_floor_climbs_and_no_rooms_meet(path):
    if path == PACKAGE / "__init__.py":
        return  # the public door, lazily
    importer = name(path)
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {importer} imports {imported}: {why}"
        for line, imported in imports(path)
        if imported.split(".")[0] == "captioner" and (why := climbs(importer, imported))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("importer", "imported", "why"),
    [
        ("captioner.records", "captioner.model", "floor 0 climbs to floor 3"),
        ("captioner.search.beam", "captioner.attention.score", "rooms on one floor"),
        ("captioner.encoders.trunk", "captioner.decoders.lstm", "rooms on one floor"),
        ("captioner.explain.grounding", "captioner.training.module", "rooms on one floor"),
        ("captioner.search.beam", "captioner.search.hypotheses", None),
        ("captioner.data.captions", "captioner.tokenizer", None),
        ("captioner.atomic_files", "captioner.errors", None),
    ],
)
def test_the_rule_tells_a_climb_from_a_step_down(importer, imported, why):
    found = climbs(importer, imported)
    assert (found is None) if why is None else (why in found)


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py" and path.parent != PACKAGE], ids=name)
def test_init_files_hold_no_code(path):
    assert path.read_text().strip() == ""


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_lightning_stays_in_training_and_hydra_behind_its_door(path):
    wholes = {imported.split(".")[0] for _, imported in imports(path)}
    assert room(name(path)) == "training" or not wholes & {"lightning", "pytorch_lightning"}
    assert room(name(path)) == "training" or name(path) == "captioner.cli.train" or not wholes & {"hydra", "omegaconf"}


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_annotations_are_evaluated_not_kept_as_strings(path):
    assert "__future__" not in {imported for _, imported in imports(path)}


def reached(*modules):
    """What a fresh interpreter has imported after importing these."""
    code = f"import sys, importlib\nfor m in {modules!r}: importlib.import_module(m)\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {module.split(".")[0] for module in done.stdout.split()}


def test_nothing_that_predict_reaches_imports_lightning_hydra_or_nltk():
    packages = reached("captioner.cli.main", "captioner.cli.predict", "captioner.model")
    assert "torch" in packages
    assert not packages & {"lightning", "pytorch_lightning", "hydra", "omegaconf", "nltk"}


def test_scoring_a_results_file_imports_no_torch():
    packages = reached("captioner.cli.main", "captioner.cli.evaluate", "captioner.metrics.scores")
    assert "numpy" in packages
    assert not packages & {"torch", "torchvision", "lightning", "nltk"}


def test_the_public_door_opens_only_when_it_is_used():
    assert "torch" not in reached("captioner")


TOP_LEVEL = {
    *("captioner", "conf", "train.py", "predict.py", "tests", "notebooks", "pyproject.toml"),
    *("README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt", ".ci", ".gitignore", "benchmarks", "docs"),
}


def test_the_top_level_is_what_it_is_meant_to_be():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("this is no checkout of git")
    assert {path.split("/")[0] for path in listed.stdout.split()} <= TOP_LEVEL


FOLDERS_OF_PROGRAMS = {folder: sorted((ROOT / folder).rglob("*.py")) for folder in ("tests", "benchmarks")}


@pytest.mark.parametrize(("folder", "other"), [("tests", "benchmarks"), ("benchmarks", "tests")])
def test_tests_and_benchmarks_import_nothing_from_each_other(folder, other):
    """What both use lies in docs/tools/."""
    names = {kind: {path.stem for path in paths} for kind, paths in FOLDERS_OF_PROGRAMS.items()}
    foreign = {other, *names[other] - names[folder]}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for path in FOLDERS_OF_PROGRAMS[folder]
        for line, imported in imports(path)
        if imported.split(".")[0] in foreign
    ]
    assert not wrong, "\n".join(wrong)


IMPORTED_AS = {"pillow": "PIL", "hydra_core": "hydra", "pyyaml": "yaml", "pillow_heif": "pillow_heif"}
"""Packages that are imported under another name than they are installed by."""


def test_what_is_imported_is_declared_in_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = [re.match(r"[\w-]+", requirement)[0].replace("-", "_") for requirement in requirements]
    declared = {"captioner", *sys.stdlib_module_names, *(IMPORTED_AS.get(name, name) for name in names)}
    wrong = {
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for path in MODULES
        for line, imported in imports(path)
        if imported.split(".")[0] not in declared
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_no_two_test_files_have_one_name():
    """pytest imports a test file by its bare name, and would refuse the second."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))
