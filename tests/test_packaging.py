"""pyproject.toml: what is imported is declared, and what the pages link to travels with the source."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
RUN_TIME = "torch torchvision pycocotools nltk pillow lightning hydra-core safetensors jaxtyping numpy"
COME_ALONG = {"torchmetrics": "lightning", "omegaconf": "hydra-core", "pyyaml": "omegaconf", "tqdm": "nltk"}
"""Packages that we import and that one of RUN_TIME brings: declared as well, so that no change of theirs takes them away."""


def canonical(requirement):
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def declared(requirements):
    return {canonical(requirement) for requirement in requirements}


def imported(folder):
    """Module -> the first file that imports it, of the modules that are neither Python's nor the folder's own."""
    own = {path.stem for place in (folder, ROOT / "docs") for path in place.rglob("*.py")} | {"captioner"}
    found = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                found.setdefault(name.split(".")[0], path.relative_to(ROOT).as_posix())
    return {name: path for name, path in found.items() if name not in own | set(sys.stdlib_module_names)}


def undeclared(folder, *lists):
    known, sources = set().union(*map(declared, lists)), packages_distributions()
    missing = {}
    for module, path in imported(folder).items():
        named = {name.lower().replace("_", "-") for name in sources.get(module, [module])}
        if not named & known:
            missing[module] = path
    return missing


def test_every_package_that_is_imported_is_declared():
    found = imported(ROOT / "captioner")
    assert {"torch", "PIL", "tqdm", "torchmetrics", "omegaconf", "hydra"} <= found.keys(), "or the reading of imports is broken"
    optional = [EXTRAS[name] for name in EXTRAS if name != "test"]
    assert undeclared(ROOT / "captioner", PROJECT["project"]["dependencies"], *optional) == {}


def test_every_package_that_the_tests_import_is_declared():
    assert undeclared(ROOT / "tests", PROJECT["project"]["dependencies"], EXTRAS["test"], EXTRAS["java"]) == {}


def test_every_run_time_dependency_is_one_of_the_fixed_list_or_comes_along_with_it_and_is_imported():
    names = declared(PROJECT["project"]["dependencies"])
    assert names == {*RUN_TIME.split(), *COME_ALONG}
    sources = packages_distributions()
    used = {name.lower().replace("_", "-") for module in imported(ROOT / "captioner") for name in sources.get(module, [module])}
    assert names <= used


def test_every_extra_that_a_message_names_exists_and_every_extra_is_used():
    files = [path for folder, kind in (("captioner", "*.py"), ("conf", "*.yaml")) for path in (ROOT / folder).rglob(kind)]
    named = {name for path in files for name in re.findall(r"captioner\[(\w+)\]", path.read_text(encoding="utf-8"))}
    assert {"java", "timm", "tensorboard", "wandb"} <= named
    assert named <= EXTRAS.keys()


def included(path):
    listed = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    return any(f"/{path}" == entry or f"/{path}".startswith(f"{entry}/") for entry in listed)


def test_the_sdist_lists_nothing_that_is_not_there():
    for entry in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]:
        assert (ROOT / entry.strip("/")).exists(), entry


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/attention_kinds.md", "Makefile"])
def test_what_a_page_of_the_sdist_leads_to_is_in_the_sdist(page):
    assert included(page)
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:\s]+)\)", text)
    programs = re.findall(r"\b((?:benchmarks|docs|notebooks|tests)/[\w./]+\.\w+)", text)
    targets = [(ROOT / page).parent / link for link in links] + [ROOT / program for program in programs]
    assert len(targets) > (0 if page in ("CONTRIBUTING.md",) else 3)
    for target in targets:
        assert included(target.resolve().relative_to(ROOT).as_posix()), f"{page} leads to {target}"
