import pytest
import torch
from kinds import kinds, part

from captioner.attention.readout import sample_regions
from captioner.build import build
from captioner.records import AttentionMode


def readout(kind, **changes):
    return build(part("attention/readout", kind, **changes))


def some_alphas(images=3, queries=2, heads=2, regions=7):
    """Some exactly zero."""
    torch.manual_seed(0)
    alphas = torch.rand(images, queries, heads, regions).double() - 0.4
    alphas[..., 3] = 0.5
    return alphas.clamp_min(0) / alphas.clamp_min(0).sum(-1, keepdim=True)


def modes(mode):
    return torch.full((3, 2), mode)


@pytest.mark.parametrize("kind", kinds("attention/readout"))
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", [AttentionMode.SAMPLE, AttentionMode.EXPECTATION, AttentionMode.ARGMAX])
def test_a_readout_weighs_only_what_has_weight_and_sums_to_one(kind, training, mode):
    alphas = some_alphas()
    weights, log_prob = readout(kind).train(training)(alphas, modes(mode))
    assert torch.allclose(weights.sum(-1), torch.ones(3, 2, 2).double())
    assert (weights >= 0).all()
    assert (weights[alphas == 0] == 0).all()
    assert (log_prob <= 0).all()


@pytest.mark.parametrize("kind", ["sample", "gumbel"])
def test_regions_are_drawn_as_often_as_their_alphas_say(kind):
    """Pearson's chi squared of 4000 draws for each head, below its 99.9 % point; a region of no weight is never drawn."""
    alphas = some_alphas(1, 1).expand(1, 4000, 2, 7)
    weights, _ = readout(kind).train()(alphas, torch.full((1, 4000), AttentionMode.SAMPLE))
    assert set(weights.unique().tolist()) == {0.0, 1.0}
    for head in range(2):
        p, counted = alphas[0, 0, head], weights[0, :, head].sum(0)
        assert (counted[p == 0] == 0).all()
        expected = 4000 * p[p > 0]
        assert ((counted[p > 0] - expected) ** 2 / expected).sum() < 22.5  # 6 degrees of freedom at most
    both = torch.einsum("qr,qs->rs", weights[0, :, 0], weights[0, :, 1]) / 4000
    assert torch.allclose(both, alphas[0, 0, 0][:, None] * alphas[0, 0, 1], atol=0.03)  # heads draw independently


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("share", "region"), [(0.0, 2), (0.4, 2), (0.6, 4), (1 - 2**-24, 4), (1.0, 4)])
def test_the_ends_of_the_uniform_number_draw_the_first_and_the_last_region_of_weight(monkeypatch, dtype, share, region):
    weights = torch.tensor([[0, 0, 0.5, 0, 0.5, 0], [0, 0, 0.1, 0, 0.1, 0]], dtype=dtype)
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, share))
    assert sample_regions(weights).tolist() == [[region], [region]]


@pytest.mark.parametrize("kind", ["sample", "gumbel"])
def test_the_seed_decides_the_draw(kind):
    alphas, module = some_alphas().expand(3, 2, 2, 7), readout(kind, eval_mode="sample").eval()
    drawn = []
    for seed in (1, 1, 2, 3, 4):
        torch.manual_seed(seed)
        drawn.append(module(alphas, modes(AttentionMode.SAMPLE))[0])
    assert torch.equal(drawn[0], drawn[1])
    assert any(not torch.equal(drawn[0], other) for other in drawn[2:])


def test_the_log_probability_of_a_draw_is_the_sum_over_heads():
    alphas = some_alphas().requires_grad_()
    weights, log_prob = readout("sample").train()(alphas, modes(AttentionMode.SAMPLE))
    assert torch.allclose(log_prob, (weights * alphas).sum(-1).log().sum(-1))
    gradient = torch.autograd.grad(log_prob.sum(), alphas)[0]
    assert torch.allclose(gradient, weights / alphas.clamp_min(1e-9))


@pytest.mark.parametrize("kind", ["sample", "gumbel"])
@pytest.mark.parametrize("training", [True, False])
def test_every_query_follows_its_own_mode_and_a_draw_rests_in_evaluation(kind, training):
    alphas = some_alphas(2, 1).expand(2, 3, 2, 7)
    peak = torch.nn.functional.one_hot(alphas.argmax(-1), 7).double()
    for eval_mode, rest in (("expectation", alphas), ("argmax", peak), ("sample", None)):
        torch.manual_seed(1)
        weights, log_prob = readout(kind, eval_mode=eval_mode).train(training)(
            alphas, torch.tensor([[AttentionMode.SAMPLE, AttentionMode.EXPECTATION, AttentionMode.ARGMAX]] * 2)
        )
        assert torch.equal(weights[:, 1], alphas[:, 1])
        assert torch.equal(weights[:, 2], peak[:, 2])
        draws = training or rest is None
        assert set(weights[:, 0].unique().tolist()) == {0.0, 1.0} if draws else torch.equal(weights[:, 0], rest[:, 0])
        assert (log_prob[:, 1:] == 0).all()
        assert (log_prob[:, 0] < 0).all() if draws and kind == "sample" else (log_prob[:, 0] == 0).all()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_gumbel_is_the_straight_through_estimator_of_torch(temperature):
    alphas = some_alphas().clamp_min(1e-3)
    alphas = (alphas / alphas.sum(-1, keepdim=True)).requires_grad_()
    value = torch.randn(7).double()
    found = []
    for way in ("ours", "torch's"):
        torch.manual_seed(5)
        if way == "ours":
            weights, _ = readout("gumbel", temperature=temperature).train()(alphas, modes(AttentionMode.SAMPLE))
        else:
            weights = torch.nn.functional.gumbel_softmax(alphas.log(), temperature, hard=True)
        found.append((weights, torch.autograd.grad((weights * value).sum(), alphas)[0]))
    assert torch.allclose(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1])
    assert found[0][1].any()


def test_gumbel_has_a_finite_gradient_where_alphas_are_exactly_zero():
    """And what lies there plays no part, however soft the choice."""
    alphas, gradients = some_alphas().requires_grad_(), []
    for elsewhere in (0.0, 1000.0):
        torch.manual_seed(2)
        weights, _ = readout("gumbel", temperature=50.0).train()(alphas, modes(AttentionMode.SAMPLE))
        values = torch.where(alphas == 0, elsewhere, torch.arange(7).double())
        gradients.append(torch.autograd.grad((weights * values).sum(), alphas)[0])
    assert gradients[0].isfinite().all()
    assert gradients[0].any()
    assert (gradients[0][alphas == 0] == 0).all()
    assert torch.equal(*gradients)


def test_top_k_is_the_expectation_over_the_highest():
    alphas = some_alphas()
    for k in (1, 2, 4):
        weights, _ = readout("top_k", k=k)(alphas, modes(AttentionMode.SAMPLE))
        for row, got in zip(alphas.view(-1, 7), weights.view(-1, 7), strict=True):
            kept = sorted(range(7), key=lambda r: -row[r])[:k]
            expected = torch.tensor([row[r] / sum(row[s] for s in kept) if r in kept else 0.0 for r in range(7)]).double()
            assert torch.allclose(got, expected)
    assert torch.equal(
        readout("top_k", k=1)(alphas, modes(AttentionMode.SAMPLE))[0], readout("peak")(alphas, modes(AttentionMode.SAMPLE))[0]
    )
    assert torch.allclose(
        readout("top_k", k=100)(alphas, modes(AttentionMode.SAMPLE))[0], readout("expectation")(alphas, modes(AttentionMode.SAMPLE))[0]
    )


@pytest.mark.parametrize(
    ("kind", "bad"),
    [("sample", {"eval_mode": "dream"}), ("gumbel", {"eval_mode": "dream"}), ("gumbel", {"temperature": 0.0}), ("top_k", {"k": 0})],
)
def test_a_bad_value_is_refused_by_name(kind, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        readout(kind, **bad)
