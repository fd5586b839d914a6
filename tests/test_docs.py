"""The pages name every kind and every class by its name, and the commands that they show work."""

import importlib.util
import re
from pathlib import Path

import pytest

from captioner.build import build
from captioner.training.configuration import compose_run, conf_folder, groups, plain

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = (DOCS / "attention_kinds.md").read_text(encoding="utf-8")
LINES = sorted(set(re.findall(r"^python train\.py(.*)$", PAGE, re.MULTILINE)))
PICTURES = sorted(set(re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE)))
ROOMS = ("score", "locality", "distribution", "readout")
KINDS = [
    f"{group}={choice}"
    for group, choices in groups(conf_folder()).items()
    for choice in choices
    if group in ("decoder", "objective/baseline", *(f"attention/{room}" for room in ROOMS))
]
SAID_OTHERWISE = {"attention/readout=sample": "attention=hard objective=hard"}
"""Kinds that another line chooses: drawing regions without REINFORCE would teach little."""


def test_the_classes_beside_the_paper_s_equations_are_where_the_page_says() -> None:
    page = (DOCS / "attention.md").read_text(encoding="utf-8")
    names = re.findall(r"\[`(\w+)`\]\((\.\./captioner/[\w/]+\.py)\)", page)
    assert len(names) > 15
    sources = {path: (DOCS / path).read_text(encoding="utf-8") for _, path in names}
    assert [(name, path) for name, path in names if not re.search(rf"^(class|def) {name}\b", sources[path], re.MULTILINE)] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_section_or_a_line_of_its_own(kind: str) -> None:
    words = {word for line in LINES for word in line.split()}
    assert kind in words or SAID_OTHERWISE[kind] in {line.strip() for line in LINES}
    assert re.search(rf"^### {kind.partition('=')[2]}$", PAGE, re.MULTILINE) or kind.startswith("objective/")


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_the_page_composes_and_builds_its_model(line: str) -> None:
    config = plain(compose_run(["experiment=scenes", *line.split()]))
    build(config["decoder"], "decoder", vocabulary_size=11)
    build(config["encoder"], "encoder")


@pytest.mark.parametrize("kind", ["adaptive", "hard", "multi_head", "soft", "local", "sparse"])
def test_every_whole_choice_of_attention_is_named(kind: str) -> None:
    assert (conf_folder() / "attention" / f"{kind}.yaml").is_file()
    assert f"`{kind}`" in PAGE


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_of_the_page_is_there(picture: str) -> None:
    assert (DOCS / picture).is_file()


def test_every_picture_of_the_page_is_drawn_by_the_program() -> None:
    named = set(re.findall(r'^    "(\w+)": ', (DOCS / "figures.py").read_text(encoding="utf-8"), re.MULTILINE))
    assert {Path(picture).stem for picture in PICTURES} == named


def test_the_page_of_commands_is_what_the_parsers_say() -> None:
    written = (DOCS / "commands.md").read_text(encoding="utf-8")
    spec = importlib.util.spec_from_file_location("commands_page", DOCS / "commands.py")
    assert spec is not None
    assert spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert program.page() == written, "run: python docs/commands.py"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted(DOCS.glob("*.md")))])
def test_links_inside_the_project_lead_somewhere(page: str) -> None:
    path = DOCS.parent / page
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    inside = [link for link in links if "://" not in link]
    assert [link for link in inside if not (path.parent / link).exists()] == []


def test_the_readme_is_as_long_as_a_reader_has_patience_for() -> None:
    assert len((DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
