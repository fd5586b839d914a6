"""The flags that choose a search, and the search that they describe."""

import argparse
from collections.abc import Sequence
from typing import Any

from captioner.errors import InputError
from captioner.metrics.diversity import FUNCTION_WORDS
from captioner.tokenizer import tokenize

SEARCHES = ("beam", "greedy", "diverse", "sample")
NORMALISATIONS = ("mean", "wu", "none")
OWN = {
    "beam": ("beam", "diverse"),
    "groups": ("diverse",),
    "diversity": ("diverse",),
    "temperature": ("sample",),
    "top_k": ("sample",),
    "top_p": ("sample",),
    "typical": ("sample",),
}
"""Flags that only these searches heed."""
BEAM = 3


def add_search(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("search").add_argument
    add("--search", choices=SEARCHES, default="beam", help="how captions are found (beam)")
    add(
        "--beam", type=count, metavar="N", help=f"captions kept in play by beam and diverse; 1 is greedy ({BEAM}, or as many as --captions)"
    )
    add(
        "--captions",
        type=count,
        metavar="N",
        help="captions an image: N lines, the best first; left out, a line and the beam's alternatives",
    )
    add("--normalisation", choices=NORMALISATIONS, default="mean", help="of log-probabilities by length, where captions are ranked (mean)")
    add("--seed", type=natural, metavar="N", help="of sample and of --look draw; left out, other draws every time")
    add = parser.add_argument_group("search: diverse").add_argument
    add("--groups", type=count, metavar="N", help="groups that share the beam out, each unlike the earlier ones (one a beam)")
    add("--diversity", type=float, metavar="X", help="nats that a word loses for each earlier group that says it now (0.5)")
    add = parser.add_argument_group("search: sample").add_argument
    add("--temperature", type=float, metavar="T", help="below 1 draws what is likely, above 1 what is not (1)")
    add("--top-k", type=count, metavar="N", help="draw among the N likeliest words")
    add("--top-p", type=float, metavar="P", help="draw among the fewest words that together have probability P (nucleus)")
    add("--typical", type=float, metavar="P", help="the same, of words whose information is nearest to what is expected")
    add = parser.add_argument_group("constraints, in every search").add_argument
    add("--min-length", type=natural, default=0, metavar="N", help="words at least (0)")
    add("--max-length", type=count, default=20, metavar="N", help="words at most (20)")
    add("--no-repeat", type=natural, default=0, metavar="N", help="no N words in a row twice (0: any)")
    add("--no-bad-ending", action="store_true", help="no caption ends in a function word, such as a, with, on")
    add("--require", action="append", default=[], metavar="WORD", help="a word that every caption holds; may be given again")
    add("--forbid", action="append", default=[], metavar="WORD", help="a word that no caption holds; may be given again")


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def count(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def check_search(options: argparse.Namespace) -> None:
    """Refuse flags that the search does not heed. Raises: InputError."""
    for name, searches in OWN.items():
        if getattr(options, name) is not None and options.search not in searches:
            asked = " or ".join(f"--search {search}" for search in searches)
            raise InputError(f"{flag(name)} belongs to {asked}, not to --search {options.search}")
    beam = beams(options)
    if options.captions and options.search != "sample" and options.captions > beam:
        instead = "--search beam" if options.search == "greedy" else f"--beam {options.captions}"
        raise InputError(f"--captions {options.captions}: this search finds {beam}; ask for {instead}")
    for name in ("require", "forbid"):
        for word in getattr(options, name):
            if len(tokenize(word)) != 1:
                raise InputError(f"--{name} {word!r} is not one word; give --{name} once for each word")


def beams(options: argparse.Namespace) -> int:
    if options.search == "greedy":
        return 1
    return int(options.beam or max(BEAM, options.captions or 0))


def make_search(options: argparse.Namespace) -> Any:
    """The search that the flags describe. Raises: InputError, a value that it refuses."""
    from captioner.search.beam import BeamSearch
    from captioner.search.constraints import Constraints
    from captioner.search.sampling import Sampling

    bad_endings = sorted(FUNCTION_WORDS) if options.no_bad_ending else ()
    try:
        rules = Constraints(options.min_length, options.no_repeat, bad_endings, words(options.require), words(options.forbid))
        common: dict[str, Any] = {"max_length": options.max_length, "normalisation": options.normalisation, "constraints": rules}
        if options.search == "sample":
            temperature = 1.0 if options.temperature is None else options.temperature
            cuts = (options.top_k, options.top_p, options.typical)
            return Sampling(options.captions or 1, temperature, *cuts, options.seed, **common)
        beam = beams(options)
        if options.search == "diverse":
            diversity = 0.5 if options.diversity is None else options.diversity
            return BeamSearch(beam, groups=options.groups or beam, diversity=diversity, **common)
        return BeamSearch(beam, **common)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise InputError(f"{flag(name)} {rest}") from None


def words(given: Sequence[str]) -> list[str]:
    return [tokenize(word)[0] for word in given]


def flag(name: str) -> str:
    """An argument's name as it is typed."""
    return "--" + {"beams": "beam"}.get(name, name).replace("_", "-")
