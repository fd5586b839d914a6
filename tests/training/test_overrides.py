"""Words of a command line: paths are taken as they stand, the rest as Hydra reads it, and a message shows what to type."""

import shlex
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from captioner.errors import InputError
from captioner.training.configuration import settle
from captioner.training.overrides import as_typed, parse_overrides, quoted

ODD = ["Jörg", "日本の猫", "a b", "x#y", "in~side", "p&q", "(copy)", "k=v", "it's", "100%", "a,b", "[old]", "{x}"]
ODD += ["2024", "1e3", "true", "C:\\x"]


def value(word: str) -> object:
    (override,) = parse_overrides([word])
    return override.value()


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("key", ["data.root", "data.train.annotations", "outputs", "encoder.weights", "callbacks.pictures.folder", "+init"])
def test_a_path_is_read_literally_whatever_its_letters(key: str, name: str) -> None:
    assert value(f"{key}={name}") == value(f"{key}=/data/{name}/x")[6:-2] == name  # type: ignore[index]


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=20))
def test_any_text_is_read_back_where_it_is_quoted_and_shells_read_what_messages_show(text: str) -> None:
    assert value(f"decoder.name={quoted(text)}") == text
    assert value(shlex.split(as_typed("data.root", text))[0]) == text or text.startswith("~")


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=30))
def test_any_word_is_read_or_refused(word: str) -> None:
    for given_word in (word, f"data.root={word}", f"optimizer.lr={word}", f"search.constraints.forbid=[{word}]"):
        with suppress(InputError):
            parse_overrides([given_word])


def test_null_and_quotes_and_references_keep_their_meaning() -> None:
    assert value("data.root=null") is None
    assert value("data.root='null'") == "null"
    assert value('data.root="a b"') == "a b"
    assert value("data.root=${outputs}/é") == "${outputs}/é"


def test_a_tilde_that_begins_a_path_is_the_user_s_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jörg")
    assert value("data.root=~/my photos") == "/home/jörg/my photos"
    assert value("outputs=~") == "/home/jörg"
    assert value("optimizer.name=~/x") == "~/x"


def test_words_beyond_ascii_are_read_in_lists_too() -> None:
    assert value("search.constraints.forbid=[naïve, dog,Größe]") == ["naïve", "dog", "Größe"]


@pytest.mark.parametrize("word", ["optimizer.lr=1e-3,1e-4", "encoder.channels=[5,7", "search.constraints={a"])
def test_a_message_shows_how_to_type_what_cannot_be_read(word: str) -> None:
    key, _, text = word.partition("=")
    with pytest.raises(InputError) as caught:
        parse_overrides([word])
    assert as_typed(key, text) in str(caught.value)


def test_a_lookup_is_recorded_by_its_value_and_one_that_leads_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTOS", "/data/photos")
    config = OmegaConf.create({"a": {"root": "${oc.env:PHOTOS}/x", "more": ["${oc.env:PHOTOS}"]}, "b": "${a.root}/y"})
    settle(config)
    assert OmegaConf.to_container(config) == {"a": {"root": "/data/photos/x", "more": ["/data/photos"]}, "b": "${a.root}/y"}
    lost = {"${DATA}/coco": r"a: \$\{DATA\} leads nowhere.*oc\.env:DATA", "${oc.env:NOT_THERE_AT_ALL}": "a: .*NOT_THERE_AT_ALL"}
    for text, message in lost.items():
        with pytest.raises(InputError, match=message):
            settle(OmegaConf.create({"a": text}))
