import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import decoder, kinds
from trees import END, EXCLUDED, START, UNKNOWN, RandomTree, TreeState, caption_words, run

from captioner.encoders.encoder import grid_cells
from captioner.model import DecoderStep
from captioner.records import Regions
from captioner.search.beam import BeamSearch
from captioner.search.constraints import Constraints
from captioner.search.hypotheses import top_values

NORMALISE = {
    "mean": lambda total, tokens: total / tokens,
    "wu": lambda total, tokens: total / ((5 + tokens) / 6),
    "none": lambda total, tokens: total,
}


def enough(content, max_length):
    """Beams from which the search is exact, by its docstring."""
    return max(content**max_length + content ** (max_length - 1), max_length + 1)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    content=st.integers(1, 3),
    max_length=st.integers(1, 3),
    more=st.sampled_from([0, 1, 20]),
    normalisation=st.sampled_from(sorted(NORMALISE)),
)
def test_a_beam_in_which_every_continuation_has_a_place_finds_the_best_captions_in_order(seed, content, max_length, more, normalisation):
    model = RandomTree(seed, 4 + content, images=2)
    beams = enough(content, max_length) + more
    result = run(BeamSearch(beams, max_length, normalisation), model)
    for i in range(2):
        truth = model.enumerate(i, max_length, NORMALISE[normalisation])[:beams]
        for k, (score, total, words) in enumerate(truth):
            assert result.words[i, k, : result.lengths[i, k]].tolist() == list(words)
            assert result.score[i, k].item() == pytest.approx(score, abs=1e-9)
            assert result.log_prob[i, k].item() == pytest.approx(total, abs=1e-9)
        assert (result.score[i, len(truth) :] == -torch.inf).all()


@pytest.mark.parametrize("normalisation", sorted(NORMALISE))
@pytest.mark.parametrize(("content", "max_length"), [(1, 3), (2, 1), (2, 2), (3, 1)])
def test_one_beam_less_is_not_exact(content, max_length, normalisation):
    def exact(seed):
        model, beams = RandomTree(seed, 4 + content, images=1), enough(content, max_length) - 1
        result = run(BeamSearch(beams, max_length, normalisation), model)
        truth = [words for *_, words in model.enumerate(0, max_length, NORMALISE[normalisation])]
        return [caption_words(result, 0, k) for k in range(min(beams, len(truth)))] == truth[:beams]

    assert not all(exact(seed) for seed in range(40))


def test_the_best_caption_of_all_may_end_below_the_first_continuations():
    """<end> is third of three at first, but either word costs as much again to end after: a beam that holds both words does not find it."""

    class Late(RandomTree):
        def logits(self, image, prefix):
            first = [0.1, 0.1, 0.5, 0.4] if prefix == START else [0.0, 0.001, 0.5, 0.499]
            return torch.tensor([0.0, 0.0, first[1], 0.0, *first[2:]], dtype=torch.float64).log()

    assert [caption_words(run(BeamSearch(beams, 1, "none"), Late(0, 6, images=1)), 0, 0) for beams in (2, 3)] == [(4,), ()]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), beams=st.integers(1, 4), max_length=st.integers(1, 6))
def test_what_is_found_is_what_the_model_says(seed, beams, max_length):
    """Scores, log-probabilities and records belong to the words they stand beside; the order is by score; nothing banned is said."""
    model = RandomTree(seed, 7, images=3)
    result = run(BeamSearch(beams, max_length), model)
    for i, k in itertools.product(range(3), range(beams)):
        if result.score[i, k] == -torch.inf:
            continue
        words, prefix, total = result.words[i, k, : result.lengths[i, k]].tolist(), START, 0.0
        assert not set(words) & {0, START, END, UNKNOWN}
        for t, word in enumerate(words):
            log_prob = model.logits(i, prefix)[word].item()
            assert result.log_probs[i, k, t].item() == pytest.approx(log_prob, abs=1e-9)
            assert result.record.prefix[i, k, t].item() == prefix
            total, prefix = total + log_prob, prefix * 7 + word
        assert result.end_log_prob[i, k].item() == pytest.approx(model.logits(i, prefix)[END].item(), abs=1e-9)
        assert result.log_prob[i, k].item() == pytest.approx(total + model.logits(i, prefix)[END].item(), abs=1e-9)
    assert (result.score[:, :-1] >= result.score[:, 1:]).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), max_length=st.integers(1, 6))
def test_a_beam_of_one_is_greedy(seed, max_length):
    model = RandomTree(seed, 8, images=2)
    result = run(BeamSearch(1, max_length), model)
    for i in range(2):
        words, prefix = [], START
        while len(words) < max_length:
            log_probs = model.logits(i, prefix).index_fill(0, torch.tensor(EXCLUDED), -torch.inf)
            word = int(log_probs.argmax())
            if word == END:
                break
            words.append(word)
            prefix = prefix * 8 + word
        assert result.words[i, 0, : result.lengths[i, 0]].tolist() == words


def test_batching_changes_nothing():
    model = RandomTree(9, 9, images=5)
    batched = run(BeamSearch(3, 6), model)
    for i in range(5):
        alone = RandomTree(9, 9, images=1)
        alone.start = lambda i=i: TreeState(torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([[[i]]]))
        result = run(BeamSearch(3, 6), alone)
        assert torch.allclose(result.score[0], batched.score[i])
        assert result.words[0, 0, : result.lengths[0, 0]].tolist() == batched.words[i, 0, : batched.lengths[i, 0]].tolist()


def test_a_beam_that_never_ends_still_has_a_caption():
    class Endless(RandomTree):
        def logits(self, image, prefix):
            return super().logits(image, prefix).index_fill(0, torch.tensor([END]), -50.0)

    result = run(BeamSearch(3, 4), Endless(3, 9, images=2))
    assert (result.lengths == 4).all()
    assert torch.isfinite(result.score).all()


@pytest.mark.parametrize(
    "bad",
    [
        {"beams": 0},
        {"max_length": 0},
        {"normalisation": "length"},
        {"groups": 2},
        {"diversity": -0.5},
        {"diversity": float("nan")},
    ],
)
def test_a_bad_value_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        BeamSearch(**bad)


def test_a_beam_for_which_the_model_gives_end_no_chance_still_has_a_caption():
    class Endless(RandomTree):
        def logits(self, image, prefix):
            return super().logits(image, prefix).index_fill(0, torch.tensor([END]), -torch.inf)

    result = run(BeamSearch(3, 4), Endless(3, 9, images=2))
    assert (result.lengths == 4).all()
    assert torch.isfinite(result.score).all()
    assert (result.end_log_prob == -torch.inf).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), cols=st.integers(1, 2000), count=st.integers(1, 9))
def test_the_best_found_by_blocks_are_the_best(seed, cols, count):
    values = torch.randn(3, 2, cols, generator=torch.Generator().manual_seed(seed))
    values[0, 0, : cols // 2] = -torch.inf
    top, place = top_values(values, count)
    assert torch.equal(top, values.topk(min(count, cols)).values)
    assert torch.equal(values.gather(-1, place), top)


def by_lists(model, image, beams, groups, diversity, max_length):
    """Diverse beam search as the paper writes it: lists, one image, one group after the other."""
    width = beams // groups
    alive = [[(0.0, (), START)] for _ in range(groups)]
    finished = [[] for _ in range(groups)]
    for length in range(max_length + 1):
        other_words = []
        for g in range(groups):
            options = []
            for total, words, prefix in alive[g]:
                log_probs = model.logits(image, prefix).tolist()
                options.append((total + log_probs[END], total + log_probs[END], words, None))
                if length < max_length:
                    for word in range(4, model.vocab):
                        now = total + log_probs[word]
                        options.append((now - diversity * other_words.count(word), now, (*words, word), prefix * model.vocab + word))
            options.sort(key=lambda option: -option[0])
            ends = [option for option in (options if length == max_length else options[:width]) if option[3] is None]
            if len(finished[g]) < width:
                finished[g] = sorted(finished[g] + [(total / (length + 1), words) for _, total, words, _ in ends], reverse=True)[:width]
            alive[g] = [(total, words, prefix) for _, total, words, prefix in options if prefix is not None][:width]
            other_words += [words[-1] for _, words, _ in alive[g]]
    return sorted((hypothesis for group in finished for hypothesis in group), reverse=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(1, 3), groups=st.integers(1, 3), diversity=st.sampled_from([0.0, 0.3, 2.0]))
def test_groups_find_what_lists_find(seed, width, groups, diversity):
    model = RandomTree(seed, 9, images=3)
    result = run(BeamSearch(width * groups, 4, groups=groups, diversity=diversity), model)
    for i in range(3):
        truth = by_lists(model, i, width * groups, groups, diversity, 4)
        assert [caption_words(result, i, k) for k in range(len(truth))] == [words for _, words in truth]
        assert result.score[i, : len(truth)].tolist() == pytest.approx([score for score, _ in truth], abs=1e-9)


def test_a_strong_penalty_makes_groups_begin_with_different_words():
    result = run(BeamSearch(4, 5, groups=4, diversity=100.0), RandomTree(5, 12, images=3, sharpness=0.5))
    for i in range(3):
        first_words = [words[0] for k in range(4) if (words := caption_words(result, i, k))]
        assert len(set(first_words)) == len(first_words) > 1


class SelectableStep:
    """A tree's step that can be had of some images only, and counts the rows it is asked for."""

    def __init__(self, model):
        self.model, self.rows = model, []

    def __call__(self, state, words):
        self.rows.append(len(words))
        return self.model.step(state, words)

    def only(self, images):
        selected = SelectableStep(self.model)
        selected.rows = self.rows
        return selected


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), beams=st.integers(1, 3), groups=st.integers(1, 2))
def test_images_that_are_done_leave_the_batch_and_nothing_changes(seed, beams, groups):
    model = RandomTree(seed, 7, images=6)
    search = BeamSearch(beams * groups, 9, groups=groups, diversity=0.5, constraints=Constraints(no_repeat=2, require=[5]))
    whole, step = run(search, model), SelectableStep(model)
    result = search(step, model.start(), 6, START, END, EXCLUDED)
    steps = result.words.shape[2]
    assert torch.equal(result.lengths, whole.lengths)
    assert torch.equal(result.satisfied, whole.satisfied)
    assert torch.equal(result.score, whole.score)
    assert torch.equal(result.words, whole.words[..., :steps])
    assert torch.equal(result.log_probs, whole.log_probs[..., :steps])
    in_caption = torch.arange(steps) < result.lengths[..., None]
    assert torch.equal(result.record.prefix[in_caption], whole.record.prefix[..., :steps, :][in_caption])


def test_a_batch_of_unequal_lengths_grows_smaller():
    step = SelectableStep(RandomTree(7, 7, images=9))
    BeamSearch(2, 9)(step, step.model.start(), 9, START, END, EXCLUDED)
    assert step.rows[0] == 9
    assert step.rows == sorted(step.rows, reverse=True)
    assert step.rows[-1] < 5


@pytest.mark.parametrize("kind", kinds("decoder"))
def test_every_decoder_s_memory_can_be_had_of_some_images_only(kind):
    """As many images as regions, so that what belongs to a region cannot pass for what belongs to an image."""
    torch.manual_seed(0)
    model = decoder(kind, vocabulary_size=8).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.8)
    regions = Regions(torch.randn(6, 6, 7).double(), grid_cells(2, 3).double(), torch.rand(6, 6) > 0.3)
    regions.mask[:, 0] = True
    memory, state = model.start(regions)
    end_bias = torch.tensor([9.0, 9.0, 9.0, 4.0, 0.0, -20.0]).double()
    rows = []

    def step_function(memory, state, words):
        rows.append(len(words))
        step = model.step(memory[0], state, words)
        step.log_probs[..., END] += memory[1][:, None]
        return step

    search, steps = BeamSearch(2, 9), DecoderStep(step_function, (memory, end_bias))
    result = search(steps, state, 6, START, END, EXCLUDED)
    assert rows[-1] < rows[0] == 6, "otherwise no image left, and nothing was tested"
    whole = search(lambda state, words: steps(state, words), state, 6, START, END, EXCLUDED)
    assert torch.equal(result.words, whole.words[..., : result.words.shape[2]])
    assert torch.allclose(result.log_prob, whole.log_prob)
    in_caption = torch.arange(result.words.shape[2]) < result.lengths[..., None]
    assert torch.allclose(result.record.alphas[in_caption], whole.record.alphas[..., : result.words.shape[2], :][in_caption])
