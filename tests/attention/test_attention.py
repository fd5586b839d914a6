import pytest
import torch
from kinds import attention, kinds

from captioner import bundle
from captioner.records import DRAW, EXPECT, PEAK, Regions

ROOMS = [(room, kind) for room in ("score", "locality", "distribution", "readout") for kind in kinds(f"attention/{room}")]


def look(module, regions, queries, mode=EXPECT, past=True):
    memory = module.remember(regions)
    trail = module.begin(memory, queries.shape[1])
    if past:
        last = torch.rand(
            queries.shape[0], queries.shape[1], regions.cells.shape[0], dtype=queries.dtype, generator=torch.Generator().manual_seed(8)
        )
        last = last / last.sum(-1, keepdim=True)
        trail = trail._replace(alphas=last, seen=2 * last, step=trail.step + 2)
    return module(queries, memory, trail._replace(mode=torch.full_like(trail.mode, mode)))


def case(masked=True):
    torch.manual_seed(0)
    cells = torch.cartesian_prod(torch.arange(2), torch.arange(5)).double()
    mask = torch.rand(3, 10) < 0.5
    mask[:, 4] = True
    return Regions(torch.randn(3, 10, 7).double(), cells, mask if masked else None), torch.randn(3, 2, 6).double()


@pytest.fixture(params=ROOMS, ids="/".join)
def module(request):
    torch.manual_seed(1)
    room, kind = request.param
    return bundle.build(attention(**{room: kind})).double().eval()


def test_alphas_sum_to_one_and_vanish_where_forbidden(module):
    regions, queries = case()
    glimpse = look(module, regions, queries)
    assert (glimpse.alphas >= 0).all()
    assert torch.allclose(glimpse.alphas.sum(-1), torch.ones(3, 2).double())
    assert (glimpse.alphas.masked_select(~regions.mask[:, None].expand_as(glimpse.alphas)) == 0).all()


def test_a_forbidden_region_is_as_good_as_none(module):
    regions, queries = case()
    noise = torch.where(regions.mask[..., None], regions.features, torch.randn(3, 10, 7).double() * 100)
    one, other = look(module, regions, queries), look(module, regions._replace(features=noise), queries)
    assert torch.allclose(one.context, other.context)


def test_permuting_regions_with_their_cells_permutes_alphas(module):
    regions, queries = case()
    order = torch.randperm(10)
    moved = Regions(regions.features[:, order], regions.cells[order], regions.mask[:, order])
    memory, other = module.remember(regions), module.remember(moved)
    trail = module.begin(memory, 2)
    trail = trail._replace(alphas=torch.rand(3, 2, 10).double(), seen=torch.rand(3, 2, 10).double(), mode=trail.mode + EXPECT)
    one = module(queries, memory, trail)
    two = module(queries, other, trail._replace(alphas=trail.alphas[..., order], seen=trail.seen[..., order]))
    assert torch.allclose(one.alphas[..., order], two.alphas)
    assert torch.allclose(one.context, two.context)


def test_queries_are_answered_each_alone(module):
    regions, queries = case()
    both = look(module, regions, queries, past=False)
    single = look(module, regions, queries[:, 1:], past=False)
    assert torch.allclose(both.alphas[:, 1:], single.alphas)
    assert torch.allclose(both.context[:, 1:], single.context)


def test_the_gradient_is_that_of_finite_differences(module):
    regions, queries = case(masked=False)
    if type(module.readout).__name__ == "Peak":
        pytest.skip("the context of a peak is a step function of the query; its gradient is zero by definition")

    def context(features, queries):
        return look(module, regions._replace(features=features), queries).context

    assert torch.autograd.gradcheck(context, (regions.features.requires_grad_(), queries.requires_grad_()))


def test_an_image_without_a_region_is_refused():
    regions, _ = case()
    regions.mask[1] = False
    with pytest.raises(ValueError, match="no region"):
        bundle.build(attention()).double().remember(regions)


def test_additive_is_its_formula():
    torch.manual_seed(2)
    score = bundle.build(attention()).double().score
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 7).double()
    got = score(queries, score.keys(features))
    for i in range(2):
        for q in range(3):
            for r in range(5):
                inner = score.key.weight @ features[i, r] + score.key.bias + score.query.weight @ queries[i, q]
                assert torch.allclose(got[i, q, 0, r], (score.energy.weight[0] * torch.tanh(inner)).sum())


def test_coverage_draws_to_the_last_look_or_away_from_all():
    module = bundle.build(attention(locality="coverage")).double()
    regions, queries = case(masked=False)
    module.locality.weigh.weight.data.zero_()
    plain = bundle.build(attention()).double()
    plain.load_state_dict({k: v for k, v in module.state_dict().items() if not k.startswith("locality")})
    base = look(plain, regions, queries).alphas
    past = look_past(regions, queries)
    module.locality.weigh.bias.data.copy_(torch.tensor([5.0, 0.0]))
    assert (((look(module, regions, queries).alphas - base) * past).sum(-1) > 0).all()
    module.locality.weigh.bias.data.copy_(torch.tensor([0.0, -5.0]))
    assert (((look(module, regions, queries).alphas - base) * past).sum(-1) < 0).all()


def look_past(regions, queries):
    last = torch.rand(
        queries.shape[0], queries.shape[1], regions.cells.shape[0], dtype=queries.dtype, generator=torch.Generator().manual_seed(8)
    )
    return last / last.sum(-1, keepdim=True)


def test_hard_and_soft_agree_when_there_is_nothing_to_choose():
    regions, queries = case()
    regions.mask[:] = False
    regions.mask[:, 3] = True
    outputs = []
    for readout in ("expectation", "sample", "peak"):
        torch.manual_seed(4)
        outputs.append(look(bundle.build(attention(readout=readout)).double().train(), regions, queries, DRAW))
    for glimpse in outputs:
        assert torch.allclose(glimpse.context, regions.features[:, 3:4].expand(3, 2, 7))
        assert torch.allclose(glimpse.log_prob, torch.zeros(3, 2).double())


def test_many_draws_average_to_the_expectation():
    torch.manual_seed(5)
    hard = bundle.build(attention(readout="sample")).double().train()
    regions, _ = case()
    queries = torch.randn(3, 1, 6).double().expand(3, 20000, 6)
    drawn = look(hard, regions, queries, DRAW, past=False).context.mean(1)
    expected = look(hard, regions, queries[:, :1], EXPECT, past=False).context[:, 0]
    error = (drawn - expected).abs().max().item()
    assert error < 5 * regions.features.abs().max().item() / 20000**0.5


def test_every_query_follows_its_own_mode_and_rests_in_evaluation():
    torch.manual_seed(6)
    regions, queries = case()
    queries = queries[:, :1].expand(3, 3, 6)
    for at_rest, like in (("expect", EXPECT), ("peak", PEAK)):
        module = bundle.build(attention(readout="sample")).double()
        module.readout = type(module.readout)(at_rest)
        memory = module.remember(regions)
        trail = module.begin(memory, 3)._replace(mode=torch.tensor([[DRAW, EXPECT, PEAK]] * 3))
        resting = module.eval()(queries, memory, trail)
        index = [EXPECT, PEAK].index(like) + 1
        assert torch.allclose(resting.context[:, 0], resting.context[:, index])
        assert (resting.log_prob == 0).all() or at_rest == "draw"
        assert not torch.allclose(resting.context[:, 1], resting.context[:, 2])


@pytest.mark.parametrize(
    "bad",
    [
        ("distribution", "softmax", {"temperature": 0.0}),
        ("readout", "sample", {"at_rest": "dream"}),
        ("score", "additive", {"attention_size": 0}),
    ],
)
def test_a_bad_value_is_refused_by_name(bad):
    from kinds import part

    room, kind, change = bad
    with pytest.raises(ValueError, match=next(iter(change))):
        bundle.build(part(f"attention/{room}", kind, **change))
