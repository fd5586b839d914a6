"""Laws of every decoder in conf."""

import random

import pytest
import torch
from decoder_cases import assert_close, grid, leaves, modes, repeated_steps, same_draws, some_captions  # noqa: F401
from kinds import attention, decoder, kinds, part

from captioner.build import build
from captioner.decoders import recurrent
from captioner.errors import InputError
from captioner.records import AttentionMode, Regions
from captioner.search.beam import BeamSearch

KINDS = kinds("decoder")
PARALLEL = {"convolutional", "transformer"}
"""They take all steps at once, and so refuse localities that need the past, and sentinels."""
LAYER = {"lstm", "luong", "lu", "gru", "without_feedback"}
"""One recurrent layer, which has `query` and `gate`."""
NEEDS_HISTORY = {"coverage", "monotonic_window"}
ROOMS = ("score", "locality", "distribution", "readout")
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-10)]

CASES = [
    *[{room: kind} for room in ROOMS for kind in kinds(f"attention/{room}")],
    {"score": "scaled_dot", "heads": 2, "context_size": 4},
    {"context_size": 3},
    {"sentinel_size": 6},
    {"tie": True},
    *[{"query": "word", "deep_output": deep} for deep in ("embedded", "attentional", "sum")],
    {"query": "current", "deep_output": "attentional", "feed": "output", "sentinel_size": 6},
    {"query": "current", "deep_output": "sum", "feed": "image", "tie": True},
    {"query": "current", "deep_output": "attentional", "feed": "none", "gate": "scalar"},
    {"query": "current", "deep_output": "projected", "feed": "none", "sentinel_size": 6},
    {"query": "current", "deep_output": "sum", "feed": "none", "locality": "coverage", "gate": "vector"},
    *[{"query": query, "gate": gate} for query in ("previous", "word", "current") for gate in ("none", "scalar", "vector")],
]


def applies(kind, case):
    """The kind has the keys of the case (and is not a setting of another that has)."""
    if kind in PARALLEL and (case.get("locality") in NEEDS_HISTORY or case.get("sentinel_size")):
        return False
    return kind in {"lstm", "gru"} or "query" not in case


def build_decoder(kind, case):
    """The decoder; `heads` of the case are the score's."""
    case = dict(case)
    heads = case.pop("heads", 1)
    changes = {key: case.pop(key) for key in ("query", "gate", "tie", "dropout", "deep_output", "feed") if key in case}
    attention_config = attention(**case)
    attention_config["score"] = {
        **attention_config["score"],
        "heads": heads,
        **({"attention_size": 4} if "attention_size" in attention_config["score"] else {}),
    }
    return decoder(kind, **{"dropout": 0.0, **changes, "attention": attention_config})


def check_rollout_against_steps(kind, case, masked):
    torch.manual_seed(5)
    model = build_decoder(kind, case)
    regions, captions = grid(features=6 if case.get("score") == "dot" else 7, masked=masked), some_captions()
    mode = modes()
    for dtype, tolerance in PRECISIONS:
        model = model.to(dtype)
        cast = Regions(regions.features.to(dtype), regions.cells.to(dtype), regions.mask)
        for training in (False, True):
            model.train(training)
            with torch.no_grad():
                assert_close(model.rollout(cast, captions, mode), repeated_steps(model, cast, captions, mode), tolerance)


@pytest.mark.usefixtures("same_draws")
@pytest.mark.parametrize(("kind", "case"), [(kind, case) for kind in KINDS for case in CASES if applies(kind, case)], ids=str)
def test_rollout_is_step_repeated(kind, case):
    for masked in (False, True):
        check_rollout_against_steps(kind, case, masked)


@pytest.mark.usefixtures("same_draws")
@pytest.mark.parametrize("kind", sorted(set(KINDS) - PARALLEL))
def test_captions_whose_words_are_projected_in_pieces_are_the_same(kind, monkeypatch):
    for at_once in (1, 2, 3):
        monkeypatch.setattr(recurrent, "STEPS_AT_ONCE", at_once)
        check_rollout_against_steps(kind, {"sentinel_size": 6}, masked=True)


def random_case(seed):
    """A decoder and a choice in every room."""
    draw = random.Random(seed)
    kind = draw.choice(KINDS)
    case = {room: draw.choice(kinds(f"attention/{room}")) for room in ROOMS}
    if kind in PARALLEL:
        case["locality"] = draw.choice(sorted(set(kinds("attention/locality")) - NEEDS_HISTORY))
    else:
        case["sentinel_size"] = draw.choice([None, 6])
    if kind in LAYER - {"lu", "without_feedback"}:  # which ask with their new state
        case |= {"query": draw.choice(["previous", "word", "current"]), "gate": draw.choice(["none", "scalar", "vector"])}
    case |= {"tie": draw.random() < 0.5, "heads": draw.choice([1, 2]), "context_size": draw.choice([4, 10])}
    return kind, case, draw.random() < 0.5


@pytest.mark.usefixtures("same_draws")
@pytest.mark.parametrize("seed", range(50))
def test_rollout_is_step_repeated_in_random_combinations(seed):
    check_rollout_against_steps(*random_case(seed))


@pytest.mark.parametrize("case", [case for case in CASES if case.get("feed") == "none"], ids=str)
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_gradients_of_all_steps_at_once_are_those_of_step_after_step(kind, case):
    torch.manual_seed(6)
    model = build_decoder(kind, case).double()
    captions, mode = some_captions(), torch.full((3, 4), AttentionMode.EXPECTATION)
    regions = grid()
    regions.features.requires_grad_(True)
    wanted = [*model.parameters(), regions.features]
    gradients = []
    for run in (model.rollout, lambda *given: repeated_steps(model, *given)):
        rollout = run(regions, captions, mode)
        loss = rollout.log_probs.sum() + (rollout.record.alphas * rollout.record.alphas.detach().sin()).sum()
        gradients.append(torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_each_image_is_alone_in_its_batch(kind):
    torch.manual_seed(3)
    model = decoder(kind).double().eval()
    regions, captions = grid(masked=True), some_captions()
    batched = model.rollout(regions, captions, modes())
    for i in range(3):
        single = Regions(regions.features[i : i + 1], regions.cells, regions.mask[i : i + 1])
        alone = model.rollout(single, captions[i : i + 1], modes()[i : i + 1])
        for (name, mine), (_, whole) in zip(leaves(alone), leaves(batched), strict=True):
            assert torch.allclose(mine[0].double(), whole[i].double(), atol=1e-12), name


@pytest.mark.parametrize("kind", KINDS)
def test_longer_padding_changes_nothing_and_leaves_zeros(kind):
    torch.manual_seed(4)
    model = decoder(kind).double().eval()
    regions, captions = grid(), some_captions()
    short = model.rollout(regions, captions, modes())
    long = model.rollout(regions, torch.nn.functional.pad(captions, (0, 3)), modes())
    for (name, mine), (_, more) in zip(leaves(short), leaves(long), strict=True):
        if name != "rollout.mode":
            assert torch.allclose(mine.double(), more[:, :, :-3].double(), atol=1e-12), name
            assert (more[:, :, -3:] == 0).all(), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("readout", kinds("attention/readout"))
def test_a_batch_without_a_word_is_all_zeros(kind, readout):
    model = decoder(kind, readout=readout).double().train()
    rollout = model.rollout(grid(), torch.zeros(3, 4, 5, dtype=torch.long), modes())
    assert rollout.log_probs.shape == (3, 4, 4)
    for name, leaf in leaves(rollout):
        assert name == "rollout.mode" or (leaf == 0).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_word_changes_nothing_earlier_and_something_later(kind):
    torch.manual_seed(6)
    model = decoder(kind).double().eval()
    regions = grid(images=1)
    captions = torch.tensor([[[1, 4, 5, 6, 7, 8, 2], [1, 4, 5, 9, 7, 8, 2]]])
    rollout = model.rollout(regions, captions, torch.full((1, 2), AttentionMode.EXPECTATION))
    one, other = rollout.log_probs[0]
    assert torch.allclose(one[:2], other[:2], atol=1e-12)
    assert ((one[2:] - other[2:]).abs() > 1e-6).all()
    assert torch.allclose(*rollout.record.alphas[0, :, :2], atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("readout", ["expectation", "sample"])
def test_what_search_finds_has_the_probability_that_rollout_gives(kind, readout):
    torch.manual_seed(7)
    model = decoder(kind, readout=readout).double().eval()
    regions = grid(images=2)
    memory, state = model.start(regions)
    found = BeamSearch(beams=3, max_length=5)(lambda *arguments: model.step(memory, *arguments), state, 2, 1, 2, [0, 1, 3])
    captions = torch.zeros(2, 3, 7, dtype=torch.long)
    for i in range(2):
        for k in range(3):
            length = int(found.lengths[i, k])
            captions[i, k, : length + 2] = torch.tensor([1, *found.words[i, k, :length].tolist(), 2])
    rollout = model.rollout(regions, captions, torch.full((2, 3), AttentionMode.SAMPLE))
    assert torch.allclose(rollout.log_probs.sum(-1), found.log_prob, atol=1e-10)
    steps = found.record.alphas.shape[2]
    unpadded = torch.arange(steps) < found.lengths[..., None]
    assert torch.allclose(rollout.record.alphas[:, :, :steps][unpadded], found.record.alphas[unpadded], atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_two_captions_can_be_overfitted(kind):
    torch.manual_seed(8)
    model = decoder(kind, dropout=0.0, embedding_size=8).train()
    regions = grid(images=2, dtype=torch.float32)
    captions = torch.tensor([[[1, 4, 5, 6, 2]], [[1, 7, 4, 2, 0]]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(80):
        optimizer.zero_grad()
        rollout = model.rollout(regions, captions, torch.zeros(2, 1, dtype=torch.long))
        loss = -rollout.log_probs.sum() / rollout.mask.sum()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind):
    torch.manual_seed(12)
    case = {"score": "scaled_dot", "heads": 2, "context_size": 4, **({} if kind in PARALLEL else {"sentinel_size": 6})}
    model = build_decoder(kind, case).double().train()
    rollout = model.rollout(grid(), some_captions(), modes())
    (rollout.log_probs.sum() + rollout.mean_log_probs.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("score.key.bias"):  # it moves all scores of a query alike, unless there is a sentinel
            assert parameter.grad.abs().max() > 1e-12, name


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_acts_in_training_and_rests_in_evaluation(kind):
    torch.manual_seed(9)
    model = decoder(kind, dropout=0.5).double()
    regions, captions = grid(), some_captions()

    def twice():
        return [model.rollout(regions, captions, torch.full((3, 4), AttentionMode.EXPECTATION)).log_probs for _ in range(2)]

    model.train()
    one, other = twice()
    assert not torch.allclose(one, other)
    model.eval()
    assert torch.equal(*twice())


@pytest.mark.parametrize("kind", KINDS)
def test_in_sixteen_bits_words_are_still_scored_in_float32(kind):
    torch.manual_seed(13)
    model = decoder(kind).eval()
    regions, captions = grid(dtype=torch.float32), some_captions()
    whole = model.rollout(regions, captions, modes())
    with torch.autocast("cpu", torch.bfloat16):
        rollout, repeated = model.rollout(regions, captions, modes()), repeated_steps(model, regions, captions, modes())
    for found in (rollout, repeated):
        assert found.log_probs.dtype == torch.float32
        assert torch.allclose(found.log_probs, whole.log_probs, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_each_caption_samples_or_not_as_its_mode_says(kind):
    torch.manual_seed(1)
    model = decoder(kind, readout="sample", dropout=0.0).double().train()
    regions, captions, mode = grid(), some_captions(), modes()
    first, second = (model.rollout(regions, captions, mode) for _ in range(2))
    sampled = (mode == AttentionMode.SAMPLE)[..., None] & first.mask
    assert (first.record.log_prob[sampled] < 0).all()
    assert (first.record.log_prob[~sampled] == 0).all()
    not_sampled = mode != AttentionMode.SAMPLE
    assert torch.equal(first.log_probs[not_sampled], second.log_probs[not_sampled])
    assert not torch.equal(first.log_probs[~not_sampled], second.log_probs[~not_sampled])


@pytest.mark.parametrize("kind", KINDS)
def test_a_tied_output_is_the_embedding(kind):
    tied = decoder(kind, tie=True)
    assert tied.output.weight is tied.embedding.weight
    assert tied.output.weight.shape == (11, 4)


@pytest.mark.parametrize("kind", sorted(PARALLEL))
@pytest.mark.parametrize("locality", sorted(NEEDS_HISTORY))
def test_a_locality_that_needs_the_past_is_refused_where_all_steps_run_at_once(kind, locality):
    with pytest.raises(InputError, match=r"attention\.locality is .*everywhere"):
        decoder(kind, locality=locality)


@pytest.mark.parametrize("kind", sorted(PARALLEL))
def test_a_sentinel_is_refused_where_there_is_no_memory_to_make_it_of(kind):
    with pytest.raises(InputError, match=r"attention\.sentinel_size is 6.*lstm"):
        decoder(kind, sentinel_size=6)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - PARALLEL))
def test_a_sentinel_takes_its_share_of_the_weights(kind):
    torch.manual_seed(10)
    model = decoder(kind, sentinel_size=6).double().eval()
    rollout = model.rollout(grid(), some_captions(), torch.full((3, 4), AttentionMode.EXPECTATION))
    total = rollout.record.alphas.sum(-1) + rollout.record.sentinel
    assert torch.allclose(total, rollout.mask.double(), atol=1e-12)
    assert (rollout.record.sentinel[rollout.mask] > 0).all()
    with pytest.raises(InputError, match=r"sentinel_size is .* hidden_size=6"):
        decoder(kind, sentinel_size=5)


BAD = [
    *[(kind, {"dropout": 1.0}) for kind in KINDS],
    *[(kind, {"embedding_size": 0}) for kind in KINDS],
    *[(kind, {"hidden_size": -1}) for kind in KINDS],
    *[(kind, {"layers": 0}) for kind in sorted(PARALLEL)],
    *[(kind, {key: "next"}) for kind in sorted(LAYER) for key in ("query", "gate", "deep_output", "feed")],
    ("transformer", {"heads": 4}),
    ("transformer", {"feedforward_size": 0}),
    ("convolutional", {"kernel_size": 0}),
]


@pytest.mark.parametrize(("kind", "bad"), BAD, ids=str)
def test_a_bad_value_is_refused_by_name(kind, bad):
    with pytest.raises(ValueError, match=rf"{next(iter(bad))}.*not '?{next(iter(bad.values()))}"):
        decoder(kind, **bad)


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_in_conf_fit_each_other(kind):
    config = part("decoder", kind, attention=attention(context_size=8))
    config = {**config, **({"features": 7} if "features" in config else {})}
    config["attention"]["score"] = part("attention/score", "additive", hidden_size=config["hidden_size"])
    model = build(config, vocabulary_size=5)
    memory, state = model.start(grid(images=1, dtype=torch.float32))
    assert model.step(memory, state, torch.ones(1, 1, dtype=torch.long)).log_probs.exp().sum().isclose(torch.tensor(1.0))
