"""Values of a configuration are compared with the annotations of the constructor that gets them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pytest

from captioner.arguments import check_types, describe_type, fits
from captioner.build import build
from captioner.errors import ArgumentError, InputError


class Part(NamedTuple):
    size: int


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (int, [0, -3, 10**30], [1.0, True, "1", None, [1]]),
        (float, [1, 0.5, float("nan")], [True, "0.5", None, {}]),
        (bool, [True, False], [0, 1, "true", None]),
        (str, ["", "a"], [1, None, ["a"], b"a"]),
        (int | None, [1, None], ["null", 1.5]),
        (Literal["a", "b"], ["a"], ["c", None, ["a"]]),
        (Sequence[int], [[], [1, 2], (3,)], ["12", [1, "2"], {1: 2}, 3]),
        (tuple[float, float], [[0.5, 1], (1, 2)], [[1], [1, 2, 3], "ab", [1, "2"]]),
        (tuple[int, ...], [[], [1, 2, 3]], [[1.5]]),
        (list, [[], ["a", 1]], ["a", {}]),
        (Mapping[str, int], [{}, {"a": 1}], [[], {"a": "b"}, "a"]),
        (int | Sequence[int], [3, [3, 4]], ["3", [None]]),
        (Part, [Part(3)], [{"size": 3}, (3,), None, 3]),
        (Part | None, [None, Part(3)], [{}]),
        (Any, [None, {}, print], []),
        (Callable[[int], int], [print, 3], []),
    ],
    ids=str,
)
def test_a_value_fits_an_annotation_or_does_not(hint: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "a whole number"),
        (int | None, "a whole number or null"),
        (int | Sequence[int], "a whole number or a list of whole numbers"),
        (tuple[float, float], "a list of numbers"),
        (Literal["crop", "squash"], "one of crop, squash"),
        (Part, "a section whose _target_ makes a Part"),
    ],
    ids=str,
)
def test_an_annotation_is_described_in_words(hint: Any, words: str) -> None:
    assert describe_type(hint) == words


def test_the_first_argument_that_does_not_fit_is_named_with_a_short_value() -> None:
    def make(size: int, name: str = "", *, free: Any = None) -> None: ...

    check_types(make, {"free": 3, "size": 2, "unknown": 5})
    for arguments, name, message in (
        ({"size": 2, "name": 3}, "name", "has to be a string, not 3"),
        ({"size": "x" * 1000}, "size", f"has to be a whole number, not '{'x' * 59}..."),
    ):
        with pytest.raises(ArgumentError) as caught:
            check_types(make, arguments)
        assert (caught.value.name, caught.value.message, str(caught.value)) == (name, message, f"{name} {message}")


BEAM: dict[str, Any] = {"_target_": "captioner.search.beam.BeamSearch"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"beams": "3"}, "beams has to be a whole number, not '3'"),
        ({"beams": None}, "beams has to be a whole number, not None"),
        ({"alpha": "nan"}, "alpha has to be a number, not 'nan'"),
        ({"constraints": {"min_length": 3}}, r"constraints has to be a section whose _target_ makes a Constraints or null, not \{"),
        ({"constraints": [3]}, r"constraints has to be .*, not \[3\]"),
    ],
    ids=str,
)
def test_an_argument_of_another_type_is_named_by_the_builder(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=rf"^captioner\.search\.beam\.BeamSearch: {message}"):
        build({**BEAM, **more})


@pytest.mark.parametrize("size", [2**62, 10**30])
def test_a_part_that_is_too_large_for_the_machine_is_refused_in_one_line(size: int) -> None:
    with pytest.raises(InputError, match=r"^encoder(\.features)?: \S.*"):
        build({"_target_": "captioner.encoders.small.SmallConv", "channels": [size, size], "features": size}, "encoder")
