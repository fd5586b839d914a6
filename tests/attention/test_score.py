import itertools

import pytest
import torch
from kinds import kinds, part

from captioner.attention import score as score_room
from captioner.attention.score import Additive
from captioner.build import build


def additive(score, query, region, units):
    """v . tanh(U a + W q + b) over the head's units."""
    inner = score.key.weight @ region + score.key.bias + score.query.weight @ query
    return sum(score.energy.weight[0, u] * torch.tanh(inner[u]) for u in units)


def dot(score, query, region, units):
    return sum(query[u] * region[u] for u in units)


def bilinear(score, query, region, units):
    """q^T W a with the rows of W that belong to the head."""
    return sum(query[u] * score.key.weight[u, f] * region[f] for u in units for f in range(len(region)))


def scaled_dot(score, query, region, units):
    projected, key = score.query.weight @ query + score.query.bias, score.key.weight @ region + score.key.bias
    return sum(projected[u] * key[u] for u in units) / len(units) ** 0.5


def cosine(score, query, region, units):
    projected, key = score.query.weight @ query, score.key.weight @ region
    lengths = sum(projected[u] ** 2 for u in units) ** 0.5 * sum(key[u] ** 2 for u in units) ** 0.5
    return score.log_scale.exp() * sum(projected[u] * key[u] for u in units) / lengths


FORMULAS = {"additive": additive, "concat": additive, "dot": dot, "bilinear": bilinear, "scaled_dot": scaled_dot, "cosine": cosine}


def small(kind, **changes):
    config = part("attention/score", kind)
    return build({**config, **({"attention_size": 6} if "attention_size" in config else {}), **changes}).double()


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("kind", kinds("attention/score"))
def test_each_score_is_its_formula_in_every_head(kind, heads):
    torch.manual_seed(2)
    score = small(kind, heads=heads)
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 6 if kind == "dot" else 7).double()
    got = score(queries, score.keys(features))
    assert got.shape == (2, 3, heads, 5)
    for i, q, n, r in itertools.product(range(2), range(3), range(heads), range(5)):
        units = range(n * 6 // heads, (n + 1) * 6 // heads)
        assert torch.allclose(got[i, q, n, r], FORMULAS[kind](score, queries[i, q], features[i, r], units))


def test_a_dot_learns_nothing():
    score = small("dot")
    assert not list(score.parameters())
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 6).double()
    assert torch.allclose(score(queries, score.keys(features))[:, :, 0], torch.einsum("iqk,irk->iqr", queries, features))


def test_a_dot_of_two_sizes_is_refused_and_bilinear_named():
    with pytest.raises(ValueError, match=r"features .*7 units.* hidden_size .*6 units.* attention/score=bilinear"):
        small("dot", features=7)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_the_additive_score_in_pieces_is_the_formula(heads, dtype, error, monkeypatch):
    monkeypatch.setattr(score_room, "UNITS_AT_ONCE", 2 * 3 * 5 * 6)  # two of the seven images at once
    torch.manual_seed(0)
    additive = Additive(features=4, hidden_size=2, attention_size=6, heads=heads).to(dtype)
    queries, features = torch.randn(7, 3, 2, dtype=dtype), torch.randn(7, 5, 4, dtype=dtype)
    layer = torch.tanh(additive.key(features)[:, None] + (queries @ additive.query.weight.T)[:, :, None]) * additive.energy.weight[0]
    formula = layer.unflatten(-1, (heads, -1)).sum(-1).movedim(-1, 2)
    scores = additive(queries, additive.keys(features))
    torch.testing.assert_close(scores, formula, atol=error, rtol=0)
    weights, parameters = torch.randn_like(scores), list(additive.parameters())
    for got, expected in zip(*(torch.autograd.grad((s * weights).sum(), parameters) for s in (scores, formula)), strict=True):
        torch.testing.assert_close(got, expected, atol=20 * error, rtol=0)


def test_a_cosine_forgets_lengths_and_can_still_choose():
    torch.manual_seed(0)
    score = small("cosine", scale=10.0)
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 7).double()
    one, other = score(queries, score.keys(features)), score(5 * queries, score.keys(0.1 * features))
    assert torch.allclose(one, other)
    assert one.abs().max() <= 10
    along = score.unit_vectors(score.query(queries[:, :1]))
    opposite = score(queries[:, :1], torch.cat([along, -along], 1))
    assert (opposite.softmax(-1)[..., 0] > 0.999).all()


BAD = [{"features": 0}, {"hidden_size": -1}, {"heads": 0}, {"heads": 4}, {"attention_size": 0}, {"scale": 0.0}]


@pytest.mark.parametrize(
    ("kind", "bad"), [(kind, bad) for kind in kinds("attention/score") for bad in BAD if bad.keys() <= part("attention/score", kind).keys()]
)
def test_a_bad_size_is_refused_by_name(kind, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        small(kind, **bad)
