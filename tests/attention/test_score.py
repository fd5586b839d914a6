import itertools

import pytest
import torch
from kinds import kinds, part

from captioner.build import build


def additive(score, query, region, units):
    """v . tanh(U a + W q + b) over the head's units."""
    inner = score.key.weight @ region + score.key.bias + score.query.weight @ query
    return sum(score.energy.weight[0, u] * torch.tanh(inner[u]) for u in units)


def dot(score, query, region, units):
    region = region if len(region) == len(query) else score.key.weight @ region
    return sum(query[u] * region[u] for u in units)


def bilinear(score, query, region, units):
    """q^T W a with the rows of W that belong to the head."""
    return sum(query[u] * score.key.weight[u, f] * region[f] for u in units for f in range(len(region)))


def scaled_dot(score, query, region, units):
    asked, key = score.query.weight @ query + score.query.bias, score.key.weight @ region + score.key.bias
    return sum(asked[u] * key[u] for u in units) / len(units) ** 0.5


def cosine(score, query, region, units):
    asked, key = score.query.weight @ query, score.key.weight @ region
    lengths = sum(asked[u] ** 2 for u in units) ** 0.5 * sum(key[u] ** 2 for u in units) ** 0.5
    return score.log_scale.exp() * sum(asked[u] * key[u] for u in units) / lengths


FORMULAS = {"additive": additive, "concat": additive, "dot": dot, "bilinear": bilinear, "scaled_dot": scaled_dot, "cosine": cosine}


def small(kind, **changes):
    config = part("attention/score", kind)
    return build({**config, **({"attention_size": 6} if "attention_size" in config else {}), **changes}).double()


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("kind", kinds("attention/score"))
def test_each_score_is_its_formula_in_every_head(kind, heads):
    torch.manual_seed(2)
    score = small(kind, heads=heads)
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 7).double()
    got = score(queries, score.keys(features))
    assert got.shape == (2, 3, heads, 5)
    for i, q, n, r in itertools.product(range(2), range(3), range(heads), range(5)):
        units = range(n * 6 // heads, (n + 1) * 6 // heads)
        assert torch.allclose(got[i, q, n, r], FORMULAS[kind](score, queries[i, q], features[i, r], units))


def test_a_dot_of_equal_sizes_learns_nothing():
    score = small("dot", features=6)
    assert not list(score.parameters())
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 6).double()
    assert torch.allclose(score(queries, score.keys(features))[:, :, 0], torch.einsum("iqk,irk->iqr", queries, features))


def test_a_cosine_forgets_lengths_and_can_still_choose():
    torch.manual_seed(0)
    score = small("cosine", scale=10.0)
    queries, features = torch.randn(2, 3, 6).double(), torch.randn(2, 5, 7).double()
    one, other = score(queries, score.keys(features)), score(5 * queries, score.keys(0.1 * features))
    assert torch.allclose(one, other)
    assert one.abs().max() <= 10
    along = score.directions(score.query(queries[:, :1]))
    opposite = score(queries[:, :1], torch.cat([along, -along], 1))
    assert (opposite.softmax(-1)[..., 0] > 0.999).all()


BAD = [{"features": 0}, {"hidden_size": -1}, {"heads": 0}, {"heads": 4}, {"attention_size": 0}, {"scale": 0.0}]


@pytest.mark.parametrize(
    ("kind", "bad"), [(kind, bad) for kind in kinds("attention/score") for bad in BAD if bad.keys() <= part("attention/score", kind).keys()]
)
def test_a_bad_size_is_refused_by_name(kind, bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        small(kind, **bad)
