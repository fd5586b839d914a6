"""Truth of captions against drawn scenes, held against a reader that tries every choice of objects."""

import json
import random
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import InputError
from captioner.scenes.grammar import lexicon, plural, write_caption
from captioner.scenes.layout import sample_scene, unseen_combinations
from captioner.scenes.truth import caption_truth, read_scenes, truth_share
from captioner.tokenizer import tokenize

LEXICON = lexicon()


def thing(kind: str, colour: str, size: str, x: float, y: float) -> dict:
    return {"kind": kind, "colour": colour, "size": size, "x": x, "y": y}


def scene(*objects: dict, in_front: tuple = ()) -> dict:
    return {"width": 100, "height": 80, "objects": list(objects), "in_front": [list(pair) for pair in in_front]}


SCENE = scene(
    thing("circle", "red", "small", 20, 20),
    thing("star", "blue", "large", 50, 40),
    thing("circle", "red", "large", 80, 42),
    thing("square", "red", "small", 84, 60),
    in_front=((3, 2),),
)


@pytest.mark.parametrize(
    ("caption", "true", "claims"),
    [
        ("a red circle .", True, 2),
        ("a small red disc is left of a big blue star .", True, 7),
        ("a large red circle is left of a blue star", False, 6),
        ("a red circle to the right of a blue star", True, 5),
        ("two red circles and a blue star", True, 5),
        ("a red circle and another red circle", True, 4),
        ("a red circle , another red circle and another red circle", False, 6),
        ("three red circles", False, 3),
        ("two circles", True, 2),
        ("a circle , a star and a red square", True, 4),
        ("there are four shapes including a blue star and a red square", True, 5),
        ("three shapes including a blue star", False, 3),
        ("three red shapes including a blue star", False, 4),
        ("three red objects including a red square", True, 4),
        ("two red circles including a red square", False, 5),
        ("a red square is in front of a large red circle", True, 6),
        ("a red square is behind a red circle", False, 5),
        ("a large red circle partly hidden by a red square", True, 6),
        ("a small red circle in the upper left", True, 4),
        ("in the upper left is a large red circle", False, 4),
        ("in the lower right there is a red square", True, 3),
        ("to the left of a blue star is a red circle", True, 5),
        ("a blue star in the middle and a red square below a red circle", True, 8),
        ("a blue star above a red circle", False, 5),  # 2 px are no distance
        ("a red circle above a blue star", True, 5),
        ("two red circles above a red square", True, 6),
        ("two red circles left of a blue star", False, 6),  # one of them is on its right
    ],
)
def test_a_caption_is_true_when_a_reading_makes_all_of_it_true(caption: str, true: bool, claims: int) -> None:
    verdict = caption_truth(caption, SCENE, LEXICON)
    assert (verdict.true, len(verdict.claims)) == (true, claims)


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "and",
        "there is",
        "a red",
        "a red circle left of a blue",
        "a red circle left of",
        "a red circle is",
        "red circle",
        "a circle red",
        "a red small circle",
        "a red red circle",
        "two red circle",
        "a red circles",
        "a red circle a blue star",
        "a red circle and and a blue star",
        "a red circle and",
        "<unk> a red circle",
        "a red shiny circle",
        "a red circle including a blue star",
        "left of a blue star",
        "a shape",
        "a red circle left of a blue star there is",
    ],
)
def test_a_broken_caption_is_not_true(caption: str) -> None:
    assert not caption_truth(caption, SCENE, LEXICON).true


def test_claims_say_which_of_them_fails() -> None:
    verdict = caption_truth("a small red star is left of a green circle", SCENE, LEXICON)
    assert [(claim.about, claim.true) for claim in verdict.claims] == [
        ("kind", True), ("colour", False), ("size", False), ("kind", True), ("colour", False), ("relation", False),
    ]  # fmt: skip


def test_mentions_name_the_objects_of_every_reading() -> None:
    verdict = caption_truth("there is a red disc , left of nothing", SCENE, LEXICON)
    assert [(m.word_index, m.first, m.objects) for m in verdict.mentions] == [(4, 2, [0, 2])]
    verdict = caption_truth("a red circle is left of a blue star .", SCENE, LEXICON)
    assert [(m.word_index, m.objects, m.generic) for m in verdict.mentions] == [(2, [0], False), (8, [1], False)]
    verdict = caption_truth("four shapes including a red circle and a red square", SCENE, LEXICON)
    assert [(m.word_index, m.objects, m.generic) for m in verdict.mentions] == [
        (1, [0, 1, 2, 3], True),
        (5, [0, 2], False),
        (9, [3], False),
    ]


WORD = {"kind": ("circle", "square"), "colour": ("red", "blue"), "size": ("small", "large")}
objects = st.lists(
    st.builds(thing, *(st.sampled_from(WORD[key]) for key in WORD), st.integers(5, 95), st.integers(5, 75)), min_size=1, max_size=4
)


@st.composite
def scenes(draw: st.DrawFn) -> dict:
    found = draw(objects)
    pairs = [(i, j) for i in range(len(found)) for j in range(i) if draw(st.booleans())]
    return scene(*found, in_front=tuple(pairs))


def optional(values: tuple[str, ...]) -> st.SearchStrategy:
    return st.none() | st.sampled_from(values)


singular = st.tuples(st.just(1), optional(WORD["size"]), optional(WORD["colour"]), optional(WORD["kind"]))
plurals = st.tuples(st.integers(2, 4), optional(WORD["size"]), optional(WORD["colour"]), optional(WORD["kind"]))
phrases = singular | plurals
says = st.sampled_from(["left", "right", "above", "below", "front", "behind"])
places = st.sampled_from(["upper left", "upper right", "lower left", "lower right", "left", "right", "top", "bottom", "middle"])
sentences = st.one_of(
    st.tuples(st.just("relate"), st.tuples(phrases, phrases), says),
    st.tuples(st.just("invert"), st.tuples(phrases, phrases), says),
    st.tuples(st.just("place"), st.tuples(phrases), places),
    st.tuples(st.just("list"), st.lists(phrases, min_size=1, max_size=4).map(tuple), st.none()),
    st.tuples(
        st.just("include"), st.lists(singular, min_size=1, max_size=3).flatmap(lambda rest: plurals.map(lambda p: (p, *rest))), st.none()
    ),
)


def speak(sentence: tuple, rng: random.Random) -> str:
    """Put a sentence in words, with any synonym."""

    def word(table: str, meaning: str) -> str:
        return rng.choice([text for text, means in LEXICON[table].items() if means == meaning])

    def phrase(asked: tuple) -> str:
        number, size, colour, kind = asked
        noun = rng.choice(LEXICON["generic"]) if kind is None else word("kinds", kind)
        words = [
            "a" if number == 1 else word("numbers", number),
            size and word("sizes", size),
            colour,
            noun if number == 1 else plural(noun),
        ]
        return " ".join(filter(None, words))

    def series(parts: list[str]) -> str:
        return parts[0] if len(parts) == 1 else " , ".join(parts[:-1]) + " and " + parts[-1]

    frame, asked, extra = sentence
    parts = [phrase(a) for a in asked]
    if frame == "relate":
        return f"{rng.choice(['', 'there is '])}{parts[0]} {rng.choice(['', 'is '])}{word('relations', extra)} {parts[1]} ."
    if frame == "invert":
        return f"{word('relations', extra)} {parts[1]} {rng.choice(['is', 'there is'])} {parts[0]} ."
    if frame == "place":
        return f"{parts[0]} {rng.choice(['', 'is '])}{word('positions', extra)}"
    if frame == "include":
        return f"{parts[0]} including {series(parts[1:])}"
    return series(parts)


def reads_true(sentence: tuple, shown: dict) -> bool:
    """The oracle: give every phrase every set of objects there is, and look whether any choice keeps all the rules."""
    frame, asked, extra = sentence
    everything = shown["objects"]
    sets = [[i for i in range(len(everything)) if bits >> i & 1] for bits in range(1, 2 ** len(everything))]

    def fits(i: int, ask: tuple) -> bool:
        return (everything[i]["size"], everything[i]["colour"], everything[i]["kind"]) == tuple(
            want or everything[i][key] for want, key in zip(ask[1:], ("size", "colour", "kind"), strict=True)
        )

    def relates(i: int, j: int) -> bool:
        a, b = everything[i], everything[j]
        return {
            "left": b["x"] >= a["x"] + 5, "right": a["x"] >= b["x"] + 5, "above": b["y"] >= a["y"] + 5, "below": a["y"] >= b["y"] + 5,
            "front": [i, j] in shown["in_front"], "behind": [j, i] in shown["in_front"],
        }[extra]  # fmt: skip

    def lies(i: int) -> bool:
        x, y = everything[i]["x"], everything[i]["y"]
        if extra == "middle":
            return 30 <= x <= 70 and 24 <= y <= 56
        rules = {"left": x < 50, "right": x > 50, "upper": y < 40, "top": y < 40, "lower": y > 40, "bottom": y > 40}
        return all(rules[part] for part in extra.split())

    for choice in product(sets, repeat=len(asked)):
        named = [set(s) for s in choice]
        good = all(len(s) == ask[0] and all(fits(i, ask) for i in s) for s, ask in zip(named, asked, strict=True))
        good = good and all(ask[0] == 1 or sum(fits(i, ask) for i in range(len(everything))) == ask[0] for ask in asked)
        apart = named[1:] if frame == "include" else named
        good = good and sum(map(len, apart)) == len(set().union(*apart))
        if frame == "include":
            good = good and all(s <= named[0] for s in named[1:])
        if frame in ("relate", "invert"):
            good = good and all(relates(i, j) for i in named[0] for j in named[1])
        if frame == "place":
            good = good and all(lies(i) for i in named[0])
        if good:
            return True
    return False


@settings(max_examples=400, deadline=None)
@given(scenes(), sentences, st.randoms(use_true_random=False))
def test_the_verdict_is_that_of_trying_every_choice(shown: dict, sentence: tuple, rng: random.Random) -> None:
    text = speak(sentence, rng)
    verdict = caption_truth(text, shown, LEXICON)
    assert verdict.true == (reads_true(sentence, shown) and bool(verdict.claims)), text
    if verdict.true:
        assert all(claim.true for claim in verdict.claims)
        assert all(mention.objects for mention in verdict.mentions)


@settings(max_examples=150, deadline=None)
@given(scenes(), sentences, st.randoms(use_true_random=False))
def test_an_unknown_word_anywhere_makes_a_caption_untrue(shown: dict, sentence: tuple, rng: random.Random) -> None:
    words = tokenize(speak(sentence, rng))
    words.insert(rng.randrange(len(words) + 1), "zebra")
    assert not caption_truth(" ".join(words), shown, LEXICON).true


vocabulary = sorted(
    {word for table in LEXICON.values() if isinstance(table, dict | list) for text in table for word in text.split()} | {"and", "zebra"}
)


@settings(max_examples=200, deadline=None)
@given(scenes(), st.text(max_size=60) | st.lists(st.sampled_from(vocabulary), max_size=25).map(" ".join))
def test_any_text_gets_a_verdict(shown: dict, text: str) -> None:
    verdict = caption_truth(text, shown, LEXICON)
    tokens = tokenize(text)
    assert not verdict.true or (verdict.claims and all(claim.true for claim in verdict.claims))
    nouns = {*LEXICON["kinds"], *LEXICON["kind_plurals"], *LEXICON["generic"], *LEXICON["generic_plurals"]}
    for mention in verdict.mentions:
        assert tokens[mention.word_index] in nouns
        assert mention.first < mention.word_index
        assert set(mention.objects) <= set(range(len(shown["objects"])))


def test_long_captions_take_no_longer() -> None:
    assert not caption_truth(" and ".join(["a red circle"] * 60), SCENE, LEXICON).true


def test_drawn_references_are_all_true_and_shuffled_ones_seldom() -> None:
    rng, unseen = random.Random(7), unseen_combinations(7)
    shown, said = {}, {}
    for image_id in range(150):
        drawn = sample_scene(rng, "train" if image_id % 2 else "test", unseen, 96)
        found = [t._asdict() for t in drawn.objects]
        shown[image_id] = {"width": 96, "height": 96, "objects": found, "in_front": [list(pair) for pair in drawn.in_front]}
        said[image_id] = [write_caption(rng, drawn, 96) for _ in range(5)]
    shares = [truth_share({i: captions[k] for i, captions in said.items()}, shown, LEXICON) for k in range(5)]
    assert [share["true"] for share in shares] == [1.0] * 5
    assert all(4 <= share["claims"] <= 6.5 for share in shares)
    shuffled = truth_share({i: said[(i + 1) % 150][0] for i in said}, shown, LEXICON)
    assert shuffled["true"] <= 0.2
    print(f"references {shares[0]['true']:.1%} true with {shares[0]['claims']:.2f} claims per caption, shuffled {shuffled['true']:.1%}")  # noqa: T201


def test_shares_are_means_over_captions_and_over_claims() -> None:
    share = truth_share({1: "a red circle", 2: "a green circle and a star", 3: "zebra"}, dict.fromkeys((1, 2, 3), SCENE), LEXICON)
    assert share == {"true": 1 / 3, "claims": 5 / 3, "true_colour": 0.5, "true_kind": 1.0, "captions": 3.0}
    with pytest.raises(InputError, match="image_id 4"):
        truth_share({4: "a red circle"}, {1: SCENE}, LEXICON)


def test_scenes_files_are_read_or_refused(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"lexicon": LEXICON, "scenes": {"12": SCENE}}))
    bad.write_text("[]")
    words, found = read_scenes(good)
    assert caption_truth("a blue star", found[12], words).true
    for path, what in ((bad, "bad.json"), (tmp_path / "none.json", "not found")):
        with pytest.raises(InputError, match=what):
            read_scenes(path)
