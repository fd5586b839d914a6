"""Tokens as the COCO scorers make them; the oracle is their Java program, what it said of the tricky lines is kept beside."""

import importlib.util
import json
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.tokenizer import DROPPED, tokenize

TRICKY = [line.split("\t") for line in (Path(__file__).parent / "tricky_captions.tsv").read_text().splitlines()]


@pytest.mark.parametrize(("caption", "tokens"), TRICKY)
def test_tricky_captions_come_out_as_the_java_program_has_them(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man riding a wave on top of a surfboard.", "a man riding a wave on top of a surfboard"),
        ("Two dogs , one black , play .\n", "two dogs one black play"),
        ("", ""),
        (" \t\n", ""),
        ("...", ""),
        ("A dog,a cat", "a dog a cat"),
        ("a\tb\nc", "a b c"),
        ("A man cannot.", "a man can not"),
    ],
)
def test_plain_captions(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("ကွေးတစ်ကောင် ပြေး", "ကွေးတစ်ကောင် ပြေး"),
        ("ខ្មែរ ឆ្កែ", "ខ្មែរ ឆ្កែ"),
        ("ಕನ್ನಡ ನಾಯಿ", "ಕನ್ನಡ ನಾಯಿ"),
        ("ଓଡ଼ିଆ କୁକୁର", "ଓଡ଼ିଆ କୁକୁର"),
        ("ලංකා බල්ලා", "ලංකා බල්ලා"),
        ("മലയാളം നായ", "മലയാളം നായ"),
        ("ਪੰਜਾਬੀ ਕੁੱਤਾ", "ਪੰਜਾਬੀ ਕੁੱਤਾ"),
        ("一𠀀 二〇二〇", "一𠀀 二〇二〇"),
        ("𞤀𞥄 𑀓𑀼", "𞤢𞥄 𑀓𑀼"),
    ],
)
def test_words_of_scripts_that_the_java_program_is_too_old_for_stay_whole(caption: str, tokens: str) -> None:
    assert tokenize(caption) == tokens.split()


MARKED = st.characters(categories=("Lo", "Ll", "Mn", "Mc"), min_codepoint=0x0900, max_codepoint=0x1CFF)


@given(st.lists(st.tuples(st.characters(categories=("Lo",), min_codepoint=0x0900, max_codepoint=0x109F), st.text(MARKED, max_size=5))))
def test_letters_with_any_marks_after_them_are_one_word(pieces: list[tuple[str, str]]) -> None:
    words = [(first + rest).lower() for first, rest in pieces]
    assert tokenize(" ".join(words)) == words


@pytest.mark.parametrize("accent", ["\u0300", "\u0301", "\u0308", "\u0323", "\u0327"])
def test_an_accent_written_apart_belongs_to_its_letter(accent: str) -> None:
    for word in (f"cafe{accent}", f"a{accent}b", f"x{accent}{accent}y{accent}"):
        assert tokenize(f"The {word}, and '{word}' ({word}).") == f"the {word} and {word} -lrb- {word} -rrb-".split()


@given(st.text(max_size=40))
def test_any_text_gives_tokens_without_white_space(caption: str) -> None:
    for token in tokenize(caption):
        assert token.split() == [token]
        assert token not in DROPPED


@given(st.lists(st.sampled_from(["a", "dog", "the", "two", "men", "riding", "bikes"]), max_size=9))
def test_plain_words_are_tokens_already_and_tokenizing_again_changes_nothing(words: list[str]) -> None:
    assert tokenize(" ".join(words)) == words
    assert tokenize(" ".join(words).capitalize() + " .") == words


def test_the_short_way_and_the_rules_agree() -> None:
    for word in ["A", "dog", "I", "Mr", "street", "cannot", "gonna"]:
        assert tokenize(f"see {word} run") == tokenize(f'"see {word} run"')
        assert tokenize(f"see the {word} .") == tokenize(f'"see the {word} ."')


@pytest.mark.parametrize("ending", [".", " .", ".\n", "", ",", " , ."])
def test_plain_captions_never_reach_the_rules_and_lose_nothing_by_it(ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["dog", "I", "b", "Mr", "mr", "JR", "st", "ave", "Mass", "mass", "in", "no", "NO", "cannot", "gonna", "etc", "fig", "v", "us"]
    captions = [f"{start}{word}{ending}" for start in ("", "a big ", "a dog,", "a dog. ") for word in words]
    short = [tokenize(caption) for caption in captions]
    monkeypatch.setattr("captioner.tokenizer._PLAIN", re.compile("(?!)"))
    assert [tokenize(caption) for caption in captions] == short


def test_twenty_five_thousand_captions_take_well_under_a_second() -> None:
    captions = [caption for caption, _ in random.Random(0).choices(TRICKY, k=2_500)]
    captions += ["A black and white dog is running through the tall grass.", "Two men ride bikes ."] * 11_250
    start = time.process_time()
    for caption in captions:
        tokenize(caption)
    assert time.process_time() - start < 3  # 0.3 s on an idle core; room for a busy one


def _java(captions: list[str], folder: Path) -> list[list[str]]:
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or shutil.which("java") is None:
        pytest.skip("pycocoevalcap or java is not installed: no outside tokenizer to compare with")
    jar = Path(next(iter(found.submodule_search_locations or []))) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    lines = folder / "captions.txt"
    lines.write_text("\n".join(caption.replace("\n", " ") for caption in captions))
    command = ["java", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase", str(lines)]
    said = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\n")
    return [" ".join(token for token in line.rstrip().split(" ") if token not in DROPPED).split() for line in said[: len(captions)]]


def test_all_real_captions_come_out_as_the_java_program_has_them(real_data: Path, tmp_path: Path) -> None:
    files = sorted(real_data.glob("*/annotations/captions_*.json"))
    captions = [annotation["caption"] for path in files for annotation in json.loads(path.read_text())["annotations"]]
    differing = [caption for caption, tokens in zip(captions, _java(captions, tmp_path), strict=True) if tokenize(caption) != tokens]
    assert len(differing) <= len(captions) // 10_000, differing[:10]
