"""The flags that choose a search, and the search that they describe."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from captioner.cli.arguments import positive_number, whole_number
from captioner.errors import ArgumentError, InputError
from captioner.metrics.diversity import FUNCTION_WORDS
from captioner.tokenizer import tokenize

SEARCHES = ("beam", "greedy", "diverse", "sample")
NORMALISATIONS = ("mean", "wu", "none")
BEAM, DIVERSITY = 3, 0.5
"""What `--search beam` and `--search diverse` start from where the model's own search has no beam, or no penalty."""


class Setting(NamedTuple):
    """A flag, the argument of a search's constructor (or of its constraints') that it gives, and the searches that have it."""

    flag: str
    argument: str
    searches: Sequence[str]
    help: str
    parsed: Mapping[str, Any]
    """Keyword arguments of add_argument for the value."""


def _value(kind: Any, metavar: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "metavar": metavar, **more}


COUNT = positive_number
WORD = _value(str, "WORD", action="append")
BEAMS, EVERY = ("beam", "diverse"), SEARCHES
SECTIONS: Mapping[str, Sequence[Setting]] = {
    "search": (
        Setting("--beam", "beams", BEAMS, "captions that are kept at each step; 1 is greedy search", _value(COUNT, "N")),
        Setting("--normalisation", "normalisation", EVERY, "how log-probabilities are divided by the length", {"choices": NORMALISATIONS}),
        Setting("--alpha", "alpha", EVERY, "exponent of this length; a higher one prefers longer captions", _value(float, "X")),
        Setting("--max-length", "max_length", EVERY, "the most words of a caption", _value(COUNT, "N")),
    ),
    "search: diverse": (
        Setting("--groups", "groups", ("diverse",), "groups that share the beams, each unlike the ones before", _value(COUNT, "N")),
        Setting("--diversity-penalty", "diversity", ("diverse",), "what a word loses, in nats, for each earlier group that says it at the "
                "same step", _value(float, "X")),
    ),
    "search: sample": (
        Setting("--temperature", "temperature", ("sample",), "below 1 the probable words are drawn more often", _value(float, "T")),
        Setting("--top-k", "top_k", ("sample",), "draw among the N most probable words", _value(COUNT, "N")),
        Setting("--top-p", "top_p", ("sample",), "draw among the fewest words that have probability P together", _value(float, "P")),
        Setting("--typical", "typical", ("sample",), "the same, with the words of the most typical information first", _value(float, "P")),
    ),
    "constraints, in every search": (
        Setting("--min-length", "min_length", EVERY, "the fewest words of a caption", _value(whole_number, "N")),
        Setting("--no-repeat", "no_repeat", EVERY, "no N words in a row are said twice; 0 allows it", _value(whole_number, "N")),
        Setting("--no-bad-ending", "bad_endings", EVERY, "no caption ends in a function word, such as a, with, on",
                {"action": "store_const", "const": tuple(sorted(FUNCTION_WORDS))}),
        Setting("--any-ending", "bad_endings", EVERY, "a caption may end in any word", {"action": "store_const", "const": ()}),
        Setting("--require", "require", EVERY, "a word that every caption contains; may be given again", WORD),
        Setting("--forbid", "forbid", EVERY, "a word that no caption contains; may be given again", WORD),
    ),
}  # fmt: skip
SETTINGS = [setting for settings in SECTIONS.values() for setting in settings]
CONSTRAINTS = tuple(dict.fromkeys(setting.argument for setting in SECTIONS["constraints, in every search"]))
"""Of a search's settings, those that its `Constraints` take."""
ALSO = {"--diversity-penalty": "--diversity"}
"""Another spelling of a flag, where the command does not use it for something else."""
INTRODUCTION = "What is left out is as in the search that the model was trained with."


def add_search(parser: argparse.ArgumentParser, captions: str, also: bool = True) -> None:
    """Add every flag; `captions` is the help of `--captions`, `also` adds the other spellings. `--seed` is the command's own."""
    for title, settings in SECTIONS.items():
        add = parser.add_argument_group(title, INTRODUCTION if title == "search" else None).add_argument
        if title == "search":
            add("--search", choices=SEARCHES, help="how captions are found")
            add("--captions", type=positive_number, metavar="N", help=captions)
        for setting in settings:
            spellings = [setting.flag, *([ALSO[setting.flag]] if also and setting.flag in ALSO else [])]
            add(*spellings, dest=f"search_{setting.argument}", help=setting.help, **setting.parsed)


def search_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives, by argument. Raises: InputError, of `--require` and `--forbid`, what is not one word."""
    settings = {argument: getattr(options, f"search_{argument}") for argument in dict.fromkeys(setting.argument for setting in SETTINGS)}
    settings = {argument: value for argument, value in settings.items() if value is not None}
    for name in (setting.argument for setting in SETTINGS if setting.parsed is WORD):
        if name in settings:
            settings[name] = tuple(one_word(word, name) for word in settings[name])
    return settings


def one_word(text: str, name: str) -> str:
    tokens = tokenize(text)
    if len(tokens) != 1:
        raise InputError(f"--{name} {text!r} is not one word; give --{name} once for each word")
    return tokens[0]


def search_flags(options: argparse.Namespace) -> list[str]:
    """The flags of the search that the command line has, as they are typed."""
    more = {"--search": options.search, "--captions": options.captions}
    return [name for name, value in more.items() if value is not None] + [flag_name(argument) for argument in search_settings(options)]


def make_search(options: argparse.Namespace, model_search: Any) -> Any:
    """The model's own search with the values that the flags give; or, after `--search`, another kind with what it has in common with it.

    Raises: InputError, a flag that the search does not have, or a value that it refuses.
    """
    from captioner.search.beam import BeamSearch
    from captioner.search.sampling import Sampling

    values = search_settings(options)
    kind = search_kind(options, model_search, values)
    check_kind(options, kind, values)
    try:
        constraints = replace(model_search.constraints, **{name: values.pop(name) for name in CONSTRAINTS if name in values})
        if kind != "sample":
            return BeamSearch.like(
                model_search, constraints=constraints, **{**beam_settings(options, kind, model_search, values), **values}
            )
        sampling_settings = {name: getattr(options, name) for name in ("captions", "seed") if getattr(options, name) is not None}
        return Sampling.like(model_search, constraints=constraints, **sampling_settings, **values)
    except ArgumentError as error:
        raise InputError(f"{flag_name(error.name)} {error.message}") from None


def with_word_ids(model: Any, search: Any) -> Any:
    """The search with the model's ids for the words of its constraints. Raises: InputError, the model does not know one."""
    try:
        return search.within(model.vocabulary)
    except InputError as error:
        raise InputError(f"--{error}") from None


def with_beam_width(model_search: Any, beam: int | None) -> Any:
    """The model's own search, or a beam search of that width: for a command with no other flag. Raises: InputError, it is refused."""
    from captioner.search.beam import BeamSearch

    try:
        return model_search if beam is None else BeamSearch.like(model_search, beams=beam)
    except ValueError as error:
        raise InputError(f"--beam {beam}: {error}") from None


def kind_of(search: Any) -> str:
    """Which of SEARCHES a search is."""
    if not hasattr(search, "beams"):
        return "sample"
    return "greedy" if search.beams == 1 else "diverse" if search.groups > 1 else "beam"


def search_kind(options: argparse.Namespace, model_search: Any, values: Mapping[str, Any]) -> str:
    """What `--search` says, or else the kind of the model's own search; a greedy one becomes a beam search by `--beam`."""
    kind = options.search or kind_of(model_search)
    return "beam" if kind == "greedy" and options.search is None and "beams" in values else kind


def check_kind(options: argparse.Namespace, kind: str, values: Mapping[str, Any]) -> None:
    """Raises: InputError, a flag that this kind of search does not have."""
    for setting in SETTINGS:
        if setting.argument in values and kind not in setting.searches:
            belongs = " or ".join(f"--search {search}" for search in setting.searches)
            searched = f"--search {kind}" if options.search else f"the model's own search, which is {kind}: give --search as well"
            raise InputError(f"{setting.flag} belongs to {belongs}, not to {searched}")


def beam_settings(options: argparse.Namespace, kind: str, model_search: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Beams, groups and penalty before the flags that name them. Raises: InputError, more captions than beams."""
    model_kind, captions = kind_of(model_search), options.captions or 0
    usual = model_search.beams if model_kind in BEAMS else BEAM
    beams = 1 if kind == "greedy" else values.get("beams") or max(usual, captions)
    if captions > beams:
        instead = "--search beam" if kind == "greedy" else f"--beam {captions}"
        raise InputError(f"--captions {captions}: this search finds {beams}; ask for {instead}")
    if kind == model_kind:
        return {"beams": beams}
    diverse = kind == "diverse"
    return {"beams": beams, "groups": beams if diverse else 1, "diversity": DIVERSITY if diverse else 0.0}


def flag_name(argument: str) -> str:
    """An argument's name as it is typed."""
    flags = {setting.argument: setting.flag for setting in reversed(SETTINGS)}
    return flags.get(argument, "--" + argument.replace("_", "-"))
