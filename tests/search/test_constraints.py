"""Every constraint in every search, on a batch of three, against enumeration and filtering."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import EXCLUDED, RandomTree, caption_words, run

from captioner.errors import InputError
from captioner.search.beam import BeamSearch
from captioner.search.constraints import Constraints
from captioner.search.sampling import Sampling
from captioner.vocabulary import Vocabulary

A, B, C, D = 4, 5, 6, 7
MAX = 4
PREFIXES = sum(3**n for n in range(MAX + 1))
CONSTRAINTS = {
    "none": Constraints(),
    "min_length": Constraints(min_length=2),
    "exact length": Constraints(min_length=MAX),
    "no word twice": Constraints(no_repeat=1),
    "no bigram twice": Constraints(no_repeat=2),
    "bad endings": Constraints(bad_endings=[A, B]),
    "forbid": Constraints(forbid=[B]),
    "require": Constraints(require=[C]),
    "require two": Constraints(require=[A, B]),
    "require three, two of them bad endings": Constraints(require=[A, B, C], bad_endings=[A, B]),
    "require a bad ending": Constraints(require=[A], bad_endings=[A]),
    "require and forbid": Constraints(require=[A], forbid=[B]),
    "require, no bigram twice": Constraints(require=[C], no_repeat=2, min_length=3),
    "all": Constraints(min_length=2, no_repeat=1, bad_endings=[A], require=[A, C], forbid=[B]),
}
IMPOSSIBLE = {
    "too many required": (Constraints(require=[A, B, C]), 2),
    "every word forbidden": (Constraints(min_length=1, forbid=[A, B, C]), 3),
    "every ending bad": (Constraints(min_length=1, bad_endings=[A, B, C]), 2),
    "no word left to say": (Constraints(min_length=4, no_repeat=1), 4),
}


def words_allowed(words, rules):
    grams = [words[i : i + rules.no_repeat] for i in range(len(words) - rules.no_repeat + 1)] if rules.no_repeat else []
    return not set(words) & set(rules.forbid) and len(set(grams)) == len(grams)


def may_end(words, rules):
    badly = bool(words) and words[-1] in rules.bad_endings
    return len(words) >= rules.min_length and not badly and set(rules.require) <= set(words)


def allowed(words, rules):
    return words_allowed(words, rules) and may_end(words, rules)


def mean(total, tokens):
    return total / tokens


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_beam_that_holds_every_prefix_finds_what_filtering_all_captions_leaves(name, groups):
    rules = CONSTRAINTS[name]
    model = RandomTree(11, 7, images=3)
    search = BeamSearch(groups * PREFIXES, MAX, groups=groups, diversity=0.5, constraints=rules)
    result = run(search, model)
    for i in range(3):
        truth = [(score, total, words) for score, total, words in model.enumerate(i, MAX, mean) if allowed(words, rules)]
        assert truth, "a constraint that nothing meets tests nothing"
        satisfied = [k for k in range(result.score.shape[1]) if result.satisfied[i, k] and result.score[i, k] > -torch.inf]
        assert satisfied == list(range(len(satisfied))), "what keeps to the constraints comes first"
        assert [caption_words(result, i, k) for k in satisfied[::groups]] == [words for _, _, words in truth]
        assert result.score[i, satisfied[::groups]].tolist() == pytest.approx([score for score, _, _ in truth], abs=1e-9)
        assert result.log_prob[i, satisfied[::groups]].tolist() == pytest.approx([total for _, total, _ in truth], abs=1e-9)


def small_searches(rules, max_length):
    return {
        "greedy": BeamSearch(1, max_length, constraints=rules),
        "beam": BeamSearch(3, max_length, constraints=rules),
        "diverse beam": BeamSearch(4, max_length, groups=2, diversity=1.0, constraints=rules),
        "sampling": Sampling(4, seed=1, max_length=max_length, constraints=rules),
        "cut sampling": Sampling(3, 0.7, top_k=2, top_p=0.9, typical=0.9, seed=1, max_length=max_length, constraints=rules),
    }


def check_small_search(result, rules, max_length, reachable):
    for i in range(3):
        assert result.score[i, 0] > -torch.inf, "there is always a caption"
        for k in range(result.score.shape[1]):
            if result.score[i, k] == -torch.inf:
                continue
            words = caption_words(result, i, k)
            assert len(words) <= max_length
            assert words_allowed(words, rules)
            assert bool(result.satisfied[i, k]) == may_end(words, rules)
            assert not reachable or may_end(words, rules)


@pytest.mark.parametrize("kind", small_searches(Constraints(), 1))
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_narrow_search_keeps_to_the_constraints(name, kind):
    """ "all" may say its last good word too soon, and then has none left to end in."""
    check_small_search(
        run(small_searches(CONSTRAINTS[name], MAX)[kind], RandomTree(12, 8, images=3)), CONSTRAINTS[name], MAX, reachable=name != "all"
    )


@pytest.mark.parametrize("kind", small_searches(Constraints(), 1))
@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_met_is_said_and_a_caption_given_nevertheless(name, kind):
    rules, max_length = IMPOSSIBLE[name]
    result = run(small_searches(rules, max_length)[kind], RandomTree(13, 7, images=3))
    assert not result.satisfied.any()
    check_small_search(result, rules, max_length, reachable=False)


words_of = st.lists(st.sampled_from([A, B, C, D]), unique=True, max_size=2)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kind=st.sampled_from(sorted(small_searches(Constraints(), 1))),
    lengths=st.tuples(st.integers(0, 5), st.integers(1, 5)).map(sorted).filter(lambda pair: pair[1]),
    no_repeat=st.integers(0, 3),
    lists=st.tuples(words_of, words_of, words_of).filter(lambda lists: not set(lists[1]) & set(lists[2])),
)
def test_any_constraints_hold_in_any_search(seed, kind, lengths, no_repeat, lists):
    """Where words repeat freely and one good word is allowed, the ending is reached whenever the required words fit."""
    rules = Constraints(lengths[0], no_repeat, *lists)
    good = {A, B, C, D} - set(rules.bad_endings) - set(rules.forbid)
    room = len(rules.require) + bool(rules.require and set(rules.require) <= set(rules.bad_endings))
    reachable = not no_repeat and bool(good) and room <= lengths[1]
    check_small_search(run(small_searches(rules, lengths[1])[kind], RandomTree(seed, 8, images=3)), rules, lengths[1], reachable)


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_act_on_each_image_of_a_batch_as_on_it_alone(name):
    model = RandomTree(14, 8, images=3)
    batched = run(BeamSearch(3, MAX, constraints=CONSTRAINTS[name]), model)
    for i in range(3):
        alone = RandomTree(14, 8, images=1)
        initial_state = model.start()
        alone.start = lambda i=i, initial_state=initial_state: initial_state._replace(
            prefix=initial_state.prefix[:1], image=initial_state.image[i : i + 1]
        )
        result = run(BeamSearch(3, MAX, constraints=CONSTRAINTS[name]), alone)
        count = int((result.score > -torch.inf).sum())
        assert [caption_words(result, 0, k) for k in range(count)] == [caption_words(batched, i, k) for k in range(count)]


def test_a_beam_of_several_says_what_is_required_where_the_model_likes_it():
    """Banks keep hypotheses that said the word early; a single one says it at the last moment. Over many models the banks score higher."""
    scores = dict.fromkeys((1, 4), 0.0)
    for seed, beams in itertools.product(range(20), scores):
        result = run(BeamSearch(beams, 6, constraints=Constraints(require=[B, D])), RandomTree(seed, 12, images=2))
        assert result.satisfied.all()
        scores[beams] += result.score[:, 0].sum().item() / 40
    assert scores[4] > scores[1] + 0.3


def test_words_become_ids_where_the_vocabulary_is_known():
    vocabulary = Vocabulary(["dog", "a", "cat"])
    rules = Constraints(bad_endings=["a", "the"], require=["dog"], forbid=["cat", 5]).within(vocabulary)
    assert (rules.bad_endings, rules.require, rules.forbid) == ((5,), (4,), (6, 5))
    for name, word in (("require", "zebra"), ("forbid", "<unk>"), ("require", 2), ("forbid", 7)):
        with pytest.raises(InputError, match=f"{name}: .* no word {word!r}"):
            Constraints(**{name: [word]}).within(vocabulary)
    search = BeamSearch(2, constraints=Constraints(forbid=["cat"]))
    assert search.within(vocabulary).constraints.forbid == (6,)
    assert search.constraints.forbid == ("cat",)
    with pytest.raises(ValueError, match="forbid holds 'cat'"):
        run(search, RandomTree(0, 7, images=1))


@pytest.mark.parametrize(
    "bad",
    [
        {"min_length": -1},
        {"no_repeat": True},
        {"require": "dog"},
        {"forbid": [True]},
        {"bad_endings": [4, False]},
        {"forbid": [4], "require": [4]},
    ],
)
def test_a_bad_constraint_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Constraints(**bad)


def test_a_minimum_above_the_maximum_is_refused():
    with pytest.raises(ValueError, match="min_length"):
        BeamSearch(3, 5, constraints=Constraints(min_length=6))


def test_a_search_says_what_it_is_asked_for():
    assert str(BeamSearch(3)) == "beam 3"
    assert str(BeamSearch(1, constraints=Constraints(no_repeat=3, forbid=["cat", "dog"]))) == "greedy, no_repeat 3, forbid cat dog"
    assert str(BeamSearch(4, groups=2)) == "diverse beam 4 in 2 groups"
    assert str(Sampling(2, top_p=0.9)) == "sampling 2 at temperature 1, top_p 0.9"


def test_the_ids_never_said_stay_unsaid_beside_constraints():
    result = run(BeamSearch(5, 4, constraints=Constraints(require=[A])), RandomTree(3, 8, images=3))
    assert not set(result.words[result.words > 0].tolist()) & set(EXCLUDED)
