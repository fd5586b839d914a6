import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds import kinds, part

from captioner.build import build

ROWS = st.lists(st.one_of(st.floats(-6, 6), st.sampled_from([0.0, 1.0, -math.inf])), min_size=1, max_size=9).filter(
    lambda row: max(row) > -math.inf
)


def distribution(kind, **changes):
    return build(part("attention/distribution", kind, **changes))


def bisected(row, alpha):
    """p_i = max((alpha - 1) z_i - tau, 0)^(1 / (alpha - 1)), tau by bisection: algorithm 1 of Peters et al. 2019, one number at a time."""

    def weights(tau):
        return [0.0 if z == -math.inf else max((alpha - 1) * z - tau, 0.0) ** (1 / (alpha - 1)) for z in row]

    low, high = (alpha - 1) * max(row) - 1, (alpha - 1) * max(row)
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(weights(middle)) >= 1 else (low, middle)
    return weights(low)


@pytest.mark.parametrize(("kind", "alpha"), [("sparsemax", 2.0), ("entmax15", 1.5)])
@settings(max_examples=150, deadline=None)
@given(row=ROWS)
def test_sparse_weights_are_those_of_bisection(kind, alpha, row):
    got = distribution(kind)(torch.tensor(row).double())
    assert torch.allclose(got, torch.tensor(bisected(row, alpha)).double(), atol=1e-7)


def test_sparse_weights_are_those_that_their_authors_print():
    scores = torch.tensor([-2.0, 0.0, 0.5])
    assert torch.allclose(distribution("sparsemax")(scores), torch.tensor([0.0, 0.25, 0.75]), atol=1e-4)
    assert torch.allclose(distribution("entmax15")(scores), torch.tensor([0.0, 0.3260, 0.6740]), atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_softmax_is_its_formula_at_every_temperature(temperature):
    row = [0.3, -1.0, 2.0, -math.inf]
    powers = [math.exp(score / temperature) for score in row]
    got = distribution("softmax", temperature=temperature)(torch.tensor(row).double())
    assert torch.allclose(got, torch.tensor(powers).double() / sum(powers))


@pytest.mark.parametrize("kind", kinds("attention/distribution"))
@settings(max_examples=60, deadline=None)
@given(row=ROWS)
def test_weights_are_a_distribution_and_zero_without_gradient_where_forbidden(kind, row):
    scores = torch.tensor(row).double().requires_grad_()
    alphas = distribution(kind)(scores)
    assert (alphas >= 0).all()
    assert alphas.sum().item() == pytest.approx(1)
    (alphas * torch.arange(len(row)).double()).sum().backward()
    forbidden = torch.tensor(row) == -torch.inf
    assert (alphas[forbidden] == 0).all()
    assert (scores.grad[forbidden] == 0).all()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("kind", kinds("attention/distribution"))
def test_a_higher_score_never_weighs_less_and_a_shift_changes_nothing(kind):
    torch.manual_seed(0)
    scores = torch.randn(50, 8).double().sort(-1).values
    alphas = distribution(kind)(scores)
    assert (alphas.diff(dim=-1) >= -1e-12).all()
    assert torch.allclose(distribution(kind)(scores + 1000), alphas)


@pytest.mark.parametrize("kind", kinds("attention/distribution"))
def test_the_gradient_and_its_own_gradient_are_those_of_finite_differences(kind):
    torch.manual_seed(1)
    scores = (2 * torch.randn(4, 6)).double().requires_grad_()
    assert torch.autograd.gradcheck(distribution(kind), scores)
    assert torch.autograd.gradgradcheck(distribution(kind), scores)


@pytest.mark.parametrize(("kind", "power"), [("sparsemax", 0.0), ("entmax15", 0.5)])
def test_the_jacobian_of_sparse_weights_is_that_of_their_papers(kind, power):
    """diag(s) - s s^T / sum(s) with s_i = alpha_i^power in the support: Martins & Astudillo 2016, sec. 2.5; Peters et al. 2019."""
    torch.manual_seed(2)
    scores = 2 * torch.randn(7).double()
    alphas = distribution(kind)(scores)
    s = torch.where(alphas > 0, alphas**power, 0.0)
    jacobian = torch.autograd.functional.jacobian(distribution(kind), scores)
    assert torch.allclose(jacobian, torch.diag(s) - s[:, None] * s / s.sum())
    assert 1 < (alphas > 0).sum() < 7


@pytest.mark.parametrize("kind", kinds("attention/distribution"))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_scores_of_few_bits_are_weighed_in_float32(kind, dtype):
    torch.manual_seed(3)
    scores = (300 * torch.randn(3, 2, 1, 200)).to(dtype)
    scores[..., :7] = -torch.inf
    alphas = distribution(kind)(scores)
    assert alphas.dtype == torch.float32
    assert torch.allclose(alphas.double(), distribution(kind)(scores.double()), atol=1e-5)
    flat = distribution(kind)(torch.zeros(2, 300, dtype=dtype))
    assert torch.allclose(flat, torch.full((2, 300), 1 / 300), atol=1e-6)


@pytest.mark.parametrize("kind", kinds("attention/distribution"))
def test_nothing_allowed_is_refused(kind):
    scores = torch.zeros(3, 2, 1, 5)
    scores[1, 1] = -torch.inf
    with pytest.raises(ValueError, match="nothing is allowed"):
        distribution(kind)(scores)


def test_a_temperature_not_positive_is_refused_by_name():
    with pytest.raises(ValueError, match="temperature"):
        distribution("softmax", temperature=0.0)
