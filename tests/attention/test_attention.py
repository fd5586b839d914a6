"""Laws of every kind of attention in conf: each alone, each with two heads and a sentinel, and each whole choice."""

import pytest
import torch
from attention_cases import attend, case, features_of, past_of, randomised, some_sentinel
from kinds import attention, kinds, part, whole

from captioner.attention.attention import Attention
from captioner.build import build
from captioner.records import AttentionMode, Memory, Regions

ROOMS = [(room, kind) for room in ("score", "locality", "distribution", "readout") for kind in kinds(f"attention/{room}")]
EXCEPTIONS = {
    ("test_the_gradient_is_that_of_finite_differences_even_of_draws", "gumbel"): "its backward pass is that of the soft choice, by design",
}
"""(law, kind): why the law cannot hold for the kind."""


def heads_and_sentinel(room, kind):
    """Two heads and a sentinel around a kind."""
    score = part("attention/score", kind if room == "score" else "additive", heads=2)
    score = {**score, "attention_size": 6} if "attention_size" in score else score
    return {**attention(**{room: kind}), "score": score, "context_size": 4, "sentinel_size": 3}


CHOICES = {
    **{f"{room}/{kind}": attention(**{room: kind}) for room, kind in ROOMS},
    **{f"{room}/{kind}/heads_and_sentinel": heads_and_sentinel(room, kind) for room, kind in ROOMS},
    **{kind: whole(kind) for kind in kinds("attention")},
}


@pytest.fixture(params=CHOICES)
def module(request):
    for (law, kind), reason in EXCEPTIONS.items():
        if law == request.function.__name__ and kind in request.param.split("/"):
            pytest.skip(reason)
    torch.manual_seed(1)
    return randomised(build(CHOICES[request.param]))


def test_alphas_sum_to_one_and_vanish_where_forbidden(module):
    regions, queries = case(module)
    glimpse = attend(module, regions, queries)
    assert (glimpse.alphas >= 0).all()
    sentinel_alpha = 0 if module.sentinel_size is None else glimpse.sentinel
    assert torch.allclose(glimpse.alphas.sum(-1) + sentinel_alpha, torch.ones(3, 2).double())
    for alphas in (glimpse.alphas, *([] if glimpse.head_alphas is None else glimpse.head_alphas.unbind(2))):
        assert (alphas.masked_select(~regions.mask[:, None].expand_as(alphas)) == 0).all()


def test_the_heads_alphas_have_the_alphas_as_their_mean(module):
    glimpse = attend(module, *case(module))
    assert (glimpse.head_alphas is None) == (module.score.heads == 1)
    assert (glimpse.sentinel is None) == (module.sentinel_size is None)
    if glimpse.head_alphas is not None:
        assert glimpse.head_alphas.shape == (3, 2, 2, 10)
        assert torch.allclose(glimpse.head_alphas.mean(2), glimpse.alphas)
        assert not torch.allclose(glimpse.head_alphas[:, :, 0], glimpse.alphas)


def test_a_forbidden_region_changes_nothing_and_gets_no_gradient(module):
    regions, queries = case(module)
    noise = torch.where(regions.mask[..., None], regions.features, torch.randn(3, 10, features_of(module)).double() * 100).requires_grad_()
    one, other = attend(module, regions, queries), attend(module, regions._replace(features=noise), queries)
    assert torch.allclose(one.context, other.context)
    gradient = torch.autograd.grad(other.context.square().sum() + other.alphas.square().sum(), noise)[0]
    assert (gradient[~regions.mask] == 0).all()
    assert gradient.isfinite().all()
    assert gradient.any()


def test_permuting_regions_with_their_cells_permutes_alphas(module):
    regions, queries = case(module)
    order = torch.randperm(10)
    moved = Regions(regions.features[:, order], regions.cells[order], regions.mask[:, order])
    history = past_of(module, regions, queries)
    one = attend(module, regions, queries, history=history)
    two = attend(
        module, moved, queries, history=history._replace(alphas=history.alphas[..., order], cumulative=history.cumulative[..., order])
    )
    assert torch.allclose(one.alphas[..., order], two.alphas)
    assert torch.allclose(one.context, two.context)


def test_each_query_of_each_image_is_alone_in_its_batch(module):
    regions, queries = case(module)
    history, sentinel = past_of(module, regions, queries), some_sentinel(module, queries)
    batched = attend(module, regions, queries, history=history, sentinel=sentinel)
    for i in range(3):
        image = Regions(regions.features[i : i + 1], regions.cells, regions.mask[i : i + 1])
        for q in range(2):
            past = type(history)(*(leaf[i : i + 1, q : q + 1] for leaf in history))
            its_sentinel = None if sentinel is None else sentinel[i : i + 1, q : q + 1]
            alone = attend(module, image, queries[i : i + 1, q : q + 1], history=past, sentinel=its_sentinel)
            assert torch.allclose(alone.alphas[0, 0], batched.alphas[i, q])
            assert torch.allclose(alone.context[0, 0], batched.context[i, q])


def gradients_agree(module, mode):
    regions, queries = case(module, 2, 2, 3, masked=False)
    regions.features.requires_grad_(), queries.requires_grad_()
    sentinel = some_sentinel(module, queries)
    inputs = [regions.features, queries] + ([] if sentinel is None else [sentinel.requires_grad_()])
    history = past_of(module, regions, queries, mode)

    def outputs(features, queries, sentinel=None):
        torch.manual_seed(7)
        glimpse = attend(module, regions._replace(features=features), queries, history=history, sentinel=sentinel)
        return tuple(leaf for leaf in glimpse if leaf is not None)

    return torch.autograd.gradcheck(outputs, inputs, fast_mode=True)


def test_the_gradient_is_that_of_finite_differences(module):
    assert gradients_agree(module, AttentionMode.EXPECTATION)


def test_the_gradient_is_that_of_finite_differences_even_of_draws(module):
    """The same draw each time; its context has no gradient by way of the weights, its log-probability has."""
    assert gradients_agree(module.train(), AttentionMode.SAMPLE)


def test_history_and_glimpse_stay_exact_under_bfloat16_autocast(module):
    regions, queries = case(module)
    module = module.float()
    regions = Regions(regions.features.float(), regions.cells.float(), regions.mask)
    sentinel = some_sentinel(module, queries)
    sentinel = None if sentinel is None else sentinel.float()
    with torch.autocast("cpu", torch.bfloat16):
        memory = module.build_memory(regions)
        history = module.initial_history(memory, 2)._replace(mode=torch.full((3, 2), AttentionMode.EXPECTATION))
        for _ in range(3):
            glimpse = module(queries.float(), memory, history, sentinel)
            history = module.update_history(history, glimpse)
    total = glimpse.alphas.sum(-1) + (0 if glimpse.sentinel is None else glimpse.sentinel)
    assert glimpse.alphas.dtype == torch.float32
    assert torch.allclose(total, torch.ones(3, 2), atol=1e-5)
    assert glimpse.context.isfinite().all()


@pytest.mark.parametrize("mode", [AttentionMode.SAMPLE, AttentionMode.EXPECTATION, AttentionMode.ARGMAX])
def test_hard_and_soft_agree_when_there_is_nothing_to_choose(module, mode):
    """One region, no sentinel's share: whatever the mode, the context is its value."""
    regions, queries = case(module)
    regions.mask[:] = False
    regions.mask[:, 3] = True
    glimpse = attend(module.train(), regions, queries, mode)
    if module.sentinel_size is None:
        value = module.output(module.value(regions.features[:, 3:4]))
        assert torch.allclose(glimpse.context, value.expand_as(glimpse.context))
        assert torch.allclose(glimpse.log_prob, torch.zeros(3, 2).double())
    assert (glimpse.alphas[..., :3] == 0).all()
    assert (glimpse.alphas[..., 4:] == 0).all()


def test_an_image_without_a_region_is_refused(module):
    regions, _ = case(module)
    regions.mask[1] = False
    with pytest.raises(ValueError, match="no region"):
        module.build_memory(regions)


@pytest.mark.parametrize("distribution", kinds("attention/distribution"))
@pytest.mark.parametrize("readout", ["sample", "gumbel"])
def test_many_draws_average_to_the_expectation(distribution, readout):
    torch.manual_seed(5)
    hard = randomised(
        build({**heads_and_sentinel("readout", readout), "distribution": part("attention/distribution", distribution)})
    ).train()
    regions, _ = case(hard)
    draws = 10000
    queries = 3 * torch.randn(3, 1, 6).double().expand(3, draws, 6)
    sentinel = torch.randn(3, 1, 3).double().expand(3, draws, 3)
    history = past_of(hard, regions, queries[:, :1])
    histories = [
        type(history)(*(leaf.expand(-1, n, *leaf.shape[2:]) for leaf in history))._replace(mode=torch.full((3, n), m))
        for n, m in ((draws, AttentionMode.SAMPLE), (1, AttentionMode.EXPECTATION))
    ]
    drawn = attend(hard, regions, queries, history=histories[0], sentinel=sentinel).context
    expected = attend(hard, regions, queries[:, :1], history=histories[1], sentinel=sentinel[:, :1]).context[:, 0]
    assert ((drawn.mean(1) - expected).abs() <= 5 * drawn.std(1) / draws**0.5 + 1e-9).all()
    assert drawn.std(1).max() > 0.05


def test_each_head_reads_its_part_of_the_values_with_its_own_alphas():
    torch.manual_seed(4)
    module = randomised(build(heads_and_sentinel("score", "scaled_dot")))
    regions, queries = case(module)
    sentinel = some_sentinel(module, queries)
    memory = module.build_memory(regions)
    glimpse = attend(module, regions, queries, sentinel=sentinel)
    projected = module.sentinel(sentinel)
    scores = module.score(queries, memory.keys).masked_fill(~regions.mask[:, None, None], -torch.inf)
    for i in range(3):
        for q in range(2):
            contexts = []
            for n in range(2):
                key, query = module.score.key(projected[i, q])[3 * n : 3 * n + 3], module.score.query(queries[i, q])[3 * n : 3 * n + 3]
                alphas = torch.cat([scores[i, q, n], (key @ query / 3**0.5)[None]]).softmax(-1)
                assert torch.allclose(glimpse.head_alphas[i, q, n], alphas[:-1])
                values = torch.cat([memory.values[i], module.value(projected[i, q])[None]])
                contexts.append(alphas @ values[:, 2 * n : 2 * n + 2])
            assert torch.allclose(glimpse.context[i, q], module.output(torch.cat(contexts)))


@pytest.mark.parametrize("distribution", kinds("attention/distribution"))
@pytest.mark.parametrize("score", kinds("attention/score"))
def test_a_sentinel_is_looked_at_as_a_region_of_that_content_would_be(score, distribution):
    torch.manual_seed(2)
    module = randomised(build(attention(score=score, distribution=distribution, sentinel_size=3)))
    regions, queries = case(module, masked=False)
    queries = queries[:, :1]
    sentinel = some_sentinel(module, queries)
    glimpse = attend(module, regions, queries, sentinel=sentinel)
    keys = module.build_memory(
        regions._replace(features=torch.cat([regions.features, module.sentinel(sentinel)], 1), cells=torch.zeros(11, 2).double())
    )
    bare = Attention(module.score, module.locality, module.distribution, module.readout, features_of(module))
    like = bare(queries, keys, bare.initial_history(keys, 1))
    assert torch.allclose(like.context, glimpse.context)
    assert torch.allclose(like.alphas, torch.cat([glimpse.alphas, glimpse.sentinel[..., None]], -1))


def test_the_history_sums_the_alphas_of_regions_and_leaves_the_sentinel_out():
    torch.manual_seed(6)
    module = randomised(build(whole("adaptive")))
    regions, queries = case(module)
    memory = module.build_memory(regions)
    history, alphas = module.initial_history(memory, 2), []
    for _ in range(3):
        glimpse = module(queries, memory, history, some_sentinel(module, queries))
        history = module.update_history(history, glimpse)
        alphas.append(glimpse.alphas)
        queries = queries + 1
    assert torch.equal(history.alphas, alphas[-1])
    assert torch.allclose(history.cumulative, sum(alphas))
    assert (history.cumulative.sum(-1) < 3).all()
    assert (history.step == 3).all()


@pytest.mark.parametrize("sentinel_size", [None, 3])
def test_a_missing_or_unexpected_sentinel_is_refused(sentinel_size):
    module = build(attention(sentinel_size=sentinel_size)).double()
    regions, queries = case(module)
    memory = module.build_memory(regions)
    sentinel = None if sentinel_size else torch.zeros(3, 2, 3).double()
    with pytest.raises(ValueError, match=f"sentinel_size is {sentinel_size}"):
        module(queries, memory, module.initial_history(memory, 2), sentinel)


@pytest.mark.parametrize(
    ("change", "name"), [({"features": 7}, "features"), ({"context_size": 5}, "context_size"), ({"sentinel_size": 0}, "sentinel_size")]
)
def test_a_size_that_does_not_fit_is_refused_by_name(change, name):
    config = {**heads_and_sentinel("score", "bilinear"), "context_size": None, "features": 8, **change}
    with pytest.raises(ValueError, match=name):
        build(config)


def test_looking_costs_no_copy_of_an_image_for_each_query():
    """With one head: between inputs and alphas nothing larger than the scores, for a product (an additive score has its hidden layer)."""
    module = build(attention(score="scaled_dot")).eval()
    regions = Regions(torch.randn(2, 64, 7), torch.zeros(64, 2), None)
    memory = Memory(*(leaf.detach() if leaf is not None else None for leaf in module.build_memory(regions)))
    saved_tensors = []

    def save(tensor):
        saved_tensors.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        module(torch.randn(2, 9, 6), memory, module.initial_history(memory, 9))
    inputs = {memory.keys.untyped_storage().data_ptr(), memory.values.untyped_storage().data_ptr()}
    new = [saved for saved in saved_tensors if saved.untyped_storage().data_ptr() not in inputs]
    assert new
    assert max(saved.untyped_storage().nbytes() for saved in new) <= 2 * 9 * 64 * 4
