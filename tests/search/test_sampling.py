import math
from collections import Counter

import pytest
import torch
from trees import END, START, RandomTree, TreeState, caption_words, run

from captioner.search.beam import BeamSearch
from captioner.search.constraints import Constraints
from captioner.search.sampling import Sampling, nucleus, typical

WORDS = (4, 5, 6)
MAX = 3
DRAWS = 3000


def truncated(chances, settings):
    """Tempered, then cut down by sorting, word by word: the oracle."""
    q = {word: p ** (1 / settings.get("temperature", 1.0)) for word, p in chances.items() if p > 0}
    for name in ("top_k", "top_p", "typical"):
        if name not in settings:
            continue
        whole = sum(q.values())
        q = {word: p / whole for word, p in q.items()}
        if name == "top_k":
            q = dict(sorted(q.items(), key=lambda pair: -pair[1])[: settings["top_k"]])
            continue
        entropy = -sum(p * math.log(p) for p in q.values())
        far = {word: -p if name == "top_p" else abs(-math.log(p) - entropy) for word, p in q.items()}
        remaining, reached = {}, 0.0
        for word in sorted(q, key=far.get):
            if reached >= settings[name]:
                break
            remaining[word] = q[word]
            reached += q[word]
        q = remaining
    whole = sum(q.values())
    return {word: p / whole for word, p in q.items()}


def completable(words, rules):
    """Whether some words more make an ending that is allowed."""
    missing = [word for word in rules.require if word not in words]
    if not missing:
        return len(words) < MAX or words[-1] not in rules.bad_endings
    needed = len(missing) + (set(missing) <= set(rules.bad_endings))
    return len(words) + needed <= MAX


def process(model, image, settings, rules):
    """The probability of every caption that sampling may draw, by recursion."""
    result = Counter()

    def go(prefix, words, chance):
        log_probs = model.logits(image, prefix).tolist()
        ends = len(words) >= rules.min_length and set(rules.require) <= set(words) and not (words and words[-1] in rules.bad_endings)
        if len(words) == MAX:
            result[words] += chance
            return
        options = {END: math.exp(log_probs[END])} if ends else {}
        for word in WORDS:
            grams = [(*words, word)[i : i + rules.no_repeat] for i in range(len(words) + 2 - rules.no_repeat)] if rules.no_repeat else []
            if word not in rules.forbid and len(set(grams)) == len(grams) and completable((*words, word), rules):
                options[word] = math.exp(log_probs[word])
        if not options:
            result[words] += chance
            return
        for word, share in truncated(options, settings).items():
            if word == END:
                result[words] += chance * share
            else:
                go(prefix * model.vocab + word, (*words, word), chance * share)

    go(START, (), 1.0)
    return result


PLAIN = Constraints()
CASES = {
    "plain": ({}, PLAIN),
    "temperature": ({"temperature": 0.5}, PLAIN),
    "top_k": ({"top_k": 2}, PLAIN),
    "top_p": ({"top_p": 0.7}, PLAIN),
    "typical": ({"typical": 0.6}, PLAIN),
    "all cuts": ({"temperature": 1.5, "top_k": 3, "top_p": 0.9, "typical": 0.8}, PLAIN),
    "min_length": ({}, Constraints(min_length=2)),
    "no_repeat": ({"top_p": 0.8}, Constraints(no_repeat=1)),
    "no bigram twice": ({}, Constraints(no_repeat=2)),
    "bad endings": ({}, Constraints(bad_endings=[4, 5])),
    "forbid": ({"typical": 0.9}, Constraints(forbid=[5])),
    "require": ({}, Constraints(require=[6])),
    "require two, one a bad ending": ({"top_k": 2}, Constraints(require=[4, 5], bad_endings=[4])),
    "all": ({"temperature": 2.0}, Constraints(min_length=1, no_repeat=1, bad_endings=[5], require=[4], forbid=[6])),
}


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_process_that_the_settings_describe(name):
    """Nothing outside its support is drawn, and what is in it as often as its probability says, within five standard errors."""
    settings, rules = CASES[name]
    model = RandomTree(21, 7, images=3, sharpness=1.0)
    result = run(Sampling(DRAWS, seed=4, max_length=MAX, constraints=rules, **settings), model)
    for i in range(3):
        truth = process(model, i, settings, rules)
        drawn = Counter(caption_words(result, i, k) for k in range(DRAWS))
        assert set(drawn) <= set(truth)
        for words, chance in truth.items():
            assert abs(drawn[words] / DRAWS - chance) <= 5 * math.sqrt(chance * (1 - chance) / DRAWS) + 1e-9, words


def test_log_probs_are_the_model_s_own_whatever_the_temperature_and_the_cuts():
    model = RandomTree(22, 8, images=3)
    result = run(Sampling(5, temperature=3.0, top_k=3, seed=0, max_length=4), model)
    for i in range(3):
        for k in range(5):
            prefix, total = START, 0.0
            for t, word in enumerate(caption_words(result, i, k)):
                value = model.logits(i, prefix)[word].item()
                assert result.log_probs[i, k, t].item() == pytest.approx(value, abs=1e-9)
                assert result.record.prefix[i, k, t].item() == prefix
                total, prefix = total + value, prefix * 8 + word
            whole = total + model.logits(i, prefix)[END].item()
            assert result.log_prob[i, k].item() == pytest.approx(whole, abs=1e-6)
            assert result.score[i, k].item() == pytest.approx(whole / (result.lengths[i, k].item() + 1), abs=1e-6)
    assert (result.score[:, :-1] >= result.score[:, 1:]).all()


def test_a_temperature_near_zero_and_a_single_word_to_choose_from_are_greedy():
    model = RandomTree(23, 9, images=3)
    greedy = run(BeamSearch(1, 5), model)
    for sampling in (
        Sampling(2, temperature=1e-4, max_length=5),
        Sampling(2, top_k=1, max_length=5),
        Sampling(2, top_p=1e-6, max_length=5),
    ):
        result = run(sampling, model)
        for i in range(3):
            assert caption_words(result, i, 0) == caption_words(result, i, 1) == caption_words(greedy, i, 0)


def test_a_seed_draws_the_same_whatever_the_batch_size():
    def draws(sizes):
        sampling, first, drawn = Sampling(4, seed=9, max_length=5), 0, []
        for size in sizes:
            model = RandomTree(24, 9, images=size)
            which = torch.arange(first, first + size)[:, None, None]
            model.start = lambda size=size, which=which: TreeState(torch.zeros(size, 1, 1, dtype=torch.long), which)
            result = run(sampling, model)
            drawn += [caption_words(result, i, k) for i in range(size) for k in range(4)]
            first += size
        return drawn

    assert draws([6]) == draws([1, 2, 3]) == draws([2, 4])
    assert len(set(draws([6]))) > 3


def test_without_a_seed_draws_differ_and_torch_s_own_are_left_alone():
    model = RandomTree(25, 12, images=3, sharpness=0.1)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, other = (run(Sampling(4, max_length=6), model) for _ in range(2))
    assert not torch.equal(one.words, other.words)
    assert torch.equal(before, torch.get_rng_state())


def test_a_word_without_probability_is_never_drawn():
    sampling = Sampling(1, seed=0)
    log_probs = torch.full((1, 500, 600), -torch.inf)
    log_probs[..., 3::7] = -3.0
    chances = torch.linspace(0, 1, 500)[None]
    drawn = sampling.draw(log_probs, torch.full((1, 500), -torch.inf), 2, chances)
    assert (log_probs.gather(-1, drawn[..., None]) > -torch.inf).all()


@pytest.mark.parametrize("cut", [nucleus, typical])
@pytest.mark.parametrize(("spread", "share"), [(6.0, 0.5), (3.0, 0.9), (0.1, 0.9), (1.0, 1.0)])
def test_a_cut_of_many_words_keeps_the_fewest_that_reach_the_share(cut, spread, share):
    """Nuclei of a few words, of hundreds and of thousands."""
    torch.manual_seed(3)
    log_probs = (spread * torch.randn(2, 3, 2500, dtype=torch.float64)).log_softmax(-1)
    remaining = cut(log_probs, share) > -torch.inf
    for row, kept_words in zip(log_probs.flatten(0, 1).tolist(), remaining.flatten(0, 1).tolist(), strict=True):
        entropy = -sum(math.exp(x) * x for x in row)
        far = [-x if cut is nucleus else abs(-x - entropy) for x in row]
        expected, reached = set(), 0.0
        for word in sorted(range(len(row)), key=far.__getitem__):
            if reached >= share - 1e-12:
                break
            expected.add(word)
            reached += math.exp(row[word])
        assert expected ^ {word for word, keeps in enumerate(kept_words) if keeps} <= {max(expected, key=far.__getitem__)}


@pytest.mark.parametrize(
    "bad",
    [
        {"captions": 0},
        {"temperature": 0.0},
        {"temperature": float("inf")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"typical": float("nan")},
        {"max_length": 0},
    ],
)
def test_a_bad_setting_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)
