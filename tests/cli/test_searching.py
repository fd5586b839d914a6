"""Every setting of every search has a flag in `predict` and in `evaluate --model`; a flag changes one value of the model's own search."""

import inspect

import pytest
from kinds import kinds

from captioner.build import build
from captioner.cli import evaluate, predict
from captioner.cli.searching import CONSTRAINTS, SEARCHES, SETTINGS, kind_of, make_search, search_flags
from captioner.errors import InputError
from captioner.metrics.diversity import FUNCTION_WORDS
from captioner.search.beam import BeamSearch
from captioner.search.constraints import Constraints
from captioner.search.sampling import Sampling
from captioner.training.configuration import compose_run

COMMANDS = {"predict": ["a.png"], "evaluate": ["--model", "m", "captions.json", "--images", "photos"]}
TYPED = {
    "beams": (["--beam", "12"], 12),
    "max_length": (["--max-length", "11"], 11),
    "normalisation": (["--normalisation", "wu"], "wu"),
    "alpha": (["--alpha", "0.4"], 0.4),
    "groups": (["--groups", "2"], 2),
    "diversity": (["--diversity-penalty", "0.25"], 0.25),
    "captions": (["--captions", "5"], 5),
    "temperature": (["--temperature", "0.6"], 0.6),
    "top_k": (["--top-k", "7"], 7),
    "top_p": (["--top-p", "0.9"], 0.9),
    "typical": (["--typical", "0.8"], 0.8),
    "seed": (["--seed", "6"], 6),
    "min_length": (["--min-length", "2"], 2),
    "no_repeat": (["--no-repeat", "3"], 3),
    "require": (["--require", "Dog", "--require", "ball"], ("dog", "ball")),
    "forbid": (["--forbid", "cat"], ("cat",)),
    "bad_endings": (["--no-bad-ending"], tuple(sorted(FUNCTION_WORDS))),
}
"""What is typed for each setting, and the value that the search then has; no search of conf has it already."""


def shipped(kind):
    return build(compose_run([f"search={kind}"]).search, "search")


def values(search):
    """Every setting by its name, those of the constraints among them."""
    settings = search.settings()
    rules = settings.pop("constraints")
    return {**settings, **{name: getattr(rules, name) for name in inspect.signature(type(rules)).parameters}}


def parsed(command, *words):
    parser = predict.parser() if command == "predict" else evaluate.make_parser()
    return parser.parse_args([*COMMANDS[command], *words])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", kinds("search"))
def test_every_setting_of_every_search_has_a_flag_that_changes_it_and_nothing_else(kind, command):
    model_search = shipped(kind)
    before = values(model_search)
    excluded = [] if kind != "greedy" else ["beams", "groups", "diversity"]  # more than one beam is another kind
    for name in before.keys() - set(excluded):
        if kind == "beam" and name in ("groups", "diversity"):
            continue
        words, value = TYPED[name]
        assert before[name] != value
        assert values(make_search(parsed(command, *words), model_search)) == {**before, name: value}, f"{name} by {words}"


def test_every_kind_of_conf_is_one_that_the_flags_know():
    assert {kind_of(shipped(kind)) for kind in kinds("search")} == set(SEARCHES)
    assert set().union(*(values(shipped(kind)) for kind in kinds("search"))) == TYPED.keys()
    assert {setting.argument for setting in SETTINGS} >= TYPED.keys() - {"captions", "seed"} >= set(CONSTRAINTS)


def test_without_flags_the_search_is_the_model_s_own():
    for model_search in (shipped(kind) for kind in kinds("search")):
        assert values(make_search(parsed("predict"), model_search)) == values(model_search)


RULES = Constraints(min_length=3, forbid=("cat",))
SAMPLED = "sampling 1 at temperature 1, alpha 0.7, min_length 3, forbid cat"


@pytest.mark.parametrize(
    ("words", "model_search", "expected"),
    [
        (["--beam", "5"], BeamSearch(3, alpha=0.7), "beam 5, alpha 0.7"),
        (["--captions", "7"], BeamSearch(3, alpha=0.7), "beam 7, alpha 0.7"),
        (["--captions", "2"], BeamSearch(3), "beam 3"),
        (["--search", "beam"], BeamSearch(4, alpha=0.7), "beam 4, alpha 0.7"),
        (["--search", "greedy"], BeamSearch(4, 9, alpha=0.7), "greedy, max_length 9, alpha 0.7"),
        (["--beam", "5"], BeamSearch(1, alpha=0.7), "beam 5, alpha 0.7"),
        (["--search", "beam"], BeamSearch(1), "beam 3"),
        (["--search", "diverse"], BeamSearch(4, normalisation="wu"), "diverse beam 4 in 4 groups, normalisation wu"),
        (["--search", "diverse", "--beam", "6", "--groups", "2"], Sampling(), "diverse beam 6 in 2 groups"),
        (["--search", "diverse", "--captions", "5"], BeamSearch(3), "diverse beam 5 in 5 groups"),
        (["--search", "beam"], BeamSearch(6, groups=3, diversity=0.5), "beam 6"),
        (["--search", "sample"], BeamSearch(4, alpha=0.7, constraints=RULES), SAMPLED),
        (["--search", "beam"], Sampling(3, 0.5, constraints=RULES), "beam 3, min_length 3, forbid cat"),
        (["--any-ending"], BeamSearch(constraints=Constraints(bad_endings=["with"])), "beam 3"),
        (["--temperature", "0.5"], Sampling(4, 0.9, top_k=9), "sampling 4 at temperature 0.5, top_k 9"),
    ],
)  # fmt: skip
def test_flags_change_single_values_and_anexcluded_keeps_what_it_has_in_common(words, model_search, expected):
    assert str(make_search(parsed("predict", *words), model_search)) == expected


def test_a_draw_is_another_one_each_time_unless_a_seed_is_given_or_the_model_has_one():
    def seed(model_search, *words):
        return make_search(parsed("predict", *words), model_search).settings()["seed"]

    assert seed(BeamSearch(), "--search", "sample") is None
    assert seed(BeamSearch(), "--search", "sample", "--seed", "3") == 3
    assert seed(Sampling(seed=8)) == 8


@pytest.mark.parametrize(
    ("words", "model_search", "message"),
    [
        (["--temperature", "2"], BeamSearch(), "--temperature belongs to --search sample, not to the model's own search, which is beam"),
        (["--search", "sample", "--beam", "2"], BeamSearch(), "belongs to --search beam or --search diverse, not to --search sample"),
        (["--search", "greedy", "--beam", "2"], BeamSearch(), "belongs to --search beam or --search diverse, not to --search greedy"),
        (["--diversity", "1"], Sampling(), "--diversity-penalty belongs to --search diverse"),
        (["--beam", "4"], BeamSearch(6, groups=3), "--groups is a number that divides beams, 4, not 3"),
        (["--captions", "2", "--search", "greedy"], BeamSearch(), "ask for --search beam"),
        (["--require", "cat"], BeamSearch(constraints=RULES), "both hold 'cat'"),
        (["--max-length", "2"], BeamSearch(constraints=RULES), "--min-length is a number of words and at most max_length, 2, not 3"),
    ],
)  # fmt: skip
def test_a_flag_that_the_search_does_not_have_is_refused_by_name(words, model_search, message):
    with pytest.raises(InputError) as refused:
        make_search(parsed("predict", *words), model_search)
    assert message in str(refused.value)


def test_scoring_a_file_searches_nothing_so_flags_of_a_search_are_refused(capsys):
    for words, _ in TYPED.values():
        if words[0] == "--seed":  # also of the resamples
            continue
        assert search_flags(parsed("evaluate", *words)) == [words[0]]
        with pytest.raises(SystemExit):
            evaluate.main(["results.json", "captions.json", *words])
        assert f"{words[0]} finds captions: give --model" in capsys.readouterr().err


def test_the_penalty_typed_as_in_predict_is_told_its_name_in_evaluate(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(["--model", "m", "captions.json", "--images", "photos", "--search", "diverse", "--diversity", "0.5"])
    error = capsys.readouterr().err
    assert "--diversity 0.5: here it takes no value; the penalty of --search diverse is --diversity-penalty" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["-1", "1.5", "few", "9" * 30, "²"])
def test_a_number_that_is_none_or_too_large_is_a_complaint_of_the_parser(text, capsys):
    with pytest.raises(SystemExit) as left:
        predict.main(["a.png", f"--seed={text}"])
    assert left.value.code == 2
    assert "is not a whole number" in capsys.readouterr().err
